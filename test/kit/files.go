package kit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// VolumePath returns where the data of a bound claim's volume are: a folder, or
// a file if it is a block device.
func (e *Env) VolumePath(claim string) string {
	e.t.Helper()
	pv := e.PV(claim)
	handle := e.handleOf(pv)
	if handle == "" {
		e.t.Fatalf("PV %q of claim %q is not of driver %q", pv.Name, claim, e.DriverName)
	}
	for _, server := range e.drivers() {
		if path := server.Driver.VolumePath(handle); path != "" {
			return path
		}
	}
	e.t.Fatalf("driver %q has no volume %q, which PV %q of claim %q names", e.DriverName, handle, pv.Name, claim)
	return ""
}

// WriteFile writes a file into a bound claim's volume, making its folders. Of a
// block volume path is ignored and the start of the device is written.
func (e *Env) WriteFile(claim, path string, content []byte) {
	e.t.Helper()
	if err := writeInto(e.VolumePath(claim), path, content); err != nil {
		e.t.Fatalf("writing %q into the volume of claim %q: %v", path, claim, err)
	}
}

func writeInto(volume, path string, content []byte) error {
	info, err := os.Stat(volume)
	if err != nil {
		return err
	}
	if info.IsDir() {
		target := filepath.Join(volume, path)
		return errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, content, 0o644))
	}
	device, err := os.OpenFile(volume, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = device.WriteAt(content, 0)
	return errors.Join(err, device.Close())
}

// ReadFile reads a file of a bound claim's volume.
func (e *Env) ReadFile(claim, path string) []byte {
	e.t.Helper()
	content, err := os.ReadFile(filepath.Join(e.VolumePath(claim), path))
	if err != nil {
		e.t.Fatalf("reading %q from the volume of claim %q: %v", path, claim, err)
	}
	return content
}

// Checksum returns one sum over all names and contents of a bound claim's
// volume. Two volumes with the same sum hold the same data.
func (e *Env) Checksum(claim string) string {
	e.t.Helper()
	sum, err := Sum(e.VolumePath(claim))
	if err != nil {
		e.t.Fatalf("summing up the volume of claim %q: %v", claim, err)
	}
	return sum
}

// Sum returns one sum over all names and contents of a folder, or of a file.
func Sum(root string) (string, error) {
	sum := sha256.New()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%q %s\n", name, entry.Type())
		if !entry.Type().IsRegular() {
			return nil
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(sum, file)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}
