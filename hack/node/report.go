package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// spec is what ginkgo reports of one test.
type spec struct {
	ContainerHierarchyTexts []string
	LeafNodeType            string
	LeafNodeText            string
	State                   string
	RunTime                 time.Duration
	Failure                 struct{ Message string }
}

// name returns the test's whole name, as patterns see it.
func (s spec) name() string {
	return strings.Join(append(slices.Clone(s.ContainerHierarchyTexts), s.LeafNodeText), " ")
}

// results are those of the tests of the driver, sorted by what came of them.
type results struct {
	passed, failed []spec
	// names has the names of all tests of the driver, run or not.
	names []string
	// skipped has the tests that skipped themselves, by what they say.
	skipped map[string][]spec
	// leftOut has those that we do not run, by reason.
	leftOut map[string][]spec
}

// readReport reads ginkgo's report and sorts it. Tests that are not of the driver, or of
// suites that do not concern it, are not counted.
func readReport(path string) (*results, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the report: %w", err)
	}
	var suites []struct{ SpecReports []spec }
	if err := json.Unmarshal(content, &suites); err != nil {
		return nil, fmt.Errorf("reading the report %s: %w", path, err)
	}
	r := &results{skipped: map[string][]spec{}, leftOut: map[string][]spec{}}
	for _, suite := range suites {
		for _, s := range suite.SpecReports {
			r.sort(s)
		}
	}
	return r, nil
}

func (r *results) sort(s spec) {
	if s.LeafNodeType != "It" {
		// Setting up or tidying up: of interest only if it failed.
		if s.State != "passed" && s.State != "skipped" {
			s.LeafNodeText = s.LeafNodeType
			r.failed = append(r.failed, s)
		}
		return
	}
	if strings.Contains(s.name(), "External Storage") {
		r.names = append(r.names, s.name())
	}
	switch {
	case s.State == "passed":
		r.passed = append(r.passed, s)
	case s.State != "skipped" && s.State != "pending":
		r.failed = append(r.failed, s)
	case s.Failure.Message != "":
		reason := strings.TrimSpace(s.Failure.Message)
		r.skipped[reason] = append(r.skipped[reason], s)
	case strings.Contains(s.name(), "External Storage"):
		for _, kind := range leftOuts() {
			if regexp.MustCompile(kind.pattern).MatchString(s.name()) {
				r.leftOut[kind.reason] = append(r.leftOut[kind.reason], s)
				return
			}
		}
	}
}

// matching returns the names of the driver's tests that match both patterns and are not
// left out.
func (r *results) matching(one, other string) []string {
	first, second, without := regexp.MustCompile(one), regexp.MustCompile(other), regexp.MustCompile(leftOutPattern())
	var names []string
	for _, name := range r.names {
		if first.MatchString(name) && second.MatchString(name) && !without.MatchString(name) {
			names = append(names, name)
		}
	}
	return names
}

// add adds what came of tests that the first pass did not run.
func (r *results) add(other *results) {
	r.passed = append(r.passed, other.passed...)
	r.failed = append(r.failed, other.failed...)
	for reason, specs := range other.skipped {
		r.skipped[reason] = append(r.skipped[reason], specs...)
	}
}

// well says whether tests have passed and none has failed.
func (r *results) well() bool { return len(r.failed) == 0 && len(r.passed) > 0 }

func (r *results) print(out io.Writer, took time.Duration) {
	fmt.Fprintf(out, "\nKubernetes' storage tests, by suite:\n\n")
	fmt.Fprintf(out, "  %-72s %6s %6s\n", "SUITE", "PASSED", "FAILED")
	for _, row := range r.bySuite() {
		fmt.Fprintf(out, "  %-72s %6d %6d\n", row.suite, row.passed, row.failed)
	}
	printReasons(out, "skipped themselves", r.skipped)
	printReasons(out, "left out by us", r.leftOut)
	for _, s := range r.failed {
		fmt.Fprintf(out, "\nFAILED: %s\n  %s\n", s.name(), firstLines(s.Failure.Message, 6))
	}
	// One suite has many tests of the same name; the sum is what is compared.
	fmt.Fprintf(out, "\n%d passed, %d failed, %d skipped themselves, %d left out by us, in %s\n",
		len(r.passed), len(r.failed), count(r.skipped), count(r.leftOut), took.Round(time.Second))
}

// row is one line of the table.
type row struct {
	suite          string
	passed, failed int
}

func (r *results) bySuite() []row {
	rows := map[string]*row{}
	of := func(s spec) *row {
		name := "(setting up and tidying up)"
		if len(s.ContainerHierarchyTexts) > 1 {
			name = s.ContainerHierarchyTexts[1]
		}
		if rows[name] == nil {
			rows[name] = &row{suite: strings.TrimPrefix(name, "[Testpattern: ")}
		}
		return rows[name]
	}
	for _, s := range r.passed {
		of(s).passed++
	}
	for _, s := range r.failed {
		of(s).failed++
	}
	var all []row
	for _, one := range rows {
		all = append(all, *one)
	}
	slices.SortFunc(all, func(a, b row) int { return strings.Compare(a.suite, b.suite) })
	return all
}

func printReasons(out io.Writer, title string, of map[string][]spec) {
	if len(of) == 0 {
		return
	}
	fmt.Fprintf(out, "\n%s:\n", title)
	var reasons []string
	for reason := range of {
		reasons = append(reasons, reason)
	}
	slices.Sort(reasons)
	for _, reason := range reasons {
		fmt.Fprintf(out, "  %4d  %s\n", len(of[reason]), firstLines(reason, 1))
	}
}

func count(of map[string][]spec) int {
	sum := 0
	for _, specs := range of {
		sum += len(specs)
	}
	return sum
}

func firstLines(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[:min(lines, len(all))], "\n  ")
}
