package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// fileID tells files apart wherever they are mounted.
type fileID struct{ device, inode uint64 }

// detachLoops detaches the loop devices that show files of a folder, those that show files
// of a file system on these, and those that show these devices: a kubelet puts a second
// one on every block volume. One that is still open goes when it is closed.
func detachLoops(dir string) error {
	ours := map[fileID]bool{}
	// What cannot be read is no file of a loop device.
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		var stat unix.Stat_t
		if err == nil && entry.Type().IsRegular() && unix.Lstat(path, &stat) == nil {
			ours[fileID{stat.Dev, stat.Ino}] = true
		}
		return nil
	})
	nodes, err := filepath.Glob("/dev/loop[0-9]*")
	if err != nil {
		return err
	}
	mounted := map[uint64]bool{} // file systems on devices of ours
	var found []string
	for {
		before := len(found)
		for _, node := range nodes {
			info, self, ok := loopAt(node)
			if !ok || slices.Contains(found, node) || !ours[fileID{info.Device, info.Inode}] && !mounted[info.Device] {
				continue
			}
			found = append(found, node)
			ours[fileID{self.Dev, self.Ino}], mounted[self.Rdev] = true, true
		}
		if len(found) == before {
			break
		}
	}
	var errs []error
	for _, node := range slices.Backward(found) {
		errs = append(errs, detachLoop(node))
	}
	return errors.Join(errs...)
}

// loopAt returns what a loop device shows, and what its own device file is.
func loopAt(node string) (info *unix.LoopInfo64, self unix.Stat_t, ok bool) {
	device, err := os.Open(node)
	if err != nil {
		return nil, self, false
	}
	defer device.Close()
	if unix.Fstat(int(device.Fd()), &self) != nil {
		return nil, self, false
	}
	info, err = unix.IoctlLoopGetStatus64(int(device.Fd()))
	return info, self, err == nil
}

func detachLoop(node string) error {
	device, err := os.Open(node)
	if err != nil {
		return fmt.Errorf("detaching %s: %w", node, err)
	}
	defer device.Close()
	if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detaching %s: %w", node, err)
	}
	return nil
}
