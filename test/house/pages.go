package house

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
)

const (
	// contractPage and promisesPage say what is proved by which test.
	contractPage = "docs/compatibility.md"
	promisesPage = "docs/reliability.md"
	// flagsPage is generated from the flag set.
	flagsPage = "docs/flags.md"
)

// userPages returns the pages that speak of what is: all but the changelog.
func (r *repository) userPages() []string {
	return r.tree.paths(func(p string) bool { return path.Ext(p) == ".md" && p != changelog })
}

// line returns the number of the line at an offset.
func (r *repository) line(page string, offset int) int {
	return 1 + strings.Count(r.tree[page][:offset], "\n")
}

// testName finds the name of a test in running text.
var testName = regexp.MustCompile(`\bTest[A-Z0-9]\w*`)

// testsNamed checks that the tests exist which the pages about compatibility and
// about reliability call their proof.
func testsNamed(repo *repository) []string {
	known := map[string]bool{}
	for _, p := range repo.packages {
		for _, f := range p.files {
			for _, declaration := range f.ast.Decls {
				if function, ok := declaration.(*ast.FuncDecl); ok && f.test && function.Recv == nil {
					known[function.Name.Name] = true
				}
			}
		}
	}
	var broken []string
	for _, page := range []string{contractPage, promisesPage} {
		names := testName.FindAllStringIndex(repo.tree[page], -1)
		if len(names) == 0 {
			broken = append(broken, page+": names no test: it would prove nothing")
		}
		for _, at := range names {
			if name := repo.tree[page][at[0]:at[1]]; !known[name] {
				broken = append(broken, fmt.Sprintf("%s:%d: there is no test %s", page, repo.line(page, at[0]), name))
			}
		}
	}
	return broken
}

// strangeFlags are the flags of other programs that our pages may name.
func strangeFlags() []string {
	return slices.Concat(
		[]string{"help"}, // of every program, ours too
		[]string{ // of kubectl
			"all-namespaces", "as", "field-selector", "for", "previous", "replicas", "since", "sort-by", "type",
		},
		[]string{"event-ttl"}, // of kube-apiserver; its --feature-gates is called like ours
		[]string{"build-arg"}, // of docker build
		[]string{"list"},      // of hack/fuzz.sh
		[]string{"full"},      // of hack/reproducible.sh
	)
}

var (
	// flagRow finds a flag of ours on its page.
	flagRow = regexp.MustCompile("(?m)^\\| `--([a-z][a-z0-9-]*)` \\|")
	// flagName finds a flag in running text and in commands, and no dash of
	// another kind.
	flagName = regexp.MustCompile("(?:^|[\\s`\"'(\\[|/,])--([a-z][a-z0-9-]*)")
)

// flagsNamed checks that the pages name flags that exist.
func flagsNamed(repo *repository) []string {
	known := strangeFlags()
	ours := flagRow.FindAllStringSubmatch(repo.tree[flagsPage], -1)
	if len(ours) == 0 {
		return []string{flagsPage + ": no flag found: run make generate"}
	}
	for _, row := range ours {
		known = append(known, row[1])
	}
	var broken []string
	for _, page := range repo.userPages() {
		for _, match := range flagName.FindAllStringSubmatchIndex(repo.tree[page], -1) {
			if name := repo.tree[page][match[2]:match[3]]; !slices.Contains(known, name) {
				broken = append(broken, fmt.Sprintf("%s:%d: there is no flag --%s; if it is one of another program, enter it in test/house/pages.go", page, repo.line(page, match[2]), name))
			}
		}
	}
	return broken
}

// reasonShaped finds words in code style that can only be reasons of ours: no kind,
// field or reason of Kubernetes begins like this.
var reasonShaped = regexp.MustCompile("`((?:Clone|CleanUp|Cleaning|Record|StorageClassNot|StorageClassOf|VolumeName|NotSupported|DriverCapability)[A-Z][A-Za-z]*)`")

// reasonsNamed checks that the pages name reasons that exist.
func reasonsNamed(repo *repository) []string {
	known := map[string]bool{}
	for _, r := range repo.reasons() {
		known[r.value] = true
	}
	var broken []string
	for _, page := range repo.userPages() {
		for _, match := range reasonShaped.FindAllStringSubmatchIndex(repo.tree[page], -1) {
			if name := repo.tree[page][match[2]:match[3]]; !known[name] {
				broken = append(broken, fmt.Sprintf("%s:%d: there is no reason %s", page, repo.line(page, match[2]), name))
			}
		}
	}
	return broken
}
