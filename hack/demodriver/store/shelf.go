package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	recordFile = "record.json"
	dataName   = "data"
)

// Shelf holds the objects of one kind. Records it returns are shared: do not
// change their maps.
type Shelf struct {
	index
	dir    string
	tmp    string
	prefix string
	sync   bool
}

func openShelf(base, kind, prefix string, sync bool) (*Shelf, error) {
	s := &Shelf{
		index:  index{byID: map[string]Record{}, byName: map[string]string{}},
		dir:    filepath.Join(base, kind),
		tmp:    filepath.Join(base, "tmp"),
		prefix: prefix,
		sync:   sync,
	}
	// 0711: workloads of an unprivileged demo reach their data through here.
	if err := os.Mkdir(s.dir, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("making store: %w", err)
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("reading store: %w", err)
	}
	for _, entry := range entries {
		var r Record
		if err := readJSON(filepath.Join(s.dir, entry.Name(), recordFile), &r); err != nil {
			return nil, err
		}
		if r.ID != entry.Name() {
			return nil, fmt.Errorf("record in %q is of %q; remove or rename the directory by hand", filepath.Join(s.dir, entry.Name()), r.ID)
		}
		s.put(r)
	}
	return s, nil
}

// Get finds an object by id.
func (s *Shelf) Get(id string) (Record, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.byID[id]
	return r, ok
}

// ByName finds an object by the name it was created under.
func (s *Shelf) ByName(name string) (Record, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.byID[s.byName[name]]
	return r, ok
}

// List returns all objects, oldest first.
func (s *Shelf) List() []Record {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]Record, 0, len(s.byID))
	for _, r := range s.byID {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Record) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Bytes returns the sum of all sizes.
func (s *Shelf) Bytes() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var sum int64
	for _, r := range s.byID {
		sum += r.Bytes
	}
	return sum
}

// Path is where the data of an object are.
func (s *Shelf) Path(id string) string { return filepath.Join(s.dir, id, dataName) }

// Draft is an object in the making: nobody sees it until Commit.
type Draft struct {
	shelf *Shelf
	id    string
	dir   string
}

// Begin makes an empty draft under a new id. End it with Commit or Discard.
func (s *Shelf) Begin() (*Draft, error) {
	d := &Draft{shelf: s, id: newID(s.prefix)}
	d.dir = filepath.Join(s.tmp, d.id)
	if err := os.Mkdir(d.dir, 0o711); err != nil {
		return nil, fmt.Errorf("making directory for a new object: %w", err)
	}
	return d, nil
}

// Path is where the data are to be put: nothing is there yet.
func (d *Draft) Path() string { return filepath.Join(d.dir, dataName) }

// Commit makes the draft an object with the next id and the current time. After
// an error the draft is still there.
func (d *Draft) Commit(r Record) (Record, error) {
	r.ID = d.id
	r.CreatedAt = time.Now().UTC()
	if err := writeJSON(filepath.Join(d.dir, recordFile), r, d.shelf.sync); err != nil {
		return Record{}, err
	}
	final := filepath.Join(d.shelf.dir, d.id)
	if err := os.Rename(d.dir, final); err != nil {
		return Record{}, fmt.Errorf("putting %q in place: %w", d.id, err)
	}
	if err := syncDir(d.shelf.dir, d.shelf.sync); err != nil {
		// It may or may not survive a crash. Take it back, so that what the caller
		// is told and what is here agree.
		return Record{}, errors.Join(err, os.Rename(final, d.dir))
	}
	d.shelf.put(r)
	return r, nil
}

// Discard removes the draft and what is in it.
func (d *Draft) Discard() error { return removeTree(d.dir) }

// Save replaces the record of an object that is there.
func (s *Shelf) Save(r Record) error {
	if err := writeJSON(filepath.Join(s.dir, r.ID, recordFile), r, s.sync); err != nil {
		return err
	}
	s.put(r)
	return nil
}

// Remove deletes an object. Its absence is no error. It is gone with the rename;
// when removing the data fails the error is returned and the rest goes at the
// next Open.
func (s *Shelf) Remove(id string) error {
	if _, ok := s.Get(id); !ok {
		return nil
	}
	trash := filepath.Join(s.tmp, id+".deleted")
	if err := os.Rename(filepath.Join(s.dir, id), trash); err != nil {
		return fmt.Errorf("taking %q away: %w", id, err)
	}
	s.drop(id)
	if err := syncDir(s.dir, s.sync); err != nil {
		return err
	}
	return removeTree(trash)
}
