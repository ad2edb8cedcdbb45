package house

func codeExamples() []example {
	return append(behaviourExamples(), append(commentExamples(), variableExamples()...)...)
}

func behaviourExamples() []example {
	return []example{
		{
			name:  "a package, a test and a helper end the process",
			check: exitOnlyInMain,
			tree: tree{
				"pkg/app/a.go":      goSource("app", `"os"`, "func f() { os.Exit(1) }"),
				"pkg/app/b.go":      goSource("app", `"k8s.io/klog/v2"`, "func g() { klog.ErrorS(nil, \"\")\nklog.FatalS(nil, \"\") }"),
				"pkg/app/a_test.go": goSource("app", `sys "os"`, "func h() { sys.Exit(1) }"),
				"test/run/main.go":  goSource("main", `"log"`, "func main() { log.Fatalf(\"\") }"),
				"hack/x/lib/lib.go": goSource("lib", `"os"`, "var end = os.Exit"),
			},
			want: []string{
				"hack/x/lib/lib.go:3: os.Exit ends the process: return an error, main decides",
				"pkg/app/a.go:3: os.Exit ends the process: return an error, main decides",
				"pkg/app/a_test.go:3: sys.Exit ends the process: return an error, main decides",
				"pkg/app/b.go:4: klog.FatalS ends the process: return an error, main decides",
				"test/run/main.go:3: log.Fatalf ends the process: return an error, main decides",
			},
		}, {
			name:  "a main package ends the process, and others have an Exit of their own",
			check: exitOnlyInMain,
			tree: tree{
				"cmd/x/main.go":    goSource("main", `"os"`, "func main() { os.Exit(1) }"),
				"hack/x/main.go":   goSource("main", `"log"`, "func main() { log.Fatal() }"),
				"test/kit/main.go": goSource("kit", `"os"`, "func Main() { os.Exit(1) }"),
				"pkg/app/a.go":     goSource("app", `"os"`, "type door struct{}\nfunc (door) Exit(int) {}\nfunc f(os door) { os.Exit(1) }\nvar _ = os.Open"),
			},
		}, {
			name:  "the environment is read by others than options",
			check: environmentOnlyInOptions,
			tree: tree{
				"pkg/app/b.go":     goSource("app", `"os"`, "var look = os.LookupEnv"),
				"pkg/app/a.go":     goSource("app", `"os"`, "func f() string { return os.Getenv(\"NODE_NAME\") }"),
				"cmd/x/main.go":    goSource("main", `"os"`, "func main() { os.LookupEnv(\"X\") }"),
				"pkg/options/a.go": goSource("options", `"os"`, "func f() string { return os.Getenv(\"NODE_NAME\") }"),
			},
			want: []string{
				"cmd/x/main.go:3: os.LookupEnv: only options reads the environment; pass the value on",
				"pkg/app/a.go:3: os.Getenv: only options reads the environment; pass the value on",
				"pkg/app/b.go:3: os.LookupEnv: only options reads the environment; pass the value on",
			},
		}, {
			name:  "tests and tools may read the environment, and main may pass it on",
			check: environmentOnlyInOptions,
			tree: tree{
				"cmd/x/main.go":     goSource("main", `"os"`, "func main() { parse(os.LookupEnv) }"),
				"pkg/app/a_test.go": goSource("app", `"os"`, "var x = os.Getenv(\"X\")"),
				"test/kit/a.go":     goSource("kit", `"os"`, "var x = os.Getenv(\"X\")"),
			},
		}, {
			name:  "a package does something on linking",
			check: noInit,
			tree:  tree{"pkg/app/a.go": "package app\nfunc init() {}", "cmd/x/main.go": "package main\nfunc init() {}"},
			want: []string{
				"cmd/x/main.go:2: init function: let app call a function with a name",
				"pkg/app/a.go:2: init function: let app call a function with a name",
			},
		}, {
			name:  "a method called init is no init function",
			check: noInit,
			tree:  tree{"pkg/app/a.go": "package app\ntype t struct{}\nfunc (t) init() {}"},
		}, {
			name:  "a comment puts work off",
			check: nothingPutOff,
			tree:  tree{"hack/x/a.go": "package x\n\n// f is TODO.\nfunc f() {} // FIXME later\n"},
			want: []string{
				"hack/x/a.go:3: comment says TODO: do it, or open an issue",
				"hack/x/a.go:4: comment says FIXME: do it, or open an issue",
			},
		}, {
			name:  "the word in code and in another word is none of that",
			check: nothingPutOff,
			tree:  tree{"pkg/app/a.go": goSource("app", `"context"`, "// f handles TODOs.\nfunc f() any { return context.TODO() }\nconst s = \"TODO\"")},
		},
	}
}

func commentExamples() []example {
	return []example{
		{
			name:  "packages without a comment, or with one about something else",
			check: packageDocs,
			tree: tree{
				"pkg/intake/a.go":      "// Copyright\n\npackage intake",
				"pkg/source/a.go":      "// Package sources judges.\npackage source",
				"cmd/x/main.go":        "//go:build linux\n\npackage main",
				"test/flow/a_test.go":  "package flow_test",
				"hack/tool/lib/lib.go": "package lib",
			},
			want: []string{
				"cmd/x: no comment on the package line that says what the program does",
				`hack/tool/lib: no comment on the package line that begins with "Package lib"`,
				`pkg/intake: no comment on the package line that begins with "Package intake"`,
				`pkg/source: no comment on the package line that begins with "Package source"`,
				`test/flow: no comment on the package line that begins with "Package flow"`,
			},
		}, {
			name:  "one comment for a package and its tests will do",
			check: packageDocs,
			tree: tree{
				"pkg/intake/doc.go":      "// Package intake admits.\npackage intake",
				"pkg/intake/a.go":        "package intake",
				"pkg/intake/a_test.go":   "package intake_test",
				"cmd/x/main.go":          "// Command x runs.\npackage main",
				"test/flow/doc_test.go":  "// Package flow tests.\npackage flow",
				"pkg/intake/testdata/.x": "",
			},
		}, {
			name:  "exported names without a comment",
			check: exportedComments,
			tree: tree{"pkg/app/a.go": `package app

func Run() {}

type Options struct{}

func (o *Options) Validate() error { return nil }

type Set[K any] struct{}

func (s Set[K]) Add() {}

const Prefix = "x"

const (
	First = iota
	second
)

var Shared, private int
`},
			want: []string{
				"pkg/app/a.go:3: Run has no comment",
				"pkg/app/a.go:5: Options has no comment",
				"pkg/app/a.go:7: Validate has no comment",
				"pkg/app/a.go:9: Set has no comment",
				"pkg/app/a.go:11: Add has no comment",
				"pkg/app/a.go:13: Prefix has no comment",
				"pkg/app/a.go:16: First has no comment",
				"pkg/app/a.go:20: Shared has no comment",
			},
		}, {
			name:  "a comment that speaks of something else first",
			check: exportedComments,
			tree:  tree{"pkg/app/a.go": "package app\n\n// Runner starts.\nfunc Run() {}\n\n// The Set: is one.\ntype Set int\n\n// Some words.\nconst (\n\t// Not one.\n\tOne = 1\n)\n"},
			want: []string{
				"pkg/app/a.go:4: the comment of Run does not begin with its name",
				"pkg/app/a.go:12: the comment of One does not begin with its name",
			},
		}, {
			name:  "a directive is no comment",
			check: exportedComments,
			tree:  tree{"pkg/app/a.go": "package app\n\n//go:noinline\nfunc Run() {}\n"},
			want:  []string{"pkg/app/a.go:4: Run has no comment"},
		}, {
			name:  "commented names, names nobody sees, and tests",
			check: exportedComments,
			tree: tree{
				"pkg/app/a.go": `package app

// Run runs.
func Run() {}

type decorator struct{}

func (decorator) Create() {}

// Modes of work.
const (
	Fast = iota
	Slow
)

const (
	Near = 1 // Near by.
	// Far: away.
	Far = 2
)
`,
				"pkg/app/a_test.go": "package app\nfunc TestRun() {}",
				"test/kit/a.go":     "package kit\nfunc Start() {}",
			},
		},
	}
}

func variableExamples() []example {
	const advice = ": only errors.New, compiled patterns, tables of constants and _ assertions; make it a constant, a function or a field"
	return []example{
		{
			name:  "variables that a constant, a function or a field should be",
			check: variables,
			tree: tree{"pkg/app/a.go": goSource("app", `"sync"`+"\n"+`"github.com/prometheus/client_golang/prometheus"`, `
var lock sync.Mutex
var level = 5
var shared = &sync.Mutex{}
var made = make(map[string]int)
var calls = prometheus.NewCounter(prometheus.CounterOpts{Name: "x"})
var opts = prometheus.CounterOpts{Name: "x"}
var hook = func() {}
`)},
			want: []string{
				"pkg/app/a.go:5: package variable lock" + advice,
				"pkg/app/a.go:6: package variable level" + advice,
				"pkg/app/a.go:7: package variable shared" + advice,
				"pkg/app/a.go:8: package variable made" + advice,
				"pkg/app/a.go:9: package variable calls" + advice,
				"pkg/app/a.go:10: package variable opts" + advice,
				"pkg/app/a.go:11: package variable hook" + advice,
			},
		}, {
			name:  "a table that is changed, in another file and by a test",
			check: variables,
			tree: tree{
				"pkg/app/a.go":      "package app\nvar table = map[string]int{\"a\": 1}\nvar list = []int{1}\n",
				"pkg/app/b.go":      "package app\nfunc f() {\n\ttable[\"b\"] = 2\n\tdelete(table, \"a\")\n\tlist[0]++\n}\n",
				"pkg/app/a_test.go": "package app\nfunc g() { list = nil }\n",
			},
			want: []string{
				"pkg/app/a_test.go:2: package variable list is changed: make it a field",
				"pkg/app/b.go:3: package variable table is changed: make it a field",
				"pkg/app/b.go:4: package variable table is changed: make it a field",
				"pkg/app/b.go:5: package variable list is changed: make it a field",
			},
		}, {
			name:  "fixed values, and locals of the same name",
			check: variables,
			tree: tree{"pkg/app/a.go": goSource("app", `"errors"`+"\n"+`"io"`+"\n"+`"regexp"`+"\n"+`"k8s.io/api/core/v1"`+"\n"+`"k8s.io/apimachinery/pkg/util/sets"`, `
var ErrGone = errors.New("gone")
var _ io.Closer = (*server)(nil)
var pattern = regexp.MustCompile("x+")
var table = map[string][]float64{"a": {.1, -1, 2 * 3}}
var resource = v1.SchemeGroupVersion.WithResource("pods")
var known = sets.New[string]("a", "b")
var steps = []struct{ name string; do func() }{{"one", func() {}}}
//go:embed x.yaml
var text string
type server struct{ table int }
func f(s server) {
	table := map[string]int{}
	table["a"] = 1
	s.table = 2
}
`), "test/kit/a.go": "package kit\nvar port = 1\n"},
		},
	}
}
