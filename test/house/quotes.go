package house

import (
	"fmt"
	"go/ast"
	"regexp"
	"strings"
)

// quotedEvent finds an event as kubectl shows it, perhaps with its type, and with the
// lines that go on with it further in.
var quotedEvent = regexp.MustCompile(`(?m)^(?:(?:Normal|Warning) +)?([A-Z][A-Za-z]+)  +([^|\n]+(?:\n {8,}\S[^\n]*)*)$`)

// messagesQuoted checks that events which pages quote have messages that the code tells.
func messagesQuoted(repo *repository) []string {
	known := map[string]bool{}
	for _, r := range repo.reasons() {
		known[r.value] = true
	}
	told := repo.formats()
	var broken []string
	for _, page := range repo.userPages() {
		for _, match := range quotedEvent.FindAllStringSubmatchIndex(repo.tree[page], -1) {
			quoted := repo.tree[page][match[0]:match[1]]
			parts := quotedEvent.FindStringSubmatch(quoted)
			message := strings.Join(strings.Fields(parts[2]), " ")
			if known[parts[1]] && !matchesAny(told, message) {
				broken = append(broken, fmt.Sprintf("%s:%d: no event has this message: %s", page, repo.line(page, match[0]), message))
			}
		}
	}
	return broken
}

func matchesAny(formats []*regexp.Regexp, message string) bool {
	for _, format := range formats {
		if format.MatchString(message) {
			return true
		}
	}
	return false
}

// verb is what fmt puts a value in the place of.
var verb = regexp.MustCompile(`%[-+# 0-9.\[\]]*[a-zA-Z]`)

// shortestFormat is how many characters of its own a format has that can be a message:
// one with fewer would fit everything.
const shortestFormat = 20

// formats returns what fits the texts that the product's formats make.
func (r *repository) formats() []*regexp.Regexp {
	var all []*regexp.Regexp
	r.eachNode([]string{"pkg"}, func(p *pkg, f *file, node ast.Node) {
		expr, ok := node.(ast.Expr)
		if !ok || f.test {
			return
		}
		own := verb.Split(p.text(expr), -1)
		if len(strings.Join(own, "")) < shortestFormat {
			return
		}
		for i := range own {
			own[i] = regexp.QuoteMeta(strings.ReplaceAll(own[i], "%%", "%"))
		}
		all = append(all, regexp.MustCompile("^"+strings.Join(own, ".*")+"$"))
	})
	return all
}
