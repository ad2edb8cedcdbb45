package house

// reasonsFile is a small pkg/verdict; entries are the rows of its catalogue.
func reasonsFile(entries string) string {
	return `package verdict

type Reason string

type Type string

const Normal Type = "Normal"

const (
	Small Reason = "CloneTooSmall"
	Busy  Reason = "CloneSourceBusy"
)

const notAReason = "CloneNothing"

type Entry struct {
	Reason                Reason
	Type                  Type
	Object, Meaning, Do string
}

func Catalogue() []Entry {
	const claim = "claim"
	return []Entry{
` + entries + `
	}
}
`
}

const (
	smallEntry = `{Small, Normal, claim, "Too small, or " + "\"a|b\".", "Ask for more."},`
	smallRow   = "| `CloneTooSmall` | Normal | claim | Too small, or \"a\\|b\". | Ask for more. |\n"
	busyEntry  = `{Do: "Wait.", Meaning: "Busy.", Object: claim, Type: Normal, Reason: Busy},`
	busyRow    = "| `CloneSourceBusy` | Normal | claim | Busy. | Wait. |\n"
)

func reasonExamples() []example {
	return []example{
		{
			name:  "reasons that nobody explains, or twice, or half",
			check: reasonsExplained,
			tree: tree{
				"pkg/verdict/a.go": reasonsFile(`{Small, Normal, claim, " ", ""}, ` + "\n" + smallEntry + "\n" + `{"CloneOther", Normal, claim, "M.", "D."},`),
				"docs/events.md":   smallRow + "| `CloneOther` | Normal | claim | M. | D. |\n",
			},
			want: []string{
				"pkg/verdict/a.go:11: reason CloneSourceBusy is not in Catalogue: say what it means and what to do",
				"pkg/verdict/a.go:25: reason CloneTooSmall has no Meaning",
				"pkg/verdict/a.go:25: reason CloneTooSmall has no Do",
				"pkg/verdict/a.go:26: reason CloneTooSmall is in Catalogue twice",
				"pkg/verdict/a.go:27: this entry of Catalogue has no constant of type Reason",
				"docs/events.md:1: the row of reason CloneTooSmall is not what Catalogue says: run make generate",
			},
		}, {
			name:  "a page that is behind",
			check: reasonsExplained,
			tree: tree{
				"pkg/verdict/a.go": reasonsFile(smallEntry + "\n" + busyEntry),
				"docs/events.md":   "| Reason | Type |\n|---|---|\n" + smallRow + smallRow + "| `CloneGone` | Normal | claim | M. | D. |\n",
			},
			want: []string{
				"docs/events.md:4: a second row for reason CloneTooSmall: run make generate",
				"docs/events.md:5: reason CloneGone is not in Catalogue: run make generate",
				"docs/events.md: no row for reason CloneSourceBusy: run make generate",
			},
		}, {
			name:  "no page",
			check: reasonsExplained,
			tree:  tree{"pkg/verdict/a.go": reasonsFile(smallEntry + "\n" + busyEntry)},
			want:  []string{"docs/events.md: missing: run make generate"},
		}, {
			name:  "a page without any reason in the code proves nothing",
			check: reasonsExplained,
			tree:  tree{"pkg/verdict/a.go": "package verdict\n\nconst small = \"CloneTooSmall\"\n", "docs/events.md": smallRow},
			want:  []string{"pkg/verdict: no constant of type Reason found"},
		}, {
			name:  "every reason is explained, and the page says so",
			check: reasonsExplained,
			tree: tree{
				"pkg/verdict/a.go": reasonsFile(smallEntry + "\n" + busyEntry),
				"docs/events.md":   "# Events\n\n| Reason | Type |\n|---|---|\n" + smallRow + busyRow,
			},
		},
	}
}
