package store_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver/store"
)

func open(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func begin(t *testing.T, shelf *store.Shelf) *store.Draft {
	t.Helper()
	draft, err := shelf.Begin()
	if err == nil {
		err = os.WriteFile(draft.Path(), []byte("data"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return draft
}

func TestNobodySeesADraft(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	draft := begin(t, s.Volumes)
	if list := s.Volumes.List(); len(list) != 0 {
		t.Errorf("volumes are %v before the commit", list)
	}
	if err := draft.Discard(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(draft.Path()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("data of the discarded draft: %v, want them gone", err)
	}
}

func TestACommittedObjectIsFoundUntilItIsRemoved(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	made, err := begin(t, s.Volumes).Commit(store.Record{Name: "a", Bytes: 7})
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"in the same process", "in the next"} {
		byID, ok := s.Volumes.Get(made.ID)
		byName, _ := s.Volumes.ByName("a")
		content, err := os.ReadFile(s.Volumes.Path(made.ID))
		if !ok || byID.ID != byName.ID || s.Volumes.Bytes() != 7 || string(content) != "data" {
			t.Errorf("%s: %v, %v, data %q (%v)", what, byID, byName, content, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
	}
	defer s.Close()
	for range 2 { // the second time there is nothing to do
		if err := s.Volumes.Remove(made.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := s.Volumes.ByName("a"); ok || s.Volumes.Bytes() != 0 {
		t.Error("the removed volume is still found")
	}
	if _, err := os.Lstat(filepath.Join(dir, "volumes", made.ID)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("directory of the removed volume: %v, want it gone", err)
	}
}

func TestOneProcessHasTheStore(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer s.Close()
	draft := begin(t, s.Volumes)
	if second, err := store.Open(dir, true); err == nil {
		_ = second.Close()
		t.Fatal("it was opened twice")
	}
	if _, err := draft.Commit(store.Record{Name: "a"}); err != nil {
		t.Fatalf("the first one's work after the second one's try: %v", err)
	}
}

func TestPublicationsAreRemembered(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	want := store.Publication{VolumeID: "vol-1", TargetPath: "/a/b", How: "mount", AccessMode: "x"}
	if err := s.Publications.Put(want); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// A crash in the middle of writing another one.
	if err := os.WriteFile(filepath.Join(dir, "published", "0.json.new"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	defer s.Close()
	if got, ok := s.Publications.At("/a/b"); !ok || got != want {
		t.Errorf("publication is %v, want %v", got, want)
	}
	if err := errors.Join(s.Publications.Drop("/a/b"), s.Publications.Drop("/a/b")); err != nil {
		t.Fatal(err)
	}
	if left := s.Publications.Of("vol-1"); len(left) != 0 {
		t.Errorf("publications are %v, want none", left)
	}
}
