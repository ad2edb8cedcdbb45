package house

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// verdictDir is where the reasons of all events are.
	verdictDir = "pkg/verdict"
	// eventsPage is generated from the catalogue of reasons.
	eventsPage = "docs/events.md"
)

// reason is one constant of type Reason.
type reason struct {
	name, value string
	node        ast.Node
}

// reasons returns the constants of type Reason, in the order of the code.
func (r *repository) reasons() []reason {
	var all []reason
	for _, p := range r.packages {
		if p.dir != verdictDir {
			continue
		}
		for ident, object := range p.info.Defs {
			c, ok := object.(*types.Const)
			if !ok || c.Val().Kind() != constant.String {
				continue
			}
			if named, ok := c.Type().(*types.Named); ok && named.Obj().Name() == "Reason" {
				all = append(all, reason{ident.Name, constant.StringVal(c.Val()), ident})
			}
		}
	}
	slices.SortFunc(all, func(a, b reason) int { return int(a.node.Pos() - b.node.Pos()) })
	return all
}

// entry is one row of the catalogue.
type entry struct {
	node ast.Node
	// cells are reason, type, object, meaning and what to do.
	cells [5]string
}

// fields are the cells by name.
var fields = [5]string{"Reason", "Type", "Object", "Meaning", "Do"}

// catalogue returns what function Catalogue lists.
func (r *repository) catalogue() []entry {
	var all []entry
	r.eachNode([]string{verdictDir}, func(p *pkg, f *file, node ast.Node) {
		function, ok := node.(*ast.FuncDecl)
		if !ok || f.test || function.Recv != nil || function.Name.Name != "Catalogue" {
			return
		}
		ast.Inspect(function, func(node ast.Node) bool {
			list, ok := node.(*ast.CompositeLit)
			if _, array := typeOf(list).(*ast.ArrayType); !ok || !array {
				return true
			}
			for _, element := range list.Elts {
				if row, ok := element.(*ast.CompositeLit); ok {
					all = append(all, p.entryOf(row))
				}
			}
			return false
		})
	})
	return all
}

func typeOf(literal *ast.CompositeLit) ast.Expr {
	if literal == nil {
		return nil
	}
	return literal.Type
}

// entryOf reads one entry, with or without the names of its fields.
func (p *pkg) entryOf(row *ast.CompositeLit) entry {
	e := entry{node: row}
	for i, element := range row.Elts {
		if pair, ok := element.(*ast.KeyValueExpr); ok {
			i, element = slices.Index(fields[:], keyName(pair)), pair.Value
		}
		if i >= 0 && i < len(e.cells) {
			e.cells[i] = p.text(element)
		}
	}
	return e
}

// text returns the string that an expression is, "" if that cannot be told.
func (p *pkg) text(expr ast.Expr) string {
	switch e := expr.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return text
		}
	case *ast.Ident:
		if c, ok := p.info.Uses[e].(*types.Const); ok && c.Val().Kind() == constant.String {
			return constant.StringVal(c.Val())
		}
	case *ast.ParenExpr:
		return p.text(e.X)
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			return p.text(e.X) + p.text(e.Y)
		}
	}
	return ""
}

// reasonsExplained checks that every reason stands in the catalogue once, with what
// it means and what to do, and that the page for users says the same.
func reasonsExplained(repo *repository) []string {
	reasons, entries := repo.reasons(), repo.catalogue()
	if len(reasons) == 0 {
		return []string{verdictDir + ": no constant of type Reason found"}
	}
	var broken []string
	seen := map[string]int{}
	for _, e := range entries {
		name := e.cells[0]
		if seen[name]++; seen[name] > 1 {
			broken = append(broken, fmt.Sprintf("%s: reason %s is in Catalogue twice", repo.pos(e.node), name))
		}
		if !slices.ContainsFunc(reasons, func(r reason) bool { return r.value == name }) {
			broken = append(broken, fmt.Sprintf("%s: this entry of Catalogue has no constant of type Reason", repo.pos(e.node)))
		}
		for i, cell := range e.cells {
			if strings.TrimSpace(cell) == "" && i > 0 {
				broken = append(broken, fmt.Sprintf("%s: reason %s has no %s", repo.pos(e.node), name, fields[i]))
			}
		}
	}
	for _, r := range reasons {
		if seen[r.value] == 0 {
			broken = append(broken, fmt.Sprintf("%s: reason %s is not in Catalogue: say what it means and what to do", repo.pos(r.node), r.value))
		}
	}
	return append(sorted(broken), eventsPageRows(repo, entries)...)
}

// reasonRow finds a row of the page with all reasons.
var reasonRow = regexp.MustCompile("^\\| `([^`]+)` \\|")

// eventsPageRows compares the page with the catalogue.
func eventsPageRows(repo *repository, entries []entry) []string {
	page, ok := repo.tree[eventsPage]
	if !ok {
		return []string{eventsPage + ": missing: run make generate"}
	}
	var broken []string
	rows := map[string]int{}
	for number, line := range strings.Split(page, "\n") {
		match := reasonRow.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		rows[match[1]]++
		at := slices.IndexFunc(entries, func(e entry) bool { return e.cells[0] == match[1] })
		switch {
		case at < 0:
			broken = append(broken, fmt.Sprintf("%s:%d: reason %s is not in Catalogue: run make generate", eventsPage, number+1, match[1]))
		case rows[match[1]] > 1:
			broken = append(broken, fmt.Sprintf("%s:%d: a second row for reason %s: run make generate", eventsPage, number+1, match[1]))
		case line != entries[at].row():
			broken = append(broken, fmt.Sprintf("%s:%d: the row of reason %s is not what Catalogue says: run make generate", eventsPage, number+1, match[1]))
		}
	}
	for _, e := range entries {
		if rows[e.cells[0]] == 0 {
			broken = append(broken, fmt.Sprintf("%s: no row for reason %s: run make generate", eventsPage, e.cells[0]))
		}
	}
	return broken
}

// row is the entry as hack/gendocs writes it.
func (e entry) row() string {
	cells := e.cells
	cells[0] = "`" + cells[0] + "`"
	for i, cell := range cells {
		cells[i] = strings.NewReplacer("\n", " ", "|", "\\|").Replace(cell)
	}
	return "| " + strings.Join(cells[:], " | ") + " |"
}

// keyName returns the name of a field in a composite literal, "" for another key.
func keyName(pair *ast.KeyValueExpr) string {
	if key, ok := pair.Key.(*ast.Ident); ok {
		return key.Name
	}
	return ""
}
