package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver/replica"
)

// byCopying stands for a file system that cannot share blocks.
func byCopying(*os.File, *os.File) error { return errors.ErrUnsupported }

// bySharing stands for one that can: the content arrives in one step.
func bySharing(dst, src *os.File) error {
	_, err := io.Copy(dst, src)
	return err
}

// tree makes a directory with one of everything.
func tree(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "source")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, content string, mode fs.FileMode) {
		t.Helper()
		must(os.WriteFile(filepath.Join(root, name), []byte(content), 0o600))
		must(os.Chmod(filepath.Join(root, name), mode))
	}
	must(os.MkdirAll(filepath.Join(root, "sub", "empty"), 0o755))
	write("plain", "hello", 0o644)
	write("nothing", "", 0o600)
	write("sub/program", strings.Repeat("x", 100_000), 0o755|fs.ModeSetuid)
	write("sub/not writable", "z", 0o444)
	must(os.Symlink("../plain", filepath.Join(root, "sub", "link")))
	must(os.Symlink("/nowhere", filepath.Join(root, "dangling")))
	must(os.Link(filepath.Join(root, "plain"), filepath.Join(root, "sub", "second name")))
	must(unix.Mkfifo(filepath.Join(root, "pipe"), 0o620))
	must(os.WriteFile(filepath.Join(root, "sparse"), nil, 0o600))
	must(os.Truncate(filepath.Join(root, "sparse"), 16<<20))
	sparse, err := os.OpenFile(filepath.Join(root, "sparse"), os.O_WRONLY, 0)
	must(err)
	_, err = sparse.WriteAt([]byte("island"), 8<<20)
	must(err)
	must(sparse.Close())
	// Attributes are not available everywhere; where they are they must survive.
	_ = unix.Setxattr(filepath.Join(root, "plain"), "user.colour", []byte("blue"), 0)
	_ = unix.Setxattr(filepath.Join(root, "sub"), "user.empty", nil, 0)
	must(os.Chmod(filepath.Join(root, "sub", "empty"), 0o700|fs.ModeSticky))
	old := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	for _, name := range []string{"plain", "sub/empty", "sub"} {
		must(os.Chtimes(filepath.Join(root, name), old, old))
	}
	must(os.Chmod(filepath.Join(root, "sub"), 0o555))
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(root, "sub"), 0o755) })
	return root
}

// describe writes down all that must be the same in a copy.
func describe(t *testing.T, root string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&out, "%s %s %d:%d %s", name, info.Mode(), st.Uid, st.Gid, info.ModTime().UTC().Format(time.RFC3339Nano))
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %d bytes in %d names, sum %x", len(content), st.Nlink, crc32.ChecksumIEEE(content))
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " -> %s", to)
		}
		value := make([]byte, 64)
		for _, attribute := range []string{"user.colour", "user.empty"} {
			if n, err := unix.Lgetxattr(path, attribute, value); err == nil {
				fmt.Fprintf(&out, " %s=%q", attribute, value[:n])
			}
		}
		fmt.Fprintln(&out)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestACopyEqualsItsSource(t *testing.T) {
	cases := []struct {
		name    string
		options replica.Options
		method  string
	}{
		{"when blocks are copied", replica.Options{CloneFile: byCopying, NoSync: true}, "copy"},
		{"when blocks are shared", replica.Options{CloneFile: bySharing, NoSync: true}, "reflink"},
		{"whatever the file system does", replica.Options{}, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			source := tree(t)
			target := filepath.Join(t.TempDir(), "copy")
			t.Cleanup(func() { _ = os.Chmod(filepath.Join(target, "sub"), 0o755) })
			report, err := replica.Make(t.Context(), source, target, tc.options)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := describe(t, target), describe(t, source); got != want {
				t.Errorf("copy is\n%s\nsource is\n%s", got, want)
			}
			if report.Files != 5 || report.Bytes != 5+0+100_000+1+16<<20 {
				t.Errorf("report says %+v", report)
			}
			if tc.method != "" && report.Method() != tc.method {
				t.Errorf("method is %q, want %q", report.Method(), tc.method)
			}
			t.Logf("method on this file system: %s", report.Method())
		})
	}
}

func TestHolesStayHoles(t *testing.T) {
	source := tree(t)
	target := filepath.Join(t.TempDir(), "copy")
	if _, err := replica.Make(t.Context(), filepath.Join(source, "sparse"), target, replica.Options{CloneFile: byCopying}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(target)
	if err != nil {
		t.Fatal(err)
	}
	if used := info.Sys().(*syscall.Stat_t).Blocks * 512; info.Size() != 16<<20 || used > 1<<20 {
		t.Fatalf("copy has %d bytes and takes %d on disk, want 16 MiB and next to nothing", info.Size(), used)
	}
}

func TestASharedFileIsIndependent(t *testing.T) {
	dir := t.TempDir()
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "copy")
	if err := os.WriteFile(source, bytes.Repeat([]byte("a"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	report, err := replica.Make(t.Context(), source, target, replica.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if report.Method() != "reflink" {
		t.Skip("the file system of the temporary directory cannot share blocks (set TMPDIR to one that can)")
	}
	file, err := os.OpenFile(target, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("b"), 0); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(source)
	if err != nil || content[0] != 'a' {
		t.Fatalf("source begins with %q (%v) after a write to the copy, want a", content[:1], err)
	}
}

func TestCopyingStopsWithItsContext(t *testing.T) {
	for _, name := range []string{"", "plain", "sparse"} {
		source := filepath.Join(tree(t), name)
		ctx, cancel := context.WithCancel(t.Context())
		options := replica.Options{CloneFile: func(*os.File, *os.File) error {
			cancel() // in the middle of a file
			return errors.ErrUnsupported
		}}
		_, err := replica.Make(ctx, source, filepath.Join(t.TempDir(), "copy"), options)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("copying %q ended with %v, want context canceled", name, err)
		}
	}
}

func TestAnErrorOfSharingIsNotTakenForUnsupported(t *testing.T) {
	broken := errors.New("disk is on fire")
	_, err := replica.Make(t.Context(), filepath.Join(tree(t), "plain"), filepath.Join(t.TempDir(), "copy"),
		replica.Options{CloneFile: func(*os.File, *os.File) error { return broken }})
	if !errors.Is(err, broken) {
		t.Fatalf("got %v, want the disk on fire", err)
	}
}

func TestALinkOutOfTheVolumeIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	source := filepath.Join(dir, "source")
	if err := errors.Join(os.WriteFile(secret, []byte("secret"), 0o600), os.Mkdir(source, 0o700),
		os.Symlink(secret, filepath.Join(source, "link"))); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "copy")
	if _, err := replica.Make(t.Context(), source, target, replica.Options{}); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(filepath.Join(target, "link")); err != nil || to != secret {
		t.Fatalf("copy of the link points to %q (%v), want a link as in the source", to, err)
	}
}

func TestFilesThatVanishAreLeftOut(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "source")
	if err := os.Mkdir(source, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(source, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first := true
	options := replica.Options{CloneFile: func(dst, src *os.File) error {
		if first { // whichever is copied first takes the others along
			first = false
			for _, name := range []string{"a", "b", "c"} {
				if name != filepath.Base(src.Name()) {
					_ = os.Remove(filepath.Join(source, name))
				}
			}
		}
		return bySharing(dst, src)
	}}
	report, err := replica.Make(t.Context(), source, filepath.Join(dir, "copy"), options)
	if err != nil || report.Files != 1 {
		t.Fatalf("copied %d files (%v), want the one that stayed", report.Files, err)
	}
}
