package house

import (
	"fmt"
	"go/ast"
	"slices"
)

// recorderDir is the only package that sends events.
const recorderDir = "pkg/observe"

// verdicts are the functions that make a verdict; the first argument is its reason.
var verdicts = []string{"Noted", "Waiting", "Refused", "Ignored"}

// senders are the methods that send an event, whoever has them.
var senders = []string{"Event", "Eventf", "AnnotatedEventf"}

// reasonsFromCatalogue checks that nobody makes up a reason where it is used, or
// sends an event past the recorder.
func reasonsFromCatalogue(repo *repository) []string {
	known := map[string]bool{}
	for _, r := range repo.reasons() {
		known[r.name] = true
	}
	var broken []string
	repo.eachNode([]string{"cmd", "pkg"}, func(p *pkg, f *file, node ast.Node) {
		if f.test || p.dir == verdictDir {
			return
		}
		for _, why := range []string{p.madeUp(node), p.unnamed(node, known), p.sent(node)} {
			if why != "" {
				broken = append(broken, repo.pos(node)+": "+why)
			}
		}
	})
	return sorted(broken)
}

// verdictMember returns the name that an expression is in package verdict, "" if it
// is something else.
func (p *pkg) verdictMember(expr ast.Expr) string {
	if from, name := p.member(expr); from == modulePath+"/"+verdictDir {
		return name
	}
	return ""
}

// madeUp says what is wrong with a node that makes a reason of its own.
func (p *pkg) madeUp(node ast.Node) string {
	made := false
	switch n := node.(type) {
	case *ast.CallExpr:
		made = p.verdictMember(n.Fun) == "Reason"
	case *ast.ValueSpec:
		made = p.verdictMember(n.Type) == "Reason" && len(n.Values) > 0
	case *ast.CompositeLit:
		made = p.verdictMember(n.Type) == "Verdict" && (len(n.Elts) > 1 && isLiteral(n.Elts[1]) ||
			slices.ContainsFunc(n.Elts, func(element ast.Expr) bool {
				pair, ok := element.(*ast.KeyValueExpr)
				return ok && keyName(pair) == "Reason" && isLiteral(pair.Value)
			}))
	}
	if made {
		return "a reason is made up here: " + verdictDir + " has them all"
	}
	return ""
}

// unnamed says what is wrong with a verdict whose reason is none of the constants.
// Only what is ignored may have none.
func (p *pkg) unnamed(node ast.Node, known map[string]bool) string {
	call, ok := node.(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return ""
	}
	name := p.verdictMember(call.Fun)
	silent := name == "Ignored" && isLiteral(call.Args[0]) && p.text(call.Args[0]) == ""
	if !slices.Contains(verdicts, name) || silent || known[p.verdictMember(call.Args[0])] {
		return ""
	}
	return fmt.Sprintf("verdict.%s without a reason of %s: name one of its constants", name, verdictDir)
}

// sent says what is wrong with an event that is sent past the recorder, or that the
// recorder sends with words of its own.
func (p *pkg) sent(node ast.Node) string {
	call, ok := node.(*ast.CallExpr)
	switch {
	case !ok || !sends(call):
		return ""
	case p.dir != recorderDir:
		return "an event is sent past " + recorderDir + ": say it through its Recorder"
	case slices.ContainsFunc(call.Args[1:3], isLiteral):
		return "an event with a type or a reason of its own: take both from the verdict"
	}
	return ""
}

// sends reports whether a call is one of recorder.Event(object, type, reason, ...).
func sends(call *ast.CallExpr) bool {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	return ok && len(call.Args) >= 4 && slices.Contains(senders, selector.Sel.Name)
}

func isLiteral(expr ast.Expr) bool {
	_, ok := expr.(*ast.BasicLit)
	return ok
}
