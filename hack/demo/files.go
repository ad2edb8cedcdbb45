package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const mebibyte = 1 << 20

// content lists the files of the source volume: 27 MiB in all, whole and odd
// sizes, folders, and an empty file.
func content() []fileSize {
	return []fileSize{
		{"notes.txt", 1000},
		{"database/table-1.dat", 16 * mebibyte},
		{"database/table-2.dat", 8 * mebibyte},
		{"database/index.dat", 3*mebibyte + 17},
		{"log/empty.log", 0},
		{"log/deep/er/today.log", 4097},
	}
}

type fileSize struct {
	name string
	size int64
}

type fileSum struct {
	name string
	size int64
	// sum is the SHA-256 in hex.
	sum string
}

// writeContent writes the files with data drawn from a seed.
func writeContent(dir string, seed uint64) error {
	for i, file := range content() {
		path := filepath.Join(dir, file.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("writing into the volume: %w", err)
		}
		if err := writeFile(path, file.size, keyOf(seed, i)); err != nil {
			return fmt.Errorf("writing %s into the volume: %w", file.name, err)
		}
	}
	return nil
}

// keyOf returns the key of the random data of one file.
func keyOf(seed uint64, file int) [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "demo %d %d", seed, file))
}

func writeFile(path string, size int64, key [32]byte) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.CopyN(file, rand.NewChaCha8(key), size); err != nil {
		_ = file.Close() // the other error is the cause
		return err
	}
	return file.Close()
}

// sumContent returns the checksums of all files of a volume, by name.
func sumContent(dir string) ([]fileSum, error) {
	var sums []fileSum
	// A published volume may be a link, which WalkDir would not follow.
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("looking into the volume: %w", err)
	}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		sum, err := sumFile(path)
		if err != nil {
			return err
		}
		sum.name, err = filepath.Rel(root, path)
		sums = append(sums, sum)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the volume: %w", err)
	}
	return sums, nil
}

func sumFile(path string) (fileSum, error) {
	file, err := os.Open(path)
	if err != nil {
		return fileSum{}, err
	}
	defer file.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, file)
	return fileSum{size: size, sum: hex.EncodeToString(sum.Sum(nil))}, err
}

// sameContent returns an error that says where two volumes differ.
func sameContent(source, clone []fileSum) error {
	if slices.Equal(source, clone) {
		return nil
	}
	return fmt.Errorf("the volumes differ:\n%s", table(source, clone))
}

// table shows the checksums of source and clone side by side; only their
// beginnings, a person compares.
func table(source, clone []fileSum) string {
	const shown = 16
	cloned := map[string]fileSum{}
	for _, file := range clone {
		cloned[file.name] = file
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "%-24s %12s  %-18s %-18s\n", "FILE", "BYTES", "SOURCE SHA-256", "CLONE SHA-256")
	for _, file := range source {
		other, found := cloned[file.name]
		delete(cloned, file.name)
		mark := "equal"
		switch {
		case !found:
			other.sum, mark = strings.Repeat("-", shown), "only here"
		case other.sum != file.sum:
			mark = "DIFFERENT"
		}
		fmt.Fprintf(&text, "%-24s %12d  %-18s %-18s %s\n", file.name, file.size, file.sum[:shown]+"…", other.sum[:shown]+"…", mark)
	}
	for name, file := range cloned {
		fmt.Fprintf(&text, "%-24s %12d  %-18s %-18s %s\n", name, file.size, strings.Repeat("-", shown), file.sum[:shown]+"…", "only there")
	}
	return text.String()
}
