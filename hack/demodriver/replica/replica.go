package replica

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Options changes how Make works; the zero value is right for production.
type Options struct {
	// NoSync leaves it to the operating system when data reach the disk.
	NoSync bool
	// CloneFile makes dst share the blocks of src, or returns an error that is
	// errors.ErrUnsupported when it cannot. Nil means FICLONE.
	CloneFile func(dst, src *os.File) error
}

// Report says what was copied and how.
type Report struct {
	Files    int   // regular files, hard links counted once
	Reflinks int   // of these, files that share blocks with their source
	Bytes    int64 // apparent size of all files
}

// Method names the way the data went: "reflink", "copy", "reflink+copy", or
// "empty" when no file was there.
func (r Report) Method() string {
	switch {
	case r.Files == 0:
		return "empty"
	case r.Reflinks == r.Files:
		return "reflink"
	case r.Reflinks == 0:
		return "copy"
	default:
		return "reflink+copy"
	}
}

// Make copies src, a directory or a regular file, to dst. A destination
// directory may exist, a destination file must not. It stops when ctx ends.
func Make(ctx context.Context, src, dst string, opts Options) (Report, error) {
	if opts.CloneFile == nil {
		opts.CloneFile = ficlone
	}
	c := &copier{opts: opts, dst: dst, links: map[inode]string{}}
	// The parent is the driver's own; src itself is opened below it so that one
	// way of opening serves a file and a tree alike.
	root, err := os.OpenRoot(filepath.Dir(src))
	if err != nil {
		return Report{}, fmt.Errorf("opening the directory of source %q: %w", src, err)
	}
	defer root.Close()
	info, err := root.Lstat(filepath.Base(src))
	if err != nil {
		return Report{}, fmt.Errorf("reading source %q: %w", src, err)
	}
	c.src = root
	if !info.IsDir() {
		err = c.file(ctx, filepath.Base(src), dst)
		return c.report, err
	}
	c.src, err = root.OpenRoot(filepath.Base(src))
	if err != nil {
		return Report{}, fmt.Errorf("opening source directory %q: %w", src, err)
	}
	defer c.src.Close()
	err = c.dir(ctx, ".", info)
	return c.report, err
}

// inode identifies a source file that has several names.
type inode struct {
	dev, ino uint64
}

// copier copies one source.
type copier struct {
	opts   Options
	src    *os.Root // paths below are relative to it
	dst    string
	links  map[inode]string // first copy of a source file with several names
	report Report
}

// dir copies a directory: its content first, because that changes the times of
// the directory and may need permissions that it will not have.
func (c *copier) dir(ctx context.Context, name string, info fs.FileInfo) error {
	target := filepath.Join(c.dst, name)
	if err := os.Mkdir(target, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making directory of the copy: %w", err)
	}
	from, err := c.src.Open(name)
	if err != nil {
		return fmt.Errorf("opening source directory %q: %w", name, err)
	}
	defer from.Close()
	entries, err := from.ReadDir(-1)
	if err != nil {
		return fmt.Errorf("listing source directory %q: %w", name, err)
	}
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := c.entry(ctx, filepath.Join(name, entry.Name()))
		if err != nil && !c.vanished(filepath.Join(name, entry.Name()), err) {
			return err
		}
	}
	return c.finishDir(from, target, info)
}

func (c *copier) finishDir(from *os.File, target string, info fs.FileInfo) error {
	to, err := os.Open(target)
	if err != nil {
		return fmt.Errorf("opening directory of the copy: %w", err)
	}
	defer to.Close()
	if err := copyXattrs(to, from); err != nil {
		return err
	}
	if err := setAttributes(target, info); err != nil {
		return err
	}
	return c.sync(to)
}

// vanished is true when an error is due to the source file having been deleted
// since its directory was listed.
func (c *copier) vanished(name string, err error) bool {
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, err = c.src.Lstat(name)
	return errors.Is(err, fs.ErrNotExist)
}

// entry copies one name in a directory.
func (c *copier) entry(ctx context.Context, name string) error {
	info, err := c.src.Lstat(name)
	if err != nil {
		return fmt.Errorf("reading source %q: %w", name, err)
	}
	target := filepath.Join(c.dst, name)
	if info.IsDir() {
		return c.dir(ctx, name, info)
	}
	if done, err := c.hardLink(target, info); done || err != nil {
		return err
	}
	switch {
	case info.Mode().IsRegular():
		return c.file(ctx, name, target)
	case info.Mode()&fs.ModeSymlink != 0:
		return c.symlink(name, target, info)
	default:
		return special(target, info)
	}
}

// hardLink links target to the copy of the same source file, if there is one.
func (c *copier) hardLink(target string, info fs.FileInfo) (bool, error) {
	st := info.Sys().(*syscall.Stat_t)
	first, ok := c.links[inode{st.Dev, st.Ino}]
	if !ok {
		return false, nil
	}
	if err := os.Link(first, target); err != nil {
		return false, fmt.Errorf("making hard link of the copy: %w", err)
	}
	return true, nil
}

// remember keeps the first copy of a source file that has several names. Only
// regular files are worth it; info is of the file as it was opened.
func (c *copier) remember(target string, info fs.FileInfo) {
	st := info.Sys().(*syscall.Stat_t)
	if st.Nlink > 1 {
		c.links[inode{st.Dev, st.Ino}] = target
	}
}

func (c *copier) symlink(name, target string, info fs.FileInfo) error {
	text, err := c.src.Readlink(name)
	if err != nil {
		return fmt.Errorf("reading source link %q: %w", name, err)
	}
	if err := os.Symlink(text, target); err != nil {
		return fmt.Errorf("making symbolic link of the copy: %w", err)
	}
	return setAttributes(target, info)
}

func (c *copier) sync(file *os.File) error {
	if c.opts.NoSync {
		return nil
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("syncing %q to disk: %w", file.Name(), err)
	}
	return nil
}
