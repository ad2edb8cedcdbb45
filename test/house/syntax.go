package house

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// repository is a tree with its Go files parsed: what a check is given.
type repository struct {
	tree     tree
	fset     *token.FileSet
	packages []*pkg
}

// pkg is the files of one folder that say the same package name. The tests
// package of a folder (name_test) is a pkg of its own.
type pkg struct {
	dir   string
	name  string
	files []*file
	// info holds what every identifier stands for, as far as the package alone
	// can tell: imports are known by their path, but are empty inside.
	info  *types.Info
	scope *types.Scope
}

// file is one parsed Go file.
type file struct {
	path string
	test bool
	ast  *ast.File
}

// parse reads the Go files of a tree. Files that do not parse are an error;
// code that does not compile is not.
func parse(files tree) (*repository, error) {
	repo := &repository{tree: files, fset: token.NewFileSet()}
	packages := map[string]*pkg{}
	for _, p := range files.paths(goFile) {
		syntax, err := parser.ParseFile(repo.fset, p, files[p], parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parsing: %w", err)
		}
		key := path.Dir(p) + ":" + syntax.Name.Name
		if packages[key] == nil {
			packages[key] = &pkg{dir: path.Dir(p), name: syntax.Name.Name}
		}
		packages[key].files = append(packages[key].files, &file{path: p, test: testFile(p), ast: syntax})
	}
	for _, key := range slices.Sorted(maps.Keys(packages)) {
		packages[key].resolve(repo.fset)
		repo.packages = append(repo.packages, packages[key])
	}
	return repo, nil
}

// resolve finds out what the identifiers of a package stand for.
func (p *pkg) resolve(fset *token.FileSet) {
	p.info = &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
	config := types.Config{
		Importer:    hollowImporter{},
		FakeImportC: true,
		// Whatever comes from an import is reported as missing: no concern here.
		Error: func(error) {},
	}
	var files []*ast.File
	for _, f := range p.files {
		files = append(files, f.ast)
	}
	checked, _ := config.Check(p.dir, fset, files, p.info)
	p.scope = checked.Scope()
}

// hollowImporter knows every package by name, and nothing of what is inside.
type hollowImporter map[string]*types.Package

// Import returns an empty package of the given path.
func (h hollowImporter) Import(importPath string) (*types.Package, error) {
	hollow := types.NewPackage(importPath, packageName(importPath))
	hollow.MarkComplete()
	return hollow, nil
}

// versionSuffix finds the version at the end of an import path.
var versionSuffix = regexp.MustCompile(`(/v[0-9]+|\.v[0-9]+)$`)

// packageName guesses a package's name from its path: the last element that is
// not a version.
func packageName(importPath string) string {
	name := path.Base(versionSuffix.ReplaceAllString(importPath, ""))
	return strings.ReplaceAll(strings.TrimPrefix(name, "go-"), "-", "_")
}

// pos is where a node stands, as the start of a message.
func (r *repository) pos(node ast.Node) string {
	position := r.fset.Position(node.Pos())
	return fmt.Sprintf("%s:%d", position.Filename, position.Line)
}

// imported is one import of one file.
type imported struct {
	file *file
	node *ast.ImportSpec
	path string
}

// imports returns the imports of a package's files, tests only where asked for.
func (p *pkg) imports(tests bool) []imported {
	var all []imported
	for _, f := range p.files {
		if f.test && !tests {
			continue
		}
		for _, spec := range f.ast.Imports {
			importPath, err := strconv.Unquote(spec.Path.Value)
			if err == nil {
				all = append(all, imported{file: f, node: spec, path: importPath})
			}
		}
	}
	return all
}

// member resolves an expression such as os.Exit, or sets.New[string], to the
// import path and the name. Both are empty when it is something else.
func (p *pkg) member(expr ast.Expr) (importPath, name string) {
	switch e := expr.(type) {
	case *ast.IndexExpr:
		return p.member(e.X)
	case *ast.IndexListExpr:
		return p.member(e.X)
	case *ast.SelectorExpr:
		ident, ok := e.X.(*ast.Ident)
		if !ok {
			return "", ""
		}
		if imported, ok := p.info.Uses[ident].(*types.PkgName); ok {
			return imported.Imported().Path(), e.Sel.Name
		}
	}
	return "", ""
}

// is reports whether an import path is a package or lies below it.
func is(importPath string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool {
		return importPath == prefix || strings.HasPrefix(importPath, prefix+"/")
	})
}

// sorted orders messages by file and line.
func sorted(broken []string) []string {
	slices.SortStableFunc(broken, func(a, b string) int {
		fileA, lineA := splitPosition(a)
		fileB, lineB := splitPosition(b)
		return cmp.Or(cmp.Compare(fileA, fileB), cmp.Compare(lineA, lineB))
	})
	return broken
}

func splitPosition(message string) (name string, line int) {
	name, rest, _ := strings.Cut(message, ":")
	digits, _, _ := strings.Cut(rest, ":")
	line, _ = strconv.Atoi(digits)
	return name, line
}
