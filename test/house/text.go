package house

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

const (
	// changelog is the page for the person who upgrades.
	changelog = "CHANGELOG.md"
	// maxLines is how long a file under pkg/ may get. Longer ones hold two
	// subjects.
	maxLines = 400
)

// fileLength checks that no file that ships has outgrown its subject.
func fileLength(repo *repository) []string {
	var broken []string
	for _, p := range repo.tree.paths(func(p string) bool { return goFile(p) && under(p, "pkg") && !testFile(p) }) {
		if lines := strings.Count(repo.tree[p], "\n"); lines > maxLines {
			broken = append(broken, fmt.Sprintf("%s: %d lines, more than %d: which two subjects live here?", p, lines, maxLines))
		}
	}
	return broken
}

// requirement finds the modules that a go.mod requires.
var requirement = regexp.MustCompile(`(?m)^(?:require[ \t]+|[ \t]+)([^\s()]+)[ \t]+v[0-9]`)

// unwantedModules are what the product does without, however it was brought in.
var unwantedModules = []string{"k8s.io/kubernetes", "sigs.k8s.io/controller-runtime"}

// requirements checks that the product's go.mod holds what ships.
func requirements(repo *repository) []string {
	var broken []string
	matches := requirement.FindAllStringSubmatch(repo.tree["go.mod"], -1)
	if len(matches) == 0 {
		return []string{"go.mod: no requirement found"}
	}
	for _, match := range matches {
		if is(match[1], unwantedModules...) {
			broken = append(broken, fmt.Sprintf("go.mod: requires %s: that belongs in a nested module under hack/", match[1]))
		}
	}
	return broken
}

// pages checks that the pages every reader looks for exist.
func pages(repo *repository) []string {
	var broken []string
	for _, p := range []string{changelog, "README.md", "LICENSE"} {
		if strings.TrimSpace(repo.tree[p]) == "" {
			broken = append(broken, p+": missing")
		}
	}
	return broken
}

// makeTarget finds a plain target of a Makefile and the help on its line. Targets
// that are files (with a slash) or patterns are made by others, not asked for.
var makeTarget = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9_.-]*(?: +[A-Za-z0-9][A-Za-z0-9_.-]*)*) *::?(?:[^=:].*)?$`)

// makeHelp checks that make help has a line to print for every target.
func makeHelp(repo *repository) []string {
	makefile, ok := repo.tree["Makefile"]
	if !ok {
		return []string{"Makefile: missing"}
	}
	var broken []string
	above := ""
	for number, line := range strings.Split(makefile, "\n") {
		match := makeTarget.FindStringSubmatch(line)
		if match != nil && !strings.Contains(line, "## ") && !strings.HasPrefix(above, "## ") {
			broken = append(broken, fmt.Sprintf("Makefile:%d: target %s has no ## comment for make help", number+1, match[1]))
		}
		above = line
	}
	return broken
}

// permission finds the first line of a rule in a Role or ClusterRole.
var permission = regexp.MustCompile(`^\s*- apiGroups:`)

// permissionReasons checks that each permission we ask for says what it is for.
func permissionReasons(repo *repository) []string {
	var broken []string
	for _, p := range repo.tree.paths(func(p string) bool { return under(p, "deploy") && path.Ext(p) == ".yaml" }) {
		above := ""
		for number, line := range strings.Split(repo.tree[p], "\n") {
			if permission.MatchString(line) && !strings.HasPrefix(strings.TrimSpace(above), "#") {
				broken = append(broken, fmt.Sprintf("%s:%d: no comment above this rule says what needs it", p, number+1))
			}
			above = line
		}
	}
	return broken
}
