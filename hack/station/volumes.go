package station

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// volumesBytes is how large the volumes' file system is. Its file has holes: on the disk
// it takes what is written.
const volumesBytes = 64 << 30

// fileSystem is one that lets a clone share the blocks of its source.
type fileSystem struct {
	name, make, kind string
	args             []string
}

func fileSystems() []fileSystem {
	return []fileSystem{
		{name: "XFS", make: "mkfs.xfs", kind: "xfs", args: []string{"-q", "-m", "reflink=1"}},
		{name: "Btrfs", make: "mkfs.btrfs", kind: "btrfs", args: []string{"-q"}},
	}
}

// makeVolumes mounts a file system made for the purpose where the driver keeps volumes, or
// leaves it at a folder where none can be had: clones are copies then.
func (s *Station) makeVolumes(ctx context.Context) error {
	if err := os.MkdirAll(s.Volumes(), 0o755); err != nil {
		return fmt.Errorf("making the folder for volumes: %w", err)
	}
	image := filepath.Join(s.opts.Here.Dir, "volumes.img")
	for _, candidate := range fileSystems() {
		err := s.mount(ctx, candidate, image)
		if err == nil {
			s.FileSystem, s.Shares = candidate.name, true
			s.opts.Log("volumes are kept on %s, where a clone shares the blocks of its source", candidate.name)
			return nil
		}
		s.opts.Log("no %s for the volumes: %v", candidate.name, err)
	}
	s.FileSystem = "the machine's file system"
	s.opts.Log("volumes are kept in a plain folder; install xfsprogs or btrfs-progs for clones that share blocks")
	return nil
}

func (s *Station) mount(ctx context.Context, candidate fileSystem, image string) error {
	path, err := exec.LookPath(candidate.make)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(image); err != nil {
		return err
	}
	file, err := os.Create(image)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Truncate(volumesBytes); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, path, append(candidate.args, image)...).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	// mount makes a loop device that goes away with the mount.
	if out, err := exec.CommandContext(ctx, "mount", "-t", candidate.kind, "-o", "loop", image, s.Volumes()).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
