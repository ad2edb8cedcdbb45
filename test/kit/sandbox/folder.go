package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

const (
	// FolderPrefix begins the name of every sandbox's folder.
	FolderPrefix = "csi-clone-node-"
	ownerFile    = "owner.lock"
	// StopScript is the file in a released sandbox's folder that stops and removes it.
	StopScript = "stop.sh"
	// EnterScript is the one that runs a command in it, by default a shell. It reads the
	// file env in the folder before.
	EnterScript = "enter.sh"
)

// folder is the place of one sandbox. It is locked as long as a process of the sandbox,
// or the one that made it, is there.
type folder struct {
	path string
	lock *os.File
}

// newFolder makes a folder, and removes what sandboxes left whose processes were killed.
func newFolder(parent string) (*folder, error) {
	paths, err := filepath.Glob(filepath.Join(parent, FolderPrefix+"*"))
	if err != nil {
		return nil, fmt.Errorf("looking for the folders of earlier sandboxes: %w", err)
	}
	for _, path := range paths {
		// What cannot be removed is not in the way.
		if lock := abandoned(path); lock != nil {
			_ = (&folder{path: path, lock: lock}).remove()
		}
	}
	path, err := os.MkdirTemp(parent, FolderPrefix)
	if err != nil {
		return nil, fmt.Errorf("making a folder for the sandbox: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, ownerFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err == nil {
		// Only now is it a folder that abandoned looks at.
		_, err = lock.WriteString("locked\n")
	}
	if err == nil {
		err = os.Chmod(path, 0o755) // processes of pods have other users
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking the sandbox's folder: %w", err), os.RemoveAll(path))
	}
	return &folder{path: path, lock: lock}, nil
}

// abandoned returns the lock of a folder whose sandbox is gone, nil if it is not.
func abandoned(path string) *os.File {
	lock, err := os.OpenFile(filepath.Join(path, ownerFile), os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	info, err := lock.Stat()
	if err == nil && info.Size() > 0 && syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		return lock
	}
	_ = lock.Close()
	return nil
}

// remove removes the folder, and what the kernel has not removed with the sandbox. It
// must have ended: through its mounts this would reach further than the folder.
func (f *folder) remove() error {
	defer f.lock.Close()
	errs := []error{detachLoops(f.path), removeCgroups(filepath.Base(f.path))}
	if err := os.RemoveAll(f.path); err != nil {
		errs = append(errs, fmt.Errorf("removing the sandbox's folder: %w", err))
	}
	return errors.Join(errs...)
}

// scriptText stops a released sandbox. %[1]s: the folder, %[2]d: its first process.
const scriptText = `#!/bin/sh
# Stops what was left running here and removes all of it.
dir='%[1]s'
pid=%[2]d
# A process that does not name the folder got the pid of one that ended long ago.
ours() { tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$dir"; }
if ours; then kill "$pid"; fi
waited=0
while ours && [ $waited -lt 90 ]; do sleep 1; waited=$((waited + 1)); done
if ours; then
  echo "it did not end within $waited s and is killed" >&2
  kill -9 "$pid"
  while ours; do sleep 1; done
fi
find /sys/fs/cgroup -depth -type d -path "*/${dir##*/}*" -exec rmdir {} +
rm -rf "$dir" && echo "what ran in $dir is stopped and removed"
`

// enterText runs a command in a sandbox. %[1]s: the folder, %[2]d: its first process.
const enterText = `#!/bin/sh
# Runs a command, or a shell, in the sandbox of this folder; the files are those of the
# machine, and so is the folder that one is in.
if [ -e '%[1]s/env' ]; then . '%[1]s/env'; fi
exec nsenter --target %[2]d --mount --net --ipc --pid -- \
  sh -c 'cd "$0" && exec "$@"' "$PWD" "${@:-${SHELL:-/bin/sh}}"
`

// release writes the scripts that stop the sandbox and enter it, and lets go of the folder.
func (f *folder) release(pid int) error {
	defer f.lock.Close()
	for name, text := range map[string]string{StopScript: scriptText, EnterScript: enterText} {
		if err := os.WriteFile(filepath.Join(f.path, name), fmt.Appendf(nil, text, f.path, pid), 0o755); err != nil {
			return fmt.Errorf("writing script %s of the sandbox: %w", name, err)
		}
	}
	return nil
}
