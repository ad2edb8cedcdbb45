package house

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
)

// kind is the floor that a package lives on. Arrows point down.
type kind string

const (
	wiring     kind = "wiring"
	controller kind = "controller"
	planning   kind = "planning"
	rule       kind = "rule"
	edge       kind = "edge"
	leaf       kind = "leaf"
)

// layers is the table of the packages under pkg/, planned ones included. A new
// package is entered here when it is added, with the decision what it is.
var layers = map[string]kind{
	"app":     wiring,
	"options": wiring,

	"intake":     controller,
	"provision":  controller,
	"protection": controller,
	"places":     controller,
	"capacity":   controller,
	"nodelocal":  controller,

	"planner": planning,

	"source":   rule,
	"request":  rule,
	"volume":   rule,
	"record":   rule,
	"secret":   rule,
	"topology": rule,

	"migration": rule,

	"claimwriter": edge,
	"csidriver":   edge,
	"inuse":       edge,
	"informers":   edge,
	"journal":     edge,
	"observe":     edge,

	"verdict":   leaf,
	"waitlist":  leaf,
	"ledger":    leaf,
	"wellknown": leaf,
}

// neighbours are the arrows within a floor.
var neighbours = map[string][]string{
	"record":  {"topology"},
	"request": {"source", "topology", "secret"},
	"volume":  {"source", "topology", "secret"},
}

// below says which floors a floor may use. What app may use is not limited.
var below = map[kind][]kind{
	controller: {planning, rule, edge, leaf},
	planning:   {rule, edge, leaf},
	rule:       {leaf},
	edge:       {leaf},
	leaf:       nil,
}

// homeOf returns the package under pkg/ that a path belongs to, "" for none.
func homeOf(dir string) string {
	rest, ok := strings.CutPrefix(dir, "pkg/")
	if !ok {
		return ""
	}
	home, _, _ := strings.Cut(rest, "/")
	return home
}

// arrows checks the imports between our own packages.
func arrows(repo *repository) []string {
	var broken []string
	for _, p := range repo.packages {
		if !under(p.dir+"/", "pkg", "cmd") {
			continue
		}
		for _, i := range p.imports(false) {
			target, ours := strings.CutPrefix(i.path, modulePath+"/")
			if !ours {
				continue
			}
			if why := arrow(p.dir, target); why != "" {
				broken = append(broken, fmt.Sprintf("%s: %s", repo.pos(i.node), why))
			}
		}
	}
	return sorted(broken)
}

// arrow says why one folder may not import another, "" if it may.
func arrow(from, to string) string {
	if !under(to+"/", "pkg") {
		return fmt.Sprintf("%s imports %s: what ships uses nothing outside pkg/", from, to)
	}
	target := homeOf(to)
	if under(from+"/", "cmd") {
		if target == "app" || target == "options" {
			return ""
		}
		return fmt.Sprintf("%s imports %s: main knows app and options only", from, to)
	}
	home := homeOf(from)
	switch {
	case home == target:
		return "" // A package below our own.
	case home == "app":
		return ""
	case home == "options":
		if layers[target] == leaf {
			return ""
		}
		return fmt.Sprintf("%s imports %s: options imports leaves only", from, to)
	case slices.Contains(neighbours[home], target):
		return ""
	case slices.Contains(below[layers[home]], layers[target]):
		return ""
	case layers[home] == controller && layers[target] == controller:
		return fmt.Sprintf("%s imports %s: controllers do not import one another; declare a small interface and let app fit them together", from, to)
	}
	return fmt.Sprintf("%s (%s) imports %s (%s): arrows point down only", from, layers[home], to, layers[target])
}

// ban forbids an import to some packages.
type ban struct {
	paths []string
	// applies says whether the package of this name under pkg/ is meant. The
	// name is empty for packages under cmd/.
	applies func(home string) bool
	why     string
}

// kinds returns whether a package is of one of the kinds.
func kinds(wanted ...kind) func(home string) bool {
	return func(home string) bool { return slices.Contains(wanted, layers[home]) }
}

// except returns whether a package is none of the named.
func except(homes ...string) func(home string) bool {
	return func(home string) bool { return !slices.Contains(homes, home) }
}

// bans are the imports from outside that the floors rule out.
func bans() []ban {
	return []ban{
		{
			paths:   []string{"k8s.io/client-go/informers"},
			applies: except("app", "informers"),
			why:     "only app and informers know client-go's informers",
		}, {
			paths:   []string{"k8s.io/client-go", "sigs.k8s.io/sig-storage-lib-external-provisioner"},
			applies: kinds(rule, leaf),
			why:     "rules and leaves hold no client, cache or engine: values in, values out",
		}, {
			paths:   []string{"k8s.io/klog", "k8s.io/utils/clock", "log"},
			applies: kinds(rule),
			why:     "rules have no logger and no clock; the controller that asks has them",
		}, {
			paths:   []string{"flag", "github.com/spf13/pflag"},
			applies: except("options", ""), // main asks for pflag.ErrHelp
			why:     "only options reads flags",
		}, {
			paths:   []string{"testing", "net/http/httptest"},
			applies: except(),
			why:     "what ships does not contain test code; it belongs in test/kit",
		},
	}
}

// outsideImports checks the imports of other people's packages.
func outsideImports(repo *repository) []string {
	var broken []string
	for _, p := range repo.packages {
		if !under(p.dir+"/", "pkg", "cmd") {
			continue
		}
		for _, i := range p.imports(false) {
			for _, b := range bans() {
				if b.applies(homeOf(p.dir)) && is(i.path, b.paths...) {
					broken = append(broken, fmt.Sprintf("%s: %s imports %s: %s", repo.pos(i.node), p.dir, i.path, b.why))
				}
			}
		}
	}
	return sorted(broken)
}

// clockFunctions are the functions of package time that read the clock or wait.
var clockFunctions = []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"}

// rulesKeepNoTime checks that rules and the wait list get the time as a value.
func rulesKeepNoTime(repo *repository) []string {
	var broken []string
	repo.eachNode([]string{"pkg"}, func(p *pkg, f *file, node ast.Node) {
		home := homeOf(p.dir)
		if f.test || (layers[home] != rule && home != "waitlist") {
			return
		}
		selector, ok := node.(*ast.SelectorExpr)
		if !ok {
			return
		}
		if from, name := p.member(selector); from == "time" && slices.Contains(clockFunctions, name) {
			broken = append(broken, fmt.Sprintf("%s: %s uses time.%s: take the time as an argument", repo.pos(node), p.dir, name))
		}
	})
	return sorted(broken)
}

// vagueNames are the package names that say nothing of a subject.
var vagueNames = []string{"util", "utils", "common", "helper", "helpers", "types", "error", "errors", "misc", "base", "shared"}

// packageTable checks that every package under pkg/ has its place in the table.
// The table may hold more: packages that are planned.
func packageTable(repo *repository) []string {
	seen := map[string]bool{}
	var broken []string
	for _, p := range repo.packages {
		home := homeOf(p.dir)
		if home == "" || seen[p.dir] {
			continue
		}
		seen[p.dir] = true
		if layers[home] == "" {
			broken = append(broken, fmt.Sprintf("pkg/%s: not in the table of test/house/layers.go; decide which floor it lives on", home))
		}
		if slices.Contains(vagueNames, path.Base(p.dir)) || strings.Contains(path.Base(p.dir), "_") {
			broken = append(broken, fmt.Sprintf("%s: a package is named for its subject, in one word", p.dir))
		}
	}
	return broken
}

// mention finds a package of ours in running text, and not inside a longer path.
var mention = regexp.MustCompile("(?m)(?:^|[\\s`(\"'\\[])(?:\\./)?pkg/([a-z0-9]+)")

// documentedPackages checks that the pages speak of packages that exist.
func documentedPackages(repo *repository) []string {
	found := map[string]bool{}
	for _, p := range repo.packages {
		found[homeOf(p.dir)] = true
	}
	var broken []string
	for _, page := range repo.tree.paths(func(p string) bool { return path.Ext(p) == ".md" && p != changelog }) {
		for _, match := range mention.FindAllStringSubmatchIndex(repo.tree[page], -1) {
			if home := repo.tree[page][match[2]:match[3]]; !found[home] {
				line := 1 + strings.Count(repo.tree[page][:match[2]], "\n")
				broken = append(broken, fmt.Sprintf("%s:%d: there is no package pkg/%s", page, line, home))
			}
		}
	}
	return broken
}
