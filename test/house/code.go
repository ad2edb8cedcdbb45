package house

import (
	"fmt"
	"go/ast"
	"regexp"
	"slices"
	"strings"
)

// eachNode calls visit for every syntax node of the files in the given folders,
// tests included.
func (r *repository) eachNode(folders []string, visit func(p *pkg, f *file, node ast.Node)) {
	for _, p := range r.packages {
		if !under(p.dir+"/", folders...) {
			continue
		}
		for _, f := range p.files {
			ast.Inspect(f.ast, func(node ast.Node) bool {
				if node != nil {
					visit(p, f, node)
				}
				return true
			})
		}
	}
}

// exits are the functions that end the process, by import path.
var exits = map[string]*regexp.Regexp{
	"os":             regexp.MustCompile(`^Exit$`),
	"log":            regexp.MustCompile(`^Fatal`),
	"k8s.io/klog/v2": regexp.MustCompile(`^(Fatal|Exit)|^FlushAndExit$`),
	"syscall":        regexp.MustCompile(`^Exit$`),
}

// testMain stands in for main where TestMain hands the tests of a package over.
const testMain = "test/kit/main.go"

// exitOnlyInMain checks that nothing but a program's main package ends the
// process.
func exitOnlyInMain(repo *repository) []string {
	var broken []string
	repo.eachNode([]string{"cmd", "pkg", "test", "hack"}, func(p *pkg, f *file, node ast.Node) {
		selector, ok := node.(*ast.SelectorExpr)
		if !ok || f.path == testMain || (p.name == "main" && under(p.dir+"/", "cmd", "hack")) {
			return
		}
		from, name := p.member(selector)
		if pattern := exits[from]; pattern != nil && pattern.MatchString(name) {
			broken = append(broken, fmt.Sprintf("%s: %s ends the process: return an error, main decides", repo.pos(node), selectorText(selector)))
		}
	})
	return sorted(broken)
}

func selectorText(selector *ast.SelectorExpr) string {
	if ident, ok := selector.X.(*ast.Ident); ok {
		return ident.Name + "." + selector.Sel.Name
	}
	return selector.Sel.Name
}

// environment are the functions of package os that read the environment.
var environment = []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Setenv", "Unsetenv"}

// environmentOnlyInOptions checks that what ships reads the environment in one
// place. Main may hand the function that looks things up to it.
func environmentOnlyInOptions(repo *repository) []string {
	var broken []string
	repo.eachNode([]string{"cmd", "pkg"}, func(p *pkg, f *file, node ast.Node) {
		if f.test || homeOf(p.dir) == "options" {
			return
		}
		expr, isExpr := node.(*ast.SelectorExpr)
		if under(p.dir+"/", "cmd") {
			call, isCall := node.(*ast.CallExpr)
			if !isCall {
				return
			}
			expr, isExpr = call.Fun.(*ast.SelectorExpr)
		}
		if !isExpr {
			return
		}
		if from, name := p.member(expr); from == "os" && slices.Contains(environment, name) {
			broken = append(broken, fmt.Sprintf("%s: os.%s: only options reads the environment; pass the value on", repo.pos(node), name))
		}
	})
	return sorted(broken)
}

// noInit checks that nothing happens because a package is linked.
func noInit(repo *repository) []string {
	var broken []string
	repo.eachNode([]string{"cmd", "pkg"}, func(_ *pkg, _ *file, node ast.Node) {
		function, ok := node.(*ast.FuncDecl)
		if ok && function.Recv == nil && function.Name.Name == "init" {
			broken = append(broken, repo.pos(node)+": init function: let app call a function with a name")
		}
	})
	return sorted(broken)
}

// packageDocs checks that every package says what it is for.
func packageDocs(repo *repository) []string {
	documented := map[string]bool{}
	name := map[string]string{}
	for _, p := range repo.packages {
		if !under(p.dir+"/", "cmd", "pkg", "test", "hack") {
			continue
		}
		base := strings.TrimSuffix(p.name, "_test")
		if base == p.name || name[p.dir] == "" {
			name[p.dir] = base
		}
		for _, f := range p.files {
			doc := f.ast.Doc.Text()
			fits := p.name == "main" || strings.HasPrefix(doc, "Package "+base+" ")
			documented[p.dir] = documented[p.dir] || (doc != "" && fits)
		}
	}
	var broken []string
	for dir := range name {
		switch {
		case documented[dir]:
		case name[dir] == "main":
			broken = append(broken, dir+": no comment on the package line that says what the program does")
		default:
			broken = append(broken, fmt.Sprintf("%s: no comment on the package line that begins with %q", dir, "Package "+name[dir]))
		}
	}
	return sorted(broken)
}

// exportedComments checks that what a package shows is explained, by a comment
// that begins with its name.
func exportedComments(repo *repository) []string {
	var broken []string
	report := func(name *ast.Ident, own *ast.CommentGroup, others ...*ast.CommentGroup) {
		if !name.IsExported() {
			return
		}
		if own.Text() != "" {
			if !beginsWith(own.Text(), name.Name) {
				broken = append(broken, fmt.Sprintf("%s: the comment of %s does not begin with its name", repo.pos(name), name.Name))
			}
			return
		}
		explained := slices.ContainsFunc(others, func(comment *ast.CommentGroup) bool { return comment.Text() != "" })
		if !explained {
			broken = append(broken, fmt.Sprintf("%s: %s has no comment", repo.pos(name), name.Name))
		}
	}
	for _, p := range repo.packages {
		if !under(p.dir+"/", "pkg") {
			continue
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			for _, declaration := range f.ast.Decls {
				switch d := declaration.(type) {
				case *ast.FuncDecl:
					if receiver := receiverName(d); receiver == "" || ast.IsExported(receiver) {
						report(d.Name, d.Doc)
					}
				case *ast.GenDecl:
					eachDeclared(d, report)
				}
			}
		}
	}
	return sorted(broken)
}

// beginsWith reports whether a comment begins with a name, after an article
// perhaps.
func beginsWith(comment, name string) bool {
	for _, article := range []string{"A ", "An ", "The "} {
		comment = strings.TrimPrefix(comment, article)
	}
	rest, ok := strings.CutPrefix(comment, name)
	return ok && (rest == "" || !strings.ContainsAny(rest[:1], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"))
}

// eachDeclared calls report for every name that a declaration introduces, with
// the comment that is the name's own and others that count for it: one behind
// it, one above a bracketed list, one above several names.
func eachDeclared(d *ast.GenDecl, report func(name *ast.Ident, own *ast.CommentGroup, others ...*ast.CommentGroup)) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if d.Lparen.IsValid() {
				report(s.Name, s.Doc, s.Comment, d.Doc)
			} else {
				report(s.Name, d.Doc, s.Comment)
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				switch {
				case len(s.Names) > 1:
					report(name, nil, d.Doc, s.Doc, s.Comment)
				case d.Lparen.IsValid():
					report(name, s.Doc, s.Comment, d.Doc)
				default:
					report(name, d.Doc, s.Comment)
				}
			}
		}
	}
}

// receiverName returns the type that a function is a method of, "" for none.
func receiverName(function *ast.FuncDecl) string {
	if function.Recv == nil || len(function.Recv.List) == 0 {
		return ""
	}
	expr := function.Recv.List[0].Type
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.IndexListExpr:
			expr = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}

// unfinished finds the words that mark work put off.
var unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)

// nothingPutOff checks that comments hold no notes of work to do: an issue can be
// found and closed, a note cannot.
func nothingPutOff(repo *repository) []string {
	var broken []string
	for _, p := range repo.packages {
		for _, f := range p.files {
			for _, group := range f.ast.Comments {
				for _, comment := range group.List {
					if word := unfinished.FindString(comment.Text); word != "" {
						broken = append(broken, fmt.Sprintf("%s: comment says %s: do it, or open an issue", repo.pos(comment), word))
					}
				}
			}
		}
	}
	return sorted(broken)
}
