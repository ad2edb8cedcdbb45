package house

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// wordsFile has the number of phrases and citations that each folder may have. It only falls.
const wordsFile = "test/house/words.txt"

// phrases are expressions that nobody in the field uses; docs/development.md says what to write.
var phrases = regexp.MustCompile(`(?i)\b(nobody|somebody|whoever|anybody|tells?|told|by itself|the incumbent|stands? in|` +
	`(is|are) to be|goes? on|of ours|mend(s|ed|ing)?|is through|lets? go|has the turn|says (whether|what|why|who|if)|lived with|in vain)\b`)

// citations are references to documents that are not in the repository, and ids that only its
// authors understand.
var citations = regexp.MustCompile(`\b(the design|design, ("|section)|[CFNT]-[0-9]{1,2})\b|\bdesign, "`)

// wordCount is how many lines of a folder's comments and messages have phrases and citations.
type wordCount struct{ phrases, citations int }

// countWords returns the counts by folder, and the places. Folders without any are left out.
func countWords(repo *repository) (counts map[string]wordCount, places map[string][]string) {
	counts, places = map[string]wordCount{}, map[string][]string{}
	for _, p := range repo.packages {
		for _, f := range p.files {
			count := func(node ast.Node, text string) {
				for n, line := range strings.Split(text, "\n") {
					c := counts[p.dir]
					c.phrases += min(1, len(phrases.FindAllString(line, -1)))
					c.citations += min(1, len(citations.FindAllString(line, -1)))
					if c != counts[p.dir] {
						counts[p.dir] = c
						at := repo.fset.Position(node.Pos())
						places[p.dir] = append(places[p.dir], fmt.Sprintf("%s:%d: %s", at.Filename, at.Line+n, strings.TrimSpace(line)))
					}
				}
			}
			for _, group := range f.ast.Comments {
				for _, comment := range group.List {
					count(comment, comment.Text)
				}
			}
			ast.Inspect(f.ast, func(node ast.Node) bool {
				if literal, ok := node.(*ast.BasicLit); ok && literal.Kind == token.STRING && !f.test {
					count(literal, literal.Value)
				}
				return true
			})
		}
	}
	return counts, places
}

// LowerWords returns the content of wordsFile for the repository below root. No number is higher
// than it is in the file, so that a check still fails where the wording got worse.
func LowerWords(root string) (string, error) {
	files, err := readTree(root)
	if err != nil {
		return "", err
	}
	repo, err := parse(files)
	if err != nil {
		return "", err
	}
	allowed, err := allowedWords(repo)
	if err != nil {
		return "", err
	}
	counts, _ := countWords(repo)
	text := "# Lines of comments and messages, by folder: with phrases that the field does not use; with\n" +
		"# citations of what is not in the repository. Written by hack/generate.sh, which only lowers them.\n"
	for _, dir := range slices.Sorted(maps.Keys(counts)) {
		text += fmt.Sprintf("%s %d %d\n", dir, min(counts[dir].phrases, allowed[dir].phrases), min(counts[dir].citations, allowed[dir].citations))
	}
	return text, nil
}

// allowedWords reads wordsFile.
func allowedWords(repo *repository) (map[string]wordCount, error) {
	allowed := map[string]wordCount{}
	for line := range strings.Lines(repo.tree[wordsFile]) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var dir string
		var c wordCount
		if _, err := fmt.Sscanf(line, "%s %d %d\n", &dir, &c.phrases, &c.citations); err != nil {
			return nil, fmt.Errorf("%s: cannot read %q", wordsFile, strings.TrimSpace(line))
		}
		allowed[dir] = c
	}
	return allowed, nil
}

// wordsFall checks that the numbers are those of wordsFile.
func wordsFall(repo *repository) []string {
	allowed, err := allowedWords(repo)
	if err != nil {
		return []string{err.Error()}
	}
	counts, places := countWords(repo)
	var broken []string
	for _, dir := range slices.Sorted(maps.Keys(counts)) {
		is, may := counts[dir], allowed[dir]
		if is.phrases > may.phrases || is.citations > may.citations {
			broken = append(broken, fmt.Sprintf("%s: %d lines with phrases and %d with citations, allowed are %d and %d; reword those that are new, or move the numbers with code that moved:\n%s",
				dir, is.phrases, is.citations, may.phrases, may.citations, strings.Join(places[dir], "\n")))
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(allowed)) {
		if is, may := counts[dir], allowed[dir]; is.phrases < may.phrases || is.citations < may.citations {
			broken = append(broken, fmt.Sprintf("%s: %d lines with phrases and %d with citations are left; make generate lowers the numbers in %s", dir, is.phrases, is.citations, wordsFile))
		}
	}
	return broken
}
