package house

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// write puts files into a new folder.
func write(t *testing.T, files tree) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		name = filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func read(t *testing.T, root string) string {
	t.Helper()
	files, err := readTree(root)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(slices.Sorted(maps.Keys(files)), " ")
}

var workTree = tree{
	".gitignore":      "bin/\n*.log\n",
	"go.mod":          "module m\n",
	"pkg/app/a.go":    "package app\n",
	"pkg/app/run.log": "x",
	"bin/tool":        "x",
	"vendor/v/v.go":   "package v\n",
	"docs/large.txt":  strings.Repeat("x", maxFileBytes+1),
}

func TestReadTreeAsksGit(t *testing.T) {
	root := write(t, workTree)
	for _, args := range [][]string{{"init", "--quiet"}, {"add", "go.mod"}} {
		if output, err := git(root, args...).CombinedOutput(); err != nil {
			t.Skipf("no working git: %v: %s", err, output)
		}
	}
	if got, want := read(t, root), ".gitignore go.mod pkg/app/a.go"; got != want {
		t.Errorf("tracked and new files: got %s, want %s", got, want)
	}
	if err := os.Remove(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, root), ".gitignore pkg/app/a.go"; got != want {
		t.Errorf("after a file was deleted: got %s, want %s", got, want)
	}
}

func TestReadTreeWithoutGit(t *testing.T) {
	root := write(t, workTree)
	if got, want := read(t, root), ".gitignore go.mod pkg/app/a.go pkg/app/run.log"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
