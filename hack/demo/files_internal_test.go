package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func written(t *testing.T, seed uint64) (string, []fileSum) {
	t.Helper()
	dir := t.TempDir()
	if err := writeContent(dir, seed); err != nil {
		t.Fatal(err)
	}
	sums, err := sumContent(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, sums
}

func TestASeedRepeatsTheData(t *testing.T) {
	_, first := written(t, 1)
	_, again := written(t, 1)
	_, other := written(t, 2)
	if len(first) != len(content()) {
		t.Errorf("%d files, want %d", len(first), len(content()))
	}
	if err := sameContent(first, again); err != nil {
		t.Errorf("the same seed gave other data: %v", err)
	}
	if err := sameContent(first, other); err == nil {
		t.Error("another seed gave the same data")
	}
}

func TestChecksumsFollowALinkToTheVolume(t *testing.T) {
	dir, sums := written(t, 3)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	linked, err := sumContent(link)
	if err != nil {
		t.Fatal(err)
	}
	if err := sameContent(sums, linked); err != nil {
		t.Error(err)
	}
}

func TestTheTableTellsFilesApart(t *testing.T) {
	sum := func(letter string) string { return strings.Repeat(letter, 64) }
	source := []fileSum{{"same", 1, sum("a")}, {"changed", 2, sum("b")}, {"lost", 3, sum("c")}}
	clone := []fileSum{{"same", 1, sum("a")}, {"changed", 2, sum("d")}, {"new", 4, sum("e")}}
	lines := strings.Split(strings.TrimSpace(table(source, clone)), "\n")
	for i, want := range []string{"CLONE SHA-256", "equal", "DIFFERENT", "only here", "only there"} {
		if i >= len(lines) || !strings.HasSuffix(strings.TrimRight(lines[i], " "), want) {
			t.Errorf("line %d does not end in %q:\n%s", i, want, strings.Join(lines, "\n"))
		}
	}
}
