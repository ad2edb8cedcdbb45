package house

import "strings"

func textExamples() []example {
	return append(fileExamples(), permissionExamples()...)
}

func fileExamples() []example {
	long := func(name string, lines int) string { return "package " + name + strings.Repeat("\n", lines) }
	return []example{
		{
			name:  "a file has outgrown its subject",
			check: fileLength,
			tree:  tree{"pkg/app/a.go": long("app", 401)},
			want:  []string{"pkg/app/a.go: 401 lines, more than 400: which two subjects live here?"},
		}, {
			name:  "a file of 400 lines and a longer test are short enough",
			check: fileLength,
			tree:  tree{"pkg/app/a.go": long("app", 400), "pkg/app/a_test.go": long("app", 500), "hack/x/a.go": long("x", 500)},
		}, {
			name:  "go.mod requires Kubernetes itself",
			check: requirements,
			tree:  tree{"go.mod": "module m\n\nrequire k8s.io/api v0.1.0\n\nrequire (\n\tk8s.io/kubernetes v1.37.2\n\tsigs.k8s.io/controller-runtime v0.20.0 // indirect\n)\n"},
			want: []string{
				"go.mod: requires k8s.io/kubernetes: that belongs in a nested module under hack/",
				"go.mod: requires sigs.k8s.io/controller-runtime: that belongs in a nested module under hack/",
			},
		}, {
			name:  "a go.mod that cannot be read proves nothing",
			check: requirements,
			tree:  tree{"go.mod": "module m\n"},
			want:  []string{"go.mod: no requirement found"},
		}, {
			name:  "go.mod requires what ships, nested modules what they like",
			check: requirements,
			tree:  tree{"go.mod": "module m\n\nrequire (\n\tk8s.io/client-go v0.37.2\n\tk8s.io/kubernetes-like v1.0.0\n)\n", "hack/x/go.mod": "require k8s.io/kubernetes v1.37.2\n"},
		}, {
			name:  "pages are missing or empty",
			check: pages,
			tree:  tree{"LICENSE": "x", "README.md": "\n"},
			want:  []string{"CHANGELOG.md: missing", "README.md: missing"},
		}, {
			name:  "all pages are there",
			check: pages,
			tree:  tree{"LICENSE": "x", "README.md": "x", "CHANGELOG.md": "x"},
		}, {
			name:  "a make target without help",
			check: makeHelp,
			tree:  tree{"Makefile": "build: ## compile\n\tgo build\n\ntest:\n\tgo test\n\nlint vet: build\n"},
			want: []string{
				"Makefile:4: target test has no ## comment for make help",
				"Makefile:7: target lint vet has no ## comment for make help",
			},
		}, {
			name:  "no Makefile",
			check: makeHelp,
			tree:  tree{},
			want:  []string{"Makefile: missing"},
		}, {
			name:  "help on the line or above it, variables, files and patterns",
			check: makeHelp,
			tree:  tree{"Makefile": "SHELL := /bin/bash\nA = b:c\nB ?= x\n.PHONY: build\nbuild: bin/x ## compile\n## runs the tests\ntest: build\nbin/x: go.mod\n\tgo build\n%.out: %.in\nC ::= d\n"},
		},
	}
}

func permissionExamples() []example {
	return []example{
		{
			name:  "a permission that nobody explains",
			check: permissionReasons,
			tree:  tree{"deploy/kubernetes/rbac.yaml": "rules:\n  # Binding.\n  - apiGroups: [\"\"]\n    resources: [pods]\n  - apiGroups: [apps]\n"},
			want:  []string{"deploy/kubernetes/rbac.yaml:5: no comment above this rule says what needs it"},
		}, {
			name:  "every permission is explained",
			check: permissionReasons,
			tree:  tree{"deploy/a/b.yaml": "rules:\n  # Binding.\n  - apiGroups: [\"\"]\n", "deploy/notes.txt": "- apiGroups:"},
		},
	}
}
