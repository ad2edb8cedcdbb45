package cases_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the outcomes into the files instead of comparing them")

const (
	dir = "testdata"
	// plainFile has the one case whose outcome is written out; the others have what is
	// different from it.
	plainFile = "plain.txt"
	// least is how many cases there are at least: a file that is not found, or not read to
	// its end, must not go unseen.
	least = 100
)

func TestCases(t *testing.T) {
	base, err := os.ReadFile(filepath.Join(dir, "base.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	plain := outcome(t, read(t, base, ""))
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	count, seen := 0, map[string]bool{}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			intro, all, err := parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			count += len(all)
			for i, c := range all {
				t.Run(c.name, func(t *testing.T) {
					if seen[c.name] {
						t.Error("there are two cases of this name")
					}
					seen[c.name] = true
					lines := outcome(t, read(t, base, c.input))
					if filepath.Base(path) != plainFile {
						lines = against(plain, lines)
					}
					got := strings.Join(lines, "\n")
					if *update {
						all[i].want = got
					} else if got != c.want {
						t.Errorf("got\n%s\n\nwant\n%s\n", got, c.want)
					}
				})
			}
			after := format(intro, all)
			switch {
			case *update:
				if err := os.WriteFile(path, []byte(after), 0o644); err != nil {
					t.Fatal(err)
				}
			case after != string(text):
				t.Error("the file is not as -update would write it")
			}
		})
	}
	if count < least {
		t.Errorf("%d cases were found, there are %d at least", count, least)
	}
}
