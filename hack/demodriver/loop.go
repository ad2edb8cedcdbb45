package demodriver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	loopControl = "/dev/loop-control"
	loopPrefix  = "/dev/loop"
	// loopTries bounds how often another process may be quicker to take a free device.
	loopTries = 20
)

// attachLoop returns the block device that shows a file, and makes one if need be.
func attachLoop(path string) (string, error) {
	node, err := loopOf(path)
	if node != "" || err != nil {
		return node, err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("opening file of the volume: %w", err)
	}
	defer file.Close()
	control, err := os.OpenFile(loopControl, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("asking for a loop device: %w", err)
	}
	defer control.Close()
	for range loopTries {
		free, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", fmt.Errorf("asking for a loop device: %w", err)
		}
		node := loopPrefix + strconv.Itoa(free)
		err = configureLoop(node, file)
		if errors.Is(err, unix.EBUSY) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("attaching %s: %w", node, err)
		}
		return node, nil
	}
	return "", fmt.Errorf("attaching a loop device: others took each of %d free ones first", loopTries)
}

func configureLoop(node string, file *os.File) error {
	device, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer device.Close()
	return unix.IoctlLoopConfigure(int(device.Fd()), &unix.LoopConfig{Fd: uint32(file.Fd())})
}

// detachLoop takes away the block device that shows a file, if there is one. The kernel
// waits with it until nobody has it open.
func detachLoop(path string) error {
	node, err := loopOf(path)
	if node == "" || err != nil {
		return err
	}
	device, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("detaching %s: %w", node, err)
	}
	defer device.Close()
	if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detaching %s: %w", node, err)
	}
	return nil
}

// loopOf returns the block device that shows a file, "" if there is none.
func loopOf(path string) (string, error) {
	var file unix.Stat_t
	if err := unix.Stat(path, &file); err != nil {
		return "", fmt.Errorf("reading file of the volume: %w", err)
	}
	nodes, err := filepath.Glob(loopPrefix + "[0-9]*")
	if err != nil {
		return "", err
	}
	for _, node := range nodes {
		if info, ok := loopInfo(node); ok && info.Device == file.Dev && info.Inode == file.Ino {
			return node, nil
		}
	}
	return "", nil
}

// loopInfo returns what a loop device shows, false if nothing.
func loopInfo(node string) (*unix.LoopInfo64, bool) {
	device, err := os.Open(node)
	if err != nil {
		return nil, false
	}
	defer device.Close()
	info, err := unix.IoctlLoopGetStatus64(int(device.Fd()))
	return info, err == nil
}
