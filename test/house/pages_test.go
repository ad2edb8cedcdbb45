package house

import "slices"

func pageExamples() []example {
	return slices.Concat(namedExamples(), namedReasonExamples(), quotedMessageExamples())
}

func namedExamples() []example {
	const flags = "| Flag | Default |\n|---|---|\n| `--timeout` | `10s` |\n| `--v` | `0` |\n"
	return []example{
		{
			name:  "a proof that nobody runs",
			check: testsNamed,
			tree: tree{
				"docs/compatibility.md": "| rule | test |\n|---|---|\n| 1 | TestRule1, `TestRule2/with a case` |\n| 3 | TestHelper TestOld |\n",
				"docs/reliability.md":   "A crash: TestRule1, TestCrash.",
				"pkg/a/a_test.go":       goSource("a", `"testing"`, "func TestRule1(*testing.T) {}\nfunc (x) TestOld(*testing.T) {}"),
				"pkg/a/a.go":            goSource("a", `_ "context"`, "func TestHelper() {}"),
			},
			want: []string{
				"docs/compatibility.md:3: there is no test TestRule2",
				"docs/compatibility.md:4: there is no test TestHelper",
				"docs/compatibility.md:4: there is no test TestOld",
				"docs/reliability.md:1: there is no test TestCrash",
			},
		}, {
			name:  "a page without tests proves nothing",
			check: testsNamed,
			tree:  tree{"docs/compatibility.md": "Tests of all kinds."},
			want: []string{
				"docs/compatibility.md: names no test: it would prove nothing",
				"docs/reliability.md: names no test: it would prove nothing",
			},
		}, {
			name:  "every proof exists",
			check: testsNamed,
			tree: tree{
				"docs/compatibility.md": "Tested by TestRule1 and `TestFar`.",
				"docs/reliability.md":   "Tested by TestFar.",
				"docs/development.md":   "go test -run TestSome",
				"pkg/a/a_test.go":       goSource("a_test", `"testing"`, "func TestRule1(*testing.T) {}"),
				"test/x/x_test.go":      goSource("x", `"testing"`, "func TestFar(*testing.T) {}"),
			},
		}, {
			name:  "flags that nobody knows",
			check: flagsNamed,
			tree: tree{
				"docs/flags.md": flags,
				"README.md":     "Start with `--timout=5s` or\n--verbose.",
				"docs/a.md":     "```\nkubectl get pods --everywhere -n x\n```\n(--no-such-flag)\n",
				"CHANGELOG.md":  "`--old` is gone.",
			},
			want: []string{
				"README.md:1: there is no flag --timout; if it is one of another program, enter it in test/house/pages.go",
				"README.md:2: there is no flag --verbose; if it is one of another program, enter it in test/house/pages.go",
				"docs/a.md:2: there is no flag --everywhere; if it is one of another program, enter it in test/house/pages.go",
				"docs/a.md:4: there is no flag --no-such-flag; if it is one of another program, enter it in test/house/pages.go",
			},
		}, {
			name:  "no page of flags",
			check: flagsNamed,
			tree:  tree{"README.md": "`--timeout`"},
			want:  []string{"docs/flags.md: no flag found: run make generate"},
		}, {
			name:  "flags of ours and of others, and dashes",
			check: flagsNamed,
			tree: tree{
				"docs/flags.md": flags,
				"README.md":     "<!-- a comment -->\n|---|---|\n`--timeout=1m --v=4` a -- b, x--y\n",
				"docs/a.md":     "kubectl wait --for=delete pod\n---\n",
			},
		},
	}
}

func quotedMessageExamples() []example {
	code := reasonsFile(smallEntry+"\n"+busyEntry) + "\nvar formats = []string{\"clone needs at least %s, not %s\", \"clone waits until \" + \"%q is free, 50%% are\", \"%s: %w\"}\n"
	return []example{
		{
			name:  "pages quote messages that nobody tells",
			check: messagesQuoted,
			tree: tree{
				"pkg/verdict/a.go": code,
				"README.md":        "Text.\n\nCloneTooSmall  clone needs at least 5Gi; raise the size\n",
				"docs/a.md":        "Warning  CloneTooSmall  clone needs at least 5Gi,\n                        nothing else\n",
			},
			want: []string{
				"README.md:3: no event has this message: clone needs at least 5Gi; raise the size",
				"docs/a.md:1: no event has this message: clone needs at least 5Gi, nothing else",
			},
		}, {
			name:  "pages quote messages that are told, and events of others",
			check: messagesQuoted,
			tree: tree{
				"pkg/verdict/a.go": code,
				"docs/a.md": "Warning  CloneTooSmall  clone needs at least 5Gi,\n                        not 1Gi\nNormal  CloneSourceBusy   clone waits until \"db\" is free, 50% are\n" +
					"Normal   Scheduled   a pod is on its way\nCloneTooSmall is told once.\n| CloneTooSmall  | a table |\n",
			},
		},
	}
}

func namedReasonExamples() []example {
	words := reasonsFile(smallEntry + "\n" + busyEntry)
	return []example{
		{
			name:  "pages name reasons that do not exist",
			check: reasonsNamed,
			tree: tree{
				"pkg/verdict/a.go": words,
				"README.md":        "An event.\n\nSee `CloneSourceBussy` and `CloneTooSmall`.",
				"docs/a.md":        "`VolumeNameGone`, `CleanUpBlocked`",
				"CHANGELOG.md":     "`CloneOldName` is gone.",
			},
			want: []string{
				"README.md:3: there is no reason CloneSourceBussy",
				"docs/a.md:1: there is no reason VolumeNameGone",
				"docs/a.md:1: there is no reason CleanUpBlocked",
			},
		}, {
			name:  "pages name reasons, and words of Kubernetes",
			check: reasonsNamed,
			tree: tree{
				"pkg/verdict/a.go": words,
				"docs/a.md":        "`CloneTooSmall`, `Clone…`, `VolumeSnapshot`, `StorageClass`, `CLONE_VOLUME`, `spec.volumeName`, CloneInText",
			},
		},
	}
}
