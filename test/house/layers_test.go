package house

func layerExamples() []example {
	return append(arrowExamples(), outsideExamples()...)
}

func arrowExamples() []example {
	importing := func(file, name string, dirs ...string) tree {
		imports := ""
		for _, dir := range dirs {
			imports += ours(dir) + "\n"
		}
		return tree{file: goSource(name, imports, "")}
	}
	return []example{
		{
			name:  "a leaf imports no other package",
			check: arrows,
			tree:  importing("pkg/verdict/a.go", "verdict", "pkg/wellknown"),
			want:  []string{"pkg/verdict/a.go:2: pkg/verdict (leaf) imports pkg/wellknown (leaf): arrows point down only"},
		}, {
			name:  "a rule imports no edge and no controller",
			check: arrows,
			tree:  importing("pkg/source/a.go", "source", "pkg/verdict", "pkg/csidriver", "pkg/intake"),
			want: []string{
				"pkg/source/a.go:3: pkg/source (rule) imports pkg/csidriver (edge): arrows point down only",
				"pkg/source/a.go:4: pkg/source (rule) imports pkg/intake (controller): arrows point down only",
			},
		}, {
			name:  "the rule source does not import the rule request",
			check: arrows,
			tree:  importing("pkg/source/a.go", "source", "pkg/request"),
			want:  []string{"pkg/source/a.go:2: pkg/source (rule) imports pkg/request (rule): arrows point down only"},
		}, {
			name:  "an edge imports no rule",
			check: arrows,
			tree:  importing("pkg/csidriver/a.go", "csidriver", "pkg/source"),
			want:  []string{"pkg/csidriver/a.go:2: pkg/csidriver (edge) imports pkg/source (rule): arrows point down only"},
		}, {
			name:  "a controller imports no other controller",
			check: arrows,
			tree:  importing("pkg/intake/a.go", "intake", "pkg/protection"),
			want:  []string{"pkg/intake/a.go:2: pkg/intake imports pkg/protection: controllers do not import one another; declare a small interface and let app fit them together"},
		}, {
			name:  "nobody below imports app",
			check: arrows,
			tree:  importing("pkg/intake/sub/a.go", "sub", "pkg/app"),
			want:  []string{"pkg/intake/sub/a.go:2: pkg/intake/sub (controller) imports pkg/app (wiring): arrows point down only"},
		}, {
			name:  "options imports leaves only",
			check: arrows,
			tree:  importing("pkg/options/a.go", "options", "pkg/verdict", "pkg/observe"),
			want:  []string{"pkg/options/a.go:3: pkg/options imports pkg/observe: options imports leaves only"},
		}, {
			name:  "main imports app and options only",
			check: arrows,
			tree:  importing("cmd/x/main.go", "main", "pkg/app", "pkg/options", "pkg/intake"),
			want:  []string{"cmd/x/main.go:4: cmd/x imports pkg/intake: main knows app and options only"},
		}, {
			name:  "what ships uses no test kit",
			check: arrows,
			tree:  importing("pkg/app/a.go", "app", "test/kit/faults"),
			want:  []string{"pkg/app/a.go:2: pkg/app imports test/kit/faults: what ships uses nothing outside pkg/"},
		}, {
			name:  "downward arrows are free",
			check: arrows,
			tree: tree{
				"pkg/app/a.go":         goSource("app", ours("pkg/options")+"\n"+ours("pkg/intake")+"\n"+ours("pkg/ledger"), ""),
				"pkg/intake/a.go":      goSource("intake", ours("pkg/source")+"\n"+ours("pkg/observe")+"\n"+ours("pkg/intake/sub"), ""),
				"pkg/request/a.go":     goSource("request", ours("pkg/source")+"\n"+ours("pkg/topology")+"\n"+ours("pkg/secret"), ""),
				"pkg/observe/a.go":     goSource("observe", ours("pkg/verdict"), ""),
				"pkg/intake/a_test.go": goSource("intake_test", ours("pkg/protection")+"\n"+ours("test/kit/faults"), ""),
				"test/kit/a.go":        goSource("kit", ours("pkg/app"), ""),
			},
		}, {
			name:  "a new package needs a place in the table and a subject",
			check: packageTable,
			tree: tree{
				"pkg/novelty/a.go":           "package novelty",
				"pkg/novelty/b_test.go":      "package novelty_test",
				"pkg/observe/helpers/a.go":   "package helpers",
				"pkg/observe/event_log/a.go": "package eventlog",
			},
			want: []string{
				"pkg/novelty: not in the table of test/house/layers.go; decide which floor it lives on",
				"pkg/observe/event_log: a package is named for its subject, in one word",
				"pkg/observe/helpers: a package is named for its subject, in one word",
			},
		}, {
			name:  "a package of the table is known",
			check: packageTable,
			tree:  tree{"pkg/observe/a.go": "package observe", "pkg/observe/page/a.go": "package page"},
		}, {
			name:  "a page speaks of a package that is gone",
			check: documentedPackages,
			tree: tree{
				"README.md":        "# Title\n\nSee `pkg/intake`.\n",
				"docs/develop.md":  "- pkg/oldname decides\n",
				"pkg/intake/a.go":  "package intake",
				"docs/other.txt":   "pkg/unread",
				"docs/imports.md":  "import k8s.io/apimachinery/pkg/types",
				"CHANGELOG.md":     "- pkg/oldname is gone",
				"docs/examples.md": "(./pkg/intake/a.go)",
			},
			want: []string{"docs/develop.md:1: there is no package pkg/oldname"},
		}, {
			name:  "pages speak of packages that exist",
			check: documentedPackages,
			tree:  tree{"README.md": "`pkg/intake` and\npkg/observe", "pkg/intake/a.go": "package intake", "pkg/observe/a.go": "package observe"},
		},
	}
}

func outsideExamples() []example {
	return []example{
		{
			name:  "only app and informers know the informers",
			check: outsideImports,
			tree: tree{
				"pkg/app/a.go":       goSource("app", `_ "k8s.io/client-go/informers"`, ""),
				"pkg/informers/a.go": goSource("informers", `_ "k8s.io/client-go/informers/core/v1"`, ""),
				"pkg/intake/a.go":    goSource("intake", `_ "k8s.io/client-go/informers/core/v1"`+"\n"+`_ "k8s.io/client-go/kubernetes"`, ""),
			},
			want: []string{"pkg/intake/a.go:2: pkg/intake imports k8s.io/client-go/informers/core/v1: only app and informers know client-go's informers"},
		}, {
			name:  "a rule holds no client, no engine, no logger, no clock",
			check: outsideImports,
			tree: tree{"pkg/volume/a.go": goSource("volume", `_ "k8s.io/client-go/tools/cache"`+"\n"+
				`_ "sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"`+"\n"+
				`_ "k8s.io/klog/v2"`+"\n"+`_ "k8s.io/utils/clock"`+"\n"+`_ "log/slog"`, "")},
			want: []string{
				"pkg/volume/a.go:2: pkg/volume imports k8s.io/client-go/tools/cache: rules and leaves hold no client, cache or engine: values in, values out",
				"pkg/volume/a.go:3: pkg/volume imports sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller: rules and leaves hold no client, cache or engine: values in, values out",
				"pkg/volume/a.go:4: pkg/volume imports k8s.io/klog/v2: rules have no logger and no clock; the controller that asks has them",
				"pkg/volume/a.go:5: pkg/volume imports k8s.io/utils/clock: rules have no logger and no clock; the controller that asks has them",
				"pkg/volume/a.go:6: pkg/volume imports log/slog: rules have no logger and no clock; the controller that asks has them",
			},
		}, {
			name:  "only options reads flags",
			check: outsideImports,
			tree: tree{
				"pkg/options/a.go":  goSource("options", `_ "github.com/spf13/pflag"`, ""),
				"pkg/app/a.go":      goSource("app", `_ "flag"`, ""),
				"pkg/app/a_test.go": goSource("app", `_ "flag"`, ""),
				"cmd/x/main.go":     goSource("main", `_ "github.com/spf13/pflag"`, ""),
			},
			want: []string{
				"pkg/app/a.go:2: pkg/app imports flag: only options reads flags",
			},
		}, {
			name:  "what ships holds no test code",
			check: outsideImports,
			tree:  tree{"pkg/observe/fake.go": goSource("observe", `_ "testing"`, "")},
			want:  []string{"pkg/observe/fake.go:2: pkg/observe imports testing: what ships does not contain test code; it belongs in test/kit"},
		}, {
			name:  "API types are free, and the ledger has a clock",
			check: outsideImports,
			tree: tree{
				"pkg/source/a.go": goSource("source", `_ "k8s.io/api/core/v1"`+"\n"+`_ "k8s.io/apimachinery/pkg/types"`, ""),
				"pkg/ledger/a.go": goSource("ledger", `_ "k8s.io/utils/clock"`, ""),
			},
		}, {
			name:  "a rule does not look at the clock under any name",
			check: rulesKeepNoTime,
			tree: tree{
				"pkg/source/a.go":   goSource("source", `t "time"`, "func f() any { return t.Now() }"),
				"pkg/waitlist/a.go": goSource("waitlist", `"time"`, "var f = time.After"),
				"pkg/intake/a.go":   goSource("intake", `"time"`, "var f = time.After"),
			},
			want: []string{
				"pkg/source/a.go:3: pkg/source uses time.Now: take the time as an argument",
				"pkg/waitlist/a.go:3: pkg/waitlist uses time.After: take the time as an argument",
			},
		}, {
			name:  "a rule may speak of time, and its test may look",
			check: rulesKeepNoTime,
			tree: tree{
				"pkg/source/a.go":      goSource("source", `"time"`, "func f(now time.Time) time.Duration { return time.Second }"),
				"pkg/source/a_test.go": goSource("source", `"time"`, "var f = time.Now"),
				"pkg/volume/a.go":      goSource("volume", `"time"`, "type local struct{ Now int }\nfunc f(time local) int { return time.Now }"),
			},
		},
	}
}
