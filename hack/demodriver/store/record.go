package store

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Record describes a volume or a snapshot; it is what survives a restart.
type Record struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
	// Block is true when data is a file that stands for a block device.
	Block      bool              `json:"block,omitempty"`
	Parameters map[string]string `json:"parameters,omitempty"`
	// MutableParameters are those that the volume has now.
	MutableParameters map[string]string `json:"mutableParameters,omitempty"`
	// Place of the volume, if the driver has several.
	Place map[string]string `json:"place,omitempty"`
	// SourceVolumeID is the volume that was cloned or snapshotted, if any. It
	// may be gone.
	SourceVolumeID string `json:"sourceVolumeID,omitempty"`
	// SourceSnapshotID is the snapshot that was restored, if any.
	SourceSnapshotID string    `json:"sourceSnapshotID,omitempty"`
	CreatedAt        time.Time `json:"createdAt"`
}

// writeJSON replaces the file at path in one step.
func writeJSON(path string, value any, sync bool) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %q: %w", path, err)
	}
	temp := path + ".new"
	if err := writeFile(temp, append(data, '\n'), sync); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("putting %q in place: %w", path, err)
	}
	return syncDir(filepath.Dir(path), sync)
}

func writeFile(path string, data []byte, sync bool) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("writing record: %w", err)
	}
	defer func() {
		if closeErr := file.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("closing record: %w", closeErr)
		}
	}()
	if _, err := file.Write(data); err != nil {
		return fmt.Errorf("writing record: %w", err)
	}
	if !sync {
		return nil
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("syncing record to disk: %w", err)
	}
	return nil
}

func readJSON(path string, value any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading record: %w", err)
	}
	if err := json.Unmarshal(data, value); err != nil {
		return fmt.Errorf("record %q is damaged, remove its directory by hand: %w", path, err)
	}
	return nil
}

// syncDir makes renames in a directory durable.
func syncDir(path string, sync bool) error {
	if !sync {
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening directory to sync it: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("syncing directory %q to disk: %w", path, err)
	}
	return nil
}
