package store

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// Store is a directory with volumes and snapshots. One process may have it open
// at a time.
type Store struct {
	Volumes      *Shelf
	Snapshots    *Shelf
	Publications *Publications

	dir  string
	lock *os.File
	sync bool
}

// Open reads the store in dir, which is made if missing, and removes what an
// earlier process left unfinished. With durable, every change is on disk before it
// is reported.
func Open(dir string, durable bool) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("finding store %q: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("making store: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, lock: lock, sync: durable}
	if err := s.load(); err != nil {
		_ = lock.Close() // the first error says more
		return nil, err
	}
	return s, nil
}

// Close lets another process open the store. The caller has ended all work.
func (s *Store) Close() error {
	if err := s.lock.Close(); err != nil {
		return fmt.Errorf("unlocking store %q: %w", s.dir, err)
	}
	return nil
}

// Dir is the store's absolute path.
func (s *Store) Dir() string { return s.dir }

func (s *Store) load() error {
	tmp := filepath.Join(s.dir, "tmp")
	if err := removeTree(tmp); err != nil {
		return fmt.Errorf("removing unfinished work of an earlier process: %w", err)
	}
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return fmt.Errorf("making directory for unfinished work: %w", err)
	}
	var err error
	if s.Volumes, err = openShelf(s.dir, "volumes", "vol-", s.sync); err != nil {
		return err
	}
	if s.Snapshots, err = openShelf(s.dir, "snapshots", "snap-", s.sync); err != nil {
		return err
	}
	s.Publications, err = openPublications(filepath.Join(s.dir, "published"), s.sync)
	return err
}

// lockDir keeps a second process from removing our unfinished work as left over.
// The lock goes with the process, however it ends.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening lock of the store: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("store %q is in use by another driver; stop that one or choose another directory: %w", dir, err)
	}
	return file, nil
}

// removeTree removes a tree, also one with directories that their owner may not
// write to, which an ordinary user cannot remove as they are.
func removeTree(path string) error {
	if err := os.RemoveAll(path); err == nil {
		return nil
	}
	// Errors here show again in RemoveAll.
	_ = filepath.WalkDir(path, func(name string, entry os.DirEntry, _ error) error {
		if entry != nil && entry.IsDir() {
			_ = os.Chmod(name, 0o700)
		}
		return nil
	})
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("removing %q: %w", path, err)
	}
	return nil
}

// newID returns prefix and 16 random hexadecimal digits.
func newID(prefix string) string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	return prefix + hex.EncodeToString(random[:])
}

// index finds records by id and by name. It is safe for concurrent use.
type index struct {
	mu     sync.RWMutex
	byID   map[string]Record
	byName map[string]string
}

func (i *index) put(r Record) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.byID[r.ID] = r
	i.byName[r.Name] = r.ID
}

func (i *index) drop(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.byName, i.byID[id].Name)
	delete(i.byID, id)
}
