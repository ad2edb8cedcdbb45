package house

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"strconv"
	"strings"
)

const (
	// changelog is the page for the person who upgrades.
	changelog = "CHANGELOG.md"
	// eventsPage is generated from the catalogue of reasons.
	eventsPage = "docs/events.md"
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

// reasonsDocumented checks that every event reason has its place on the page
// that users search.
func reasonsDocumented(repo *repository) []string {
	page, ok := repo.tree[eventsPage]
	if !ok {
		return nil // Not generated yet.
	}
	var broken []string
	reasons := 0
	for _, p := range repo.packages {
		if !under(p.dir+"/", "pkg") {
			continue
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			for value, node := range reasonConstants(f.ast) {
				reasons++
				if !regexp.MustCompile(`\b` + regexp.QuoteMeta(value) + `\b`).MatchString(page) {
					broken = append(broken, fmt.Sprintf("%s: reason %s is not on %s: run make generate", repo.pos(node), value, eventsPage))
				}
			}
		}
	}
	if reasons == 0 {
		return []string{eventsPage + ": no constant of type Reason found under pkg/"}
	}
	return sorted(broken)
}

// reasonConstants returns the string constants of a file that are event reasons:
// of a type called Reason, or with a name that begins with it.
func reasonConstants(syntax *ast.File) map[string]ast.Node {
	reasons := map[string]ast.Node{}
	for _, declaration := range syntax.Decls {
		d, ok := declaration.(*ast.GenDecl)
		if !ok || d.Tok != token.CONST {
			continue
		}
		for _, spec := range d.Specs {
			s, ok := spec.(*ast.ValueSpec)
			if !ok {
				continue
			}
			for i, value := range s.Values {
				literal, isLiteral := value.(*ast.BasicLit)
				if !isLiteral || literal.Kind != token.STRING || !isReason(s, i) {
					continue
				}
				if text, err := strconv.Unquote(literal.Value); err == nil && text != "" {
					reasons[text] = s
				}
			}
		}
	}
	return reasons
}

func isReason(s *ast.ValueSpec, i int) bool {
	typeName := ""
	switch t := s.Type.(type) {
	case *ast.Ident:
		typeName = t.Name
	case *ast.SelectorExpr:
		typeName = t.Sel.Name
	}
	return typeName == "Reason" || (i < len(s.Names) && strings.HasPrefix(s.Names[i].Name, "Reason"))
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
