package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	procsFile  = "cgroup.procs"
	// controllersFile is there in version 2 only.
	controllersFile = "cgroup.controllers"
)

// enterCgroups puts this process into control groups of the sandbox's name, and makes them
// the top for this thread and what it starts, so that those of containers are made below
// and can be found. Version 1 has a hierarchy for each controller.
func enterCgroups(name string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	unified := exists(filepath.Join(cgroupRoot, controllersFile))
	if unified {
		passOnControllers(cgroupRoot)
	}
	for _, root := range roots {
		if err := enterCgroup(root, name); err != nil {
			return fmt.Errorf("entering a control group: %w", err)
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("parting from the control groups outside: %w", err)
	}
	if !unified {
		return nil
	}
	// In version 2 a group whose children have processes must have none itself.
	if err := enterCgroup(cgroupRoot, filepath.Join(name, "programs")); err != nil {
		return fmt.Errorf("entering a control group: %w", err)
	}
	return nil
}

// passOnControllers lets groups below one of version 2 use its controllers, each as far as
// that is permitted: which of them are indispensable is for the kubelet to say.
func passOnControllers(group string) {
	controllers, err := os.ReadFile(filepath.Join(group, controllersFile))
	if err != nil {
		return
	}
	for controller := range strings.FieldsSeq(string(controllers)) {
		_ = os.WriteFile(filepath.Join(group, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
	}
}

func enterCgroup(root, name string) error {
	// Without this a new group of the controller cpuset may use no processor at all.
	inherit := filepath.Join(root, "cgroup.clone_children")
	if exists(inherit) && exists(filepath.Join(root, "cpuset.cpus")) {
		if err := os.WriteFile(inherit, []byte("1"), 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, name, procsFile), []byte("0"), 0o644)
}

// narrowCgroups makes the sandbox's control groups the only ones that are seen in it:
// a runtime that makes groups at the top of a hierarchy then makes them below ours.
func narrowCgroups(name string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		if err := unix.Mount(filepath.Join(root, name), root, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("narrowing the view of control groups: %w", err)
		}
	}
	return nil
}

// hierarchies returns the roots of all hierarchies that are mounted.
func hierarchies() ([]string, error) {
	var roots []string
	for _, pattern := range []string{"", "*"} {
		found, err := filepath.Glob(filepath.Join(cgroupRoot, pattern, procsFile))
		if err != nil {
			return nil, fmt.Errorf("looking for control groups: %w", err)
		}
		for _, file := range found {
			roots = append(roots, filepath.Dir(file))
		}
		if len(roots) > 0 && pattern == "" {
			break // version 2: what is below are groups
		}
	}
	return roots, nil
}

// removeCgroups removes a sandbox's control groups, which hold no process any more.
func removeCgroups(name string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	var errs []error
	for _, root := range roots {
		var groups []string
		err := filepath.WalkDir(filepath.Join(root, name), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				groups = append(groups, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("looking into control group %s: %w", filepath.Join(root, name), err))
		}
		for _, group := range slices.Backward(groups) {
			if err := unix.Rmdir(group); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("removing control group %s: %w", group, err))
			}
		}
	}
	return errors.Join(errs...)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
