package house

import "testing"

func wordExamples() []example {
	commented := func(comment string) string { return "// Package a is an example.\npackage a\n\n// " + comment + "\n" }
	return []example{
		{"plain words", wordsFall, tree{"pkg/a/a.go": commented("It reports whether the claim exists.")}, nil},
		{"a phrase in a comment", wordsFall, tree{"pkg/a/a.go": commented("It says whether there is one.")}, []string{
			"pkg/a: 1 lines with phrases and 0 with citations, allowed are 0 and 0; reword those that are new, or move the numbers with code that moved:\npkg/a/a.go:4: // It says whether there is one.",
		}},
		{"a phrase in a message", wordsFall, tree{"pkg/a/a.go": goSource("a", "", `func f() string { return "tried again by itself" }`)}, []string{
			"pkg/a: 1 lines with phrases and 0 with citations, allowed are 0 and 0; reword those that are new, or move the numbers with code that moved:\npkg/a/a.go:2: \"tried again by itself\"",
		}},
		{"a citation of what is elsewhere", wordsFall, tree{"pkg/a/a.go": commented(`See the design, "The record".`)}, []string{
			"pkg/a: 0 lines with phrases and 1 with citations, allowed are 0 and 0; reword those that are new, or move the numbers with code that moved:\npkg/a/a.go:4: // See the design, \"The record\".",
		}},
		{"as many as allowed", wordsFall, tree{"pkg/a/a.go": commented("Somebody has it."), wordsFile: "pkg/a 1 0\n"}, nil},
		{"fewer than allowed", wordsFall, tree{"pkg/a/a.go": commented("Fine."), wordsFile: "pkg/a 1 0\n"}, []string{
			"pkg/a: 0 lines with phrases and 0 with citations are left; make generate lowers the numbers in test/house/words.txt",
		}},
		{"a number that is none", wordsFall, tree{wordsFile: "pkg/a one 0\n"}, []string{`test/house/words.txt: cannot read "pkg/a one 0"`}},
	}
}

// What is generated never allows more than before.
func TestLowerWordsRaisesNothing(t *testing.T) {
	text, err := LowerWords("../..")
	if err != nil {
		t.Fatal(err)
	}
	files, err := readTree("../..")
	if err != nil {
		t.Fatal(err)
	}
	before, err := allowedWords(&repository{tree: files})
	if err != nil {
		t.Fatal(err)
	}
	after, err := allowedWords(&repository{tree: tree{wordsFile: text}})
	if err != nil || len(after) == 0 {
		t.Fatalf("%d folders, %v", len(after), err)
	}
	for dir, c := range after {
		if c.phrases > before[dir].phrases || c.citations > before[dir].citations {
			t.Errorf("%s: %+v, before %+v", dir, c, before[dir])
		}
	}
}
