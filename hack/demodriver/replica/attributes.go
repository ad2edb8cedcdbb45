package replica

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// setAttributes gives target the owner, mode and modification time in info.
// The owner comes first: changing it drops the set-user-id bits.
func setAttributes(target string, info fs.FileInfo) error {
	st := info.Sys().(*syscall.Stat_t)
	err := os.Lchown(target, int(st.Uid), int(st.Gid))
	if err != nil && !errors.Is(err, fs.ErrPermission) { // only root may give files away
		return fmt.Errorf("setting owner of the copy: %w", err)
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		if err := unix.Chmod(target, st.Mode&0o7777); err != nil {
			return fmt.Errorf("setting mode of copy %q: %w", target, err)
		}
	}
	times := []unix.Timespec{unix.Timespec(st.Atim), unix.Timespec(st.Mtim)}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, target, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("setting times of copy %q: %w", target, err)
	}
	return nil
}

// special makes a pipe, socket or device like the one info describes. Nothing
// is opened.
func special(target string, info fs.FileInfo) error {
	st := info.Sys().(*syscall.Stat_t)
	if err := unix.Mknod(target, st.Mode, int(st.Rdev)); err != nil {
		return fmt.Errorf("making special file %q of the copy: %w", target, err)
	}
	return setAttributes(target, info)
}

// copyXattrs copies the extended attributes that belong to the data: the user's,
// access control lists and file capabilities. What the file system or our rights
// do not allow is left out.
func copyXattrs(dst, src *os.File) error {
	names, err := readXattr(func(buf []byte) (int, error) { return unix.Flistxattr(int(src.Fd()), buf) })
	if err != nil {
		return fmt.Errorf("listing attributes of %q: %w", src.Name(), err)
	}
	for raw := range bytes.SplitSeq(names, []byte{0}) {
		name := string(raw)
		if !wanted(name) {
			continue
		}
		value, err := readXattr(func(buf []byte) (int, error) { return unix.Fgetxattr(int(src.Fd()), name, buf) })
		if err != nil {
			return fmt.Errorf("reading attribute %q of %q: %w", name, src.Name(), err)
		}
		if err := unix.Fsetxattr(int(dst.Fd()), name, value, 0); err != nil && !unavailable(err) {
			return fmt.Errorf("setting attribute %q of the copy: %w", name, err)
		}
	}
	return nil
}

func wanted(name string) bool {
	return strings.HasPrefix(name, "user.") ||
		strings.HasPrefix(name, "system.posix_acl_") ||
		name == "security.capability"
}

// readXattr calls read with a buffer that is large enough; nil where attributes
// do not exist.
func readXattr(read func([]byte) (int, error)) ([]byte, error) {
	for {
		size, err := read(nil)
		if unavailable(err) || size == 0 {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		buf := make([]byte, size)
		n, err := read(buf)
		if errors.Is(err, unix.ERANGE) {
			continue // it grew meanwhile
		}
		if unavailable(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}

func unavailable(err error) bool {
	return errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENODATA)
}
