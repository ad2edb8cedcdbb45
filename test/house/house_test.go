package house

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestRepository runs every check over the repository.
func TestRepository(t *testing.T) {
	files, err := readTree("../..")
	if err != nil {
		t.Fatal(err)
	}
	repo, err := parse(files)
	if err != nil {
		t.Fatal(err)
	}
	if len(repo.packages) == 0 {
		t.Fatal("no Go package found: the checks would prove nothing")
	}
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) {
			for _, message := range c.find(repo) {
				t.Error(message)
			}
		})
	}
}

// example is a small tree and what one check says of it.
type example struct {
	// name is a sentence.
	name  string
	check func(*repository) []string
	tree  tree
	// want is every message, in order; nil where the convention is kept.
	want []string
}

// examples returns all examples.
func examples() []example {
	return slices.Concat(layerExamples(), codeExamples(), textExamples(), reasonExamples(), eventExamples(), pageExamples(), wordExamples())
}

// TestChecks runs the checks over their examples.
func TestChecks(t *testing.T) {
	for _, e := range examples() {
		t.Run(e.name, func(t *testing.T) {
			repo, err := parse(e.tree)
			if err != nil {
				t.Fatal(err)
			}
			if got := e.check(repo); !slices.Equal(got, e.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(e.want, "\n"))
			}
		})
	}
}

// TestEveryCheckCanFail sees to it that a new check comes with a tree that it
// rejects and one that it accepts.
func TestEveryCheckCanFail(t *testing.T) {
	rejects, accepts := map[string]int{}, map[string]int{}
	for _, e := range examples() {
		if len(e.want) > 0 {
			rejects[identity(e.check)]++
		} else {
			accepts[identity(e.check)]++
		}
	}
	for _, c := range checks() {
		if rejects[identity(c.find)] == 0 {
			t.Errorf("%s: no example that it rejects", c.name)
		}
		if accepts[identity(c.find)] == 0 {
			t.Errorf("%s: no example that it accepts", c.name)
		}
	}
}

// identity tells functions apart, which Go cannot compare.
func identity(f func(*repository) []string) string { return fmt.Sprintf("%p", f) }

// goSource returns a file of the package in which one function uses the code.
func goSource(name, imports, code string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "package %s\n", name)
	for line := range strings.SplitSeq(imports, "\n") {
		if line != "" {
			fmt.Fprintf(&text, "import %s\n", line)
		}
	}
	return text.String() + code + "\n"
}

// ours returns the import of a package of this module.
func ours(dir string) string { return `_ "` + modulePath + "/" + dir + `"` }
