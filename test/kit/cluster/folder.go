package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const (
	// folderPrefix begins the name of every cluster's folder.
	folderPrefix = "csi-clone-cluster-"
	// ownerFile is locked by the process a folder belongs to.
	ownerFile = "owner.lock"
	// keptFile says that a folder was left on purpose.
	keptFile = "kept"
)

// folder is where a cluster keeps its data, certificates and logs.
type folder struct {
	path string
	// lock is held as long as the folder has an owner.
	lock *os.File
}

// newFolder makes a folder and sweeps away what killed owners left.
func newFolder(parent string) (*folder, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	sweep(parent)
	path, err := os.MkdirTemp(parent, folderPrefix)
	if err != nil {
		return nil, fmt.Errorf("making a folder for the cluster: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, ownerFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err == nil {
		// Written only once locked: see abandoned.
		_, err = fmt.Fprintln(lock, os.Getpid())
	}
	if err != nil {
		return nil, fmt.Errorf("locking the cluster's folder %s: %w", path, errors.Join(err, os.RemoveAll(path)))
	}
	return &folder{path: path, lock: lock}, nil
}

// sweep removes the folders whose owner is gone. It does what it can: a folder
// of another user is none of our business.
func sweep(parent string) {
	paths, err := filepath.Glob(filepath.Join(parent, folderPrefix+"*"))
	if err != nil {
		return
	}
	for _, path := range paths {
		if abandoned(path) {
			_ = os.RemoveAll(path)
		}
	}
}

// abandoned says whether a folder's owner was killed before it could stop the
// cluster. A folder whose lock file is missing or still empty is just being made.
func abandoned(path string) bool {
	if _, err := os.Stat(filepath.Join(path, keptFile)); err == nil {
		return false
	}
	lock, err := os.OpenFile(filepath.Join(path, ownerFile), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer lock.Close()
	if info, err := lock.Stat(); err != nil || info.Size() == 0 {
		return false
	}
	return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// remove deletes the folder with all that is in it.
func (f *folder) remove() error {
	defer f.lock.Close()
	if err := os.RemoveAll(f.path); err != nil {
		return fmt.Errorf("removing the cluster's folder: %w", err)
	}
	return nil
}

// keep leaves the folder as it is.
func (f *folder) keep() error {
	defer f.lock.Close()
	if err := os.WriteFile(filepath.Join(f.path, keptFile), nil, 0o600); err != nil {
		return fmt.Errorf("marking the cluster's folder as kept: %w", err)
	}
	return nil
}

// keepLogs leaves the logs and removes everything else.
func (f *folder) keepLogs() error {
	errs := []error{f.keep()}
	var folders []string
	errs = append(errs, filepath.WalkDir(f.path, func(path string, entry os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			folders = append(folders, path)
			return nil
		case strings.HasSuffix(path, ".log") || entry.Name() == keptFile:
			return nil
		}
		return os.Remove(path)
	}))
	for _, path := range slices.Backward(folders) {
		_ = os.Remove(path) // those with logs in them stay
	}
	return errors.Join(errs...)
}
