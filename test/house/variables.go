package house

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// variables checks that package variables under pkg/ are fixed values: of a
// shape that needs a variable, and never changed.
func variables(repo *repository) []string {
	var broken []string
	for _, p := range repo.packages {
		if !under(p.dir+"/", "pkg") {
			continue
		}
		for _, f := range p.files {
			if !f.test {
				broken = append(broken, looseVariables(repo, p, f)...)
			}
		}
	}
	repo.eachNode([]string{"pkg"}, func(p *pkg, _ *file, node ast.Node) {
		for _, target := range changed(node) {
			if name := p.packageVariable(target); name != "" {
				broken = append(broken, fmt.Sprintf("%s: package variable %s is changed: make it a field", repo.pos(node), name))
			}
		}
	})
	return sorted(broken)
}

// looseVariables finds the variables of a file that are no fixed values.
func looseVariables(repo *repository, p *pkg, f *file) []string {
	var broken []string
	for _, declaration := range f.ast.Decls {
		d, ok := declaration.(*ast.GenDecl)
		if !ok || d.Tok != token.VAR {
			continue
		}
		for _, spec := range d.Specs {
			s, ok := spec.(*ast.ValueSpec)
			if !ok || s.Names[0].Name == "_" || embedded(d, s) {
				continue
			}
			fixed := len(s.Values) == len(s.Names)
			for _, value := range s.Values {
				fixed = fixed && p.fixedVariable(value)
			}
			if !fixed {
				broken = append(broken, fmt.Sprintf("%s: package variable %s: only errors.New, compiled patterns, tables of constants and _ assertions; make it a constant, a function or a field", repo.pos(s), s.Names[0].Name))
			}
		}
	}
	return broken
}

// embedded reports whether a variable is filled by the compiler from a file.
func embedded(d *ast.GenDecl, s *ast.ValueSpec) bool {
	for _, group := range []*ast.CommentGroup{d.Doc, s.Doc} {
		if group == nil {
			continue
		}
		for _, comment := range group.List {
			if strings.HasPrefix(comment.Text, "//go:embed ") {
				return true
			}
		}
	}
	return false
}

// makers are the functions whose result is a fixed value that no constant can
// hold.
var makers = map[string][]string{
	"errors":                                 {"New"},
	"regexp":                                 {"MustCompile"},
	"strings":                                {"NewReplacer"},
	"k8s.io/apimachinery/pkg/util/sets":      {"New"},
	"k8s.io/apimachinery/pkg/api/resource":   {"MustParse"},
	"k8s.io/apimachinery/pkg/runtime/schema": {"ParseGroupResource"},
}

// makerMethods are methods of Kubernetes' group and version values that return
// another such value.
var makerMethods = []string{"WithResource", "WithKind", "GroupResource", "GroupKind"}

// metricPackages make values that are registered and counted up.
var metricPackages = []string{"github.com/prometheus/client_golang", "k8s.io/component-base/metrics"}

// fixedVariable reports whether a variable may have this initial value: a call
// of a maker, or a composite literal of fixed values.
func (p *pkg) fixedVariable(expr ast.Expr) bool {
	switch expr.(type) {
	case *ast.CallExpr, *ast.CompositeLit:
		return p.fixed(expr)
	}
	return false
}

// fixed reports whether an expression is the same whenever it is evaluated.
func (p *pkg) fixed(expr ast.Expr) bool {
	switch e := expr.(type) {
	case nil:
		return true
	case *ast.BasicLit, *ast.Ident, *ast.FuncLit, *ast.SelectorExpr, *ast.ArrayType, *ast.MapType, *ast.StructType:
		return true
	case *ast.ParenExpr:
		return p.fixed(e.X)
	case *ast.UnaryExpr:
		return e.Op != token.AND && e.Op != token.ARROW && p.fixed(e.X)
	case *ast.BinaryExpr:
		return p.fixed(e.X) && p.fixed(e.Y)
	case *ast.KeyValueExpr:
		return p.fixed(e.Key) && p.fixed(e.Value)
	case *ast.CompositeLit:
		if from, _ := p.member(e.Type); from != "" && is(from, metricPackages...) {
			return false
		}
		return !slices.ContainsFunc(e.Elts, func(element ast.Expr) bool { return !p.fixed(element) })
	case *ast.CallExpr:
		return p.fixedCall(e)
	}
	return false
}

// fixedCall reports whether a call is one of a maker with fixed arguments.
func (p *pkg) fixedCall(call *ast.CallExpr) bool {
	if slices.ContainsFunc(call.Args, func(arg ast.Expr) bool { return !p.fixed(arg) }) {
		return false
	}
	if from, name := p.member(call.Fun); from != "" {
		return slices.Contains(makers[from], name)
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	return ok && slices.Contains(makerMethods, selector.Sel.Name) && p.fixed(selector.X)
}

// changed returns what a node writes to.
func changed(node ast.Node) []ast.Expr {
	switch n := node.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	case *ast.RangeStmt:
		if n.Tok == token.ASSIGN {
			return []ast.Expr{n.Key, n.Value}
		}
	case *ast.CallExpr:
		name, ok := n.Fun.(*ast.Ident)
		if ok && len(n.Args) > 0 && (name.Name == "delete" || name.Name == "clear") {
			return n.Args[:1]
		}
	}
	return nil
}

// packageVariable returns the name of the package variable that an expression
// is, or is a part of; "" for none.
func (p *pkg) packageVariable(expr ast.Expr) string {
	for {
		switch e := expr.(type) {
		case *ast.IndexExpr:
			expr = e.X
		case *ast.SelectorExpr:
			expr = e.X
		case *ast.StarExpr:
			expr = e.X
		case *ast.ParenExpr:
			expr = e.X
		case *ast.Ident:
			object, ok := p.info.Uses[e].(*types.Var)
			if ok && object.Parent() == p.scope {
				return e.Name
			}
			return ""
		default:
			return ""
		}
	}
}
