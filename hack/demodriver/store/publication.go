package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// Publication says that a volume was made visible at a path of this node.
type Publication struct {
	VolumeID   string `json:"volumeID"`
	TargetPath string `json:"targetPath"`
	// How is "mount" or "symlink".
	How        string `json:"how"`
	ReadOnly   bool   `json:"readOnly,omitempty"`
	Block      bool   `json:"block,omitempty"`
	AccessMode string `json:"accessMode"`
}

// Publications remembers what is published where, across restarts.
type Publications struct {
	mu       sync.RWMutex
	dir      string
	sync     bool
	byTarget map[string]Publication
}

func openPublications(dir string, durable bool) (*Publications, error) {
	p := &Publications{dir: dir, sync: durable, byTarget: map[string]Publication{}}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("making store: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading publications: %w", err)
	}
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) != ".json" {
			continue // cut off by a crash while it was written
		}
		var publication Publication
		if err := readJSON(filepath.Join(dir, entry.Name()), &publication); err != nil {
			return nil, err
		}
		p.byTarget[publication.TargetPath] = publication
	}
	return p, nil
}

// At returns what is published at a path.
func (p *Publications) At(target string) (Publication, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	publication, ok := p.byTarget[target]
	return publication, ok
}

// Of returns where a volume is published.
func (p *Publications) Of(volumeID string) []Publication {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var out []Publication
	for _, publication := range p.byTarget {
		if publication.VolumeID == volumeID {
			out = append(out, publication)
		}
	}
	return out
}

// Put remembers a publication.
func (p *Publications) Put(publication Publication) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := writeJSON(p.file(publication.TargetPath), publication, p.sync); err != nil {
		return err
	}
	p.byTarget[publication.TargetPath] = publication
	return nil
}

// Drop forgets what is published at a path, if anything.
func (p *Publications) Drop(target string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := os.Remove(p.file(target)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting publication at %q: %w", target, err)
	}
	delete(p.byTarget, target)
	return syncDir(p.dir, p.sync)
}

// file is named for a digest because a path is no file name.
func (p *Publications) file(target string) string {
	digest := sha256.Sum256([]byte(target))
	return filepath.Join(p.dir, hex.EncodeToString(digest[:8])+".json")
}
