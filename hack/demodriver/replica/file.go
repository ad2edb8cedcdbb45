package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// chunk is how much is copied between two looks at the context: a fraction of a
// second on a slow disk, yet large enough not to be felt.
const chunk = 8 << 20

// file copies a regular file. When a workload replaces it in the same moment the
// copy has one or the other, never a mixture.
func (c *copier) file(ctx context.Context, name, target string) (err error) {
	// Without O_NONBLOCK a pipe put in the place of the file would stop us here.
	src, err := c.src.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("opening source file %q: %w", name, err)
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return fmt.Errorf("reading source file %q: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("source file %q became something else while it was copied; repeat the call", name)
	}
	dst, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("making file of the copy: %w", err)
	}
	defer func() {
		if closeErr := dst.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("closing file of the copy: %w", closeErr)
		}
	}()
	if err := c.content(ctx, dst, src, info.Size()); err != nil {
		return fmt.Errorf("copying source file %q: %w", name, err)
	}
	if err := copyXattrs(dst, src); err != nil {
		return err
	}
	if err := setAttributes(target, info); err != nil {
		return err
	}
	c.remember(target, info)
	return c.sync(dst)
}

// content makes dst equal to src, by reflink if that is possible.
func (c *copier) content(ctx context.Context, dst, src *os.File, size int64) error {
	c.report.Files++
	c.report.Bytes += size
	err := c.opts.CloneFile(dst, src)
	if err == nil {
		c.report.Reflinks++
		return nil
	}
	if !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("sharing blocks: %w", err)
	}
	return copySparse(ctx, dst, src, size)
}

// ficlone makes dst share all blocks of src.
func ficlone(dst, src *os.File) error {
	err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTTY), errors.Is(err, unix.ENOSYS),
		errors.Is(err, unix.EXDEV), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EPERM):
		// What the various kernels and file systems say for "not here".
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	default:
		return err
	}
}

// copySparse copies what is data in src and leaves holes as holes.
func copySparse(ctx context.Context, dst, src *os.File, size int64) error {
	for offset := int64(0); offset < size; {
		start, end, err := extent(src, offset, size)
		if err != nil {
			return err
		}
		if err := copyRange(ctx, dst, src, start, end); err != nil {
			return err
		}
		offset = end
	}
	return dst.Truncate(size)
}

// extent returns the bounds of the first data at or after offset; both are size
// when only a hole follows.
func extent(src *os.File, offset, size int64) (start, end int64, err error) {
	start, err = src.Seek(offset, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size, size, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return offset, size, nil // the file system keeps no books on holes
	case err != nil:
		return 0, 0, fmt.Errorf("looking for data: %w", err)
	}
	end, err = src.Seek(start, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, fmt.Errorf("looking for the next hole: %w", err)
	}
	return min(start, size), min(end, size), nil
}

// copyRange copies bytes start to end, less when src has become shorter.
func copyRange(ctx context.Context, dst, src *os.File, start, end int64) error {
	if _, err := src.Seek(start, io.SeekStart); err != nil {
		return fmt.Errorf("seeking in the source: %w", err)
	}
	if _, err := dst.Seek(start, io.SeekStart); err != nil {
		return fmt.Errorf("seeking in the copy: %w", err)
	}
	for start < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(dst, src, min(chunk, end-start))
		start += n
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
