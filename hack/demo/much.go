package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
)

// The claims of the last chapter, and the file in it.
const (
	muchName      = "much"
	muchCloneName = "clone-of-much"
	muchPod       = "writer-of-much"
	muchFile      = "gibibyte.dat"
)

// cloneMuch clones a gibibyte and compares the time with that of copying it.
func (s *nodeStory) cloneMuch(ctx context.Context) error {
	s.out.heading("Cloning 1 GiB on %s", s.station.FileSystem)
	if err := s.runKubectl(ctx, "apply", "-f", manifests+"much.yaml"); err != nil {
		return err
	}
	script := fmt.Sprintf("dd if=/dev/urandom of=/data/%s bs=1M count=1024 conv=fsync 2>&1\n", muchFile)
	if err := s.runPod(ctx, muchPod, script, mount{claim: muchName, path: "/data"}); err != nil {
		return err
	}
	if _, err := s.awaitEnd(ctx, muchPod); err != nil {
		return err
	}
	if err := s.runKubectl(ctx, "delete", "pod", muchPod, "-n", namespace); err != nil {
		return err
	}
	before, err := s.usedBytes()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := s.runKubectl(ctx, "apply", "-f", manifests+"clone-much.yaml"); err != nil {
		return err
	}
	pv, err := s.awaitBound(ctx, muchCloneName)
	if err != nil {
		return err
	}
	took := time.Since(began)
	after, err := s.usedBytes()
	if err != nil {
		return err
	}
	copied, err := s.copyMuch(pv.Spec.CSI.VolumeHandle)
	if err != nil {
		return err
	}
	s.out.good("the clone was Bound %s after kubectl apply was called and took %.1f MiB of the disk", seconds(took), float64(after-before)/mebibyte)
	if s.station.Shares {
		s.out.good("it shares the blocks of its source; copying the same file took %s", seconds(copied))
	} else {
		s.out.note("blocks are not shared here, so it was copied; copying the same file again took %s", seconds(copied))
	}
	return nil
}

// usedBytes returns how much of the volumes' file system is in use.
func (s *nodeStory) usedBytes() (int64, error) {
	volumes, err := os.Open(s.station.Volumes())
	if err != nil {
		return 0, fmt.Errorf("looking at the volumes: %w", err)
	}
	defer volumes.Close()
	// What was written or deleted a moment ago is not counted before.
	if err := unix.Syncfs(int(volumes.Fd())); err != nil {
		return 0, fmt.Errorf("syncing the volumes: %w", err)
	}
	var stat unix.Statfs_t
	if err := unix.Fstatfs(int(volumes.Fd()), &stat); err != nil {
		return 0, fmt.Errorf("asking how much room the volumes take: %w", err)
	}
	return int64(stat.Blocks-stat.Bfree) * stat.Bsize, nil
}

// copyMuch copies the file of the clone to the same file system and returns how long that
// took, to the disk.
func (s *nodeStory) copyMuch(handle string) (took time.Duration, err error) {
	found, err := filepath.Glob(filepath.Join(s.station.Volumes(), "volumes", handle, "*", muchFile))
	if err != nil || len(found) != 1 {
		return 0, errors.Join(fmt.Errorf("looking for %s in volume %q: found %v", muchFile, handle, found), err)
	}
	from, err := os.Open(found[0])
	if err != nil {
		return 0, err
	}
	defer from.Close()
	to, err := os.CreateTemp(s.station.Volumes(), "copy-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(to.Name())
	defer to.Close()
	began := time.Now()
	// Readers and writers only, else the kernel would be asked to share blocks again.
	if _, err := io.Copy(struct{ io.Writer }{to}, struct{ io.Reader }{from}); err != nil {
		return 0, fmt.Errorf("copying %s: %w", muchFile, err)
	}
	if err := to.Sync(); err != nil {
		return 0, fmt.Errorf("copying %s: %w", muchFile, err)
	}
	return time.Since(began), nil
}

// podsPossible returns nil if the story can be told with pods, or why not.
func podsPossible(sandboxPossible func() error) error {
	if os.Getenv("PODS") == "no" {
		return errors.New("PODS=no was asked for")
	}
	if err := sandboxPossible(); err != nil {
		return err
	}
	root, err := repo.Root()
	if err != nil {
		return err
	}
	binaries, err := repo.Node(root)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(binaries, "runc")); err != nil {
		return errors.New("the node is not compiled (make node does it)")
	}
	return nil
}
