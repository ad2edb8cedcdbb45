package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// privateFolders returns the folders that a kubelet and its helpers use wherever they are
// told to keep their data, and those that some of Kubernetes' tests take for given. Each
// sandbox has them for itself.
func privateFolders() []string {
	return []string{"/var/lib/kubelet", "/var/lib/cni", "/var/log/containers", "/var/log/pods", "/opt/containerd"}
}

// privateSettings returns the settings of the kernel that a kubelet changes. They belong
// to the whole machine, so a sandbox has files in their place.
func privateSettings() []string {
	return []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	}
}

// mountAll gives the sandbox its own view of the file system: nothing that is mounted
// here shows outside, and processes and sockets of outside do not show here.
func mountAll() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("parting from the mounts outside: %w", err)
	}
	// Shared within, so that what containers see follows what is mounted later.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("sharing mounts with containers: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	home := os.Getenv(folderVariable)
	if err := narrowCgroups(filepath.Base(home)); err != nil {
		return err
	}
	covered := map[string]bool{}
	for _, path := range privateFolders() {
		if err := makeMountPoint(path, covered); err != nil {
			return err
		}
		dir := filepath.Join(home, "private", path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making the sandbox's own %s: %w", path, err)
		}
		if err := unix.Mount(dir, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", path, err)
		}
	}
	return hideSettings(filepath.Join(home, "private", "sys"))
}

// hideSettings puts files with the same content in the place of the kernel's settings.
func hideSettings(dir string) error {
	for _, name := range privateSettings() {
		path := "/proc/sys/" + name
		value, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading a setting of the kernel: %w", err)
		}
		cover := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(cover), 0o755), os.WriteFile(cover, value, 0o644)); err != nil {
			return fmt.Errorf("hiding setting %s of the kernel: %w", name, err)
		}
		if err := unix.Mount(cover, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("hiding setting %s of the kernel: %w", name, err)
		}
	}
	return nil
}

// makeMountPoint sees to a folder that the system outside need not have. Where it has
// none, the parent is covered by one that has everything which was there, and it: outside
// nothing is made. covered are the parents for which that was done.
func makeMountPoint(path string, covered map[string]bool) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(path)
	if covered[parent] {
		return os.Mkdir(path, 0o755)
	}
	covered[parent] = true
	entries, err := os.ReadDir(parent)
	if err != nil {
		return fmt.Errorf("looking into %s: %w", parent, err)
	}
	before, err := os.MkdirTemp("/run", "covered-")
	if err != nil {
		return fmt.Errorf("making a mount point: %w", err)
	}
	if err := unix.Mount(parent, before, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("keeping what is in %s: %w", parent, err)
	}
	// Else the cover would be put on what is kept, too.
	if err := unix.Mount("", before, "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping what is in %s: %w", parent, err)
	}
	if err := unix.Mount("tmpfs", parent, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("covering %s: %w", parent, err)
	}
	for _, entry := range entries {
		if err := uncover(filepath.Join(before, entry.Name()), filepath.Join(parent, entry.Name()), entry); err != nil {
			return fmt.Errorf("showing %s again: %w", filepath.Join(parent, entry.Name()), err)
		}
	}
	return os.Mkdir(path, 0o755)
}

// uncover shows at a path what is at another one. Sockets, pipes and the like are left
// out: a view of the file system needs none.
func uncover(from, to string, entry fs.DirEntry) error {
	switch {
	case entry.IsDir():
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
		return unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
	case entry.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		return errors.Join(err, os.Symlink(target, to))
	case entry.Type().IsRegular():
		if err := os.WriteFile(to, nil, 0o644); err != nil {
			return err
		}
		return unix.Mount(from, to, "", unix.MS_BIND, "")
	}
	return nil
}
