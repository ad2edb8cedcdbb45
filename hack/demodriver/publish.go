package demodriver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver/store"
)

// The values of store.Publication.How.
const (
	byMount   = "mount"
	bySymlink = "symlink"
)

// publishedAt returns the paths at which a volume can be seen.
func (d *Driver) publishedAt(volumeID string) []string {
	var targets []string
	for _, p := range d.store.Publications.Of(volumeID) {
		if d.visible(p) {
			targets = append(targets, p.TargetPath)
		}
	}
	return targets
}

// visible is true when a publication on record is there: a reboot takes mounts
// away without telling us.
func (d *Driver) visible(p store.Publication) bool {
	if p.How != bySymlink {
		return d.mounted(p)
	}
	to, err := os.Readlink(p.TargetPath)
	return err == nil && to == d.store.Volumes.Path(p.VolumeID)
}

// publish makes a volume visible and returns how. It goes on record first, so
// that a crash cannot leave a mount that nobody knows of.
func (d *Driver) publish(p store.Publication) (how string, err error) {
	if err := d.clear(p.TargetPath); err != nil {
		return "", err
	}
	data, err := d.shown(p)
	if err != nil {
		return "", err
	}
	mode := d.cfg.PublishMode
	if mode == PublishMount || mode == PublishAuto && os.Geteuid() == 0 {
		p.How = byMount
		if err := d.store.Publications.Put(p); err != nil {
			return "", err
		}
		err := bindMount(data, p)
		if err == nil {
			return byMount, nil
		}
		if mode == PublishMount || !errors.Is(err, fs.ErrPermission) {
			return "", errors.Join(err, d.unpublish(p.TargetPath))
		}
		if err := d.clear(p.TargetPath); err != nil {
			return "", err
		}
	}
	p.How = bySymlink
	if err := d.store.Publications.Put(p); err != nil {
		return "", err
	}
	if err := os.Symlink(data, p.TargetPath); err != nil {
		return "", errors.Join(fmt.Errorf("linking volume: %w", err), d.store.Publications.Drop(p.TargetPath))
	}
	return bySymlink, nil
}

// bindMount makes the mount point and mounts.
func bindMount(data string, p store.Publication) error {
	if p.Block {
		file, err := os.OpenFile(p.TargetPath, os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return fmt.Errorf("making mount point: %w", err)
		}
		_ = file.Close() // nothing was written
	} else if err := os.Mkdir(p.TargetPath, 0o750); err != nil {
		return fmt.Errorf("making mount point: %w", err)
	}
	if err := unix.Mount(data, p.TargetPath, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting volume at %q: %w", p.TargetPath, err)
	}
	if !p.ReadOnly {
		return nil
	}
	if err := unix.Mount("", p.TargetPath, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("making mount at %q read-only: %w", p.TargetPath, err)
	}
	return nil
}

// unpublish takes away what publish made, and nothing else.
func (d *Driver) unpublish(target string) error {
	p, ok := d.store.Publications.At(target)
	if ok && p.How == byMount && d.visible(p) {
		if err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmounting %q: %w", target, err)
		}
	}
	if err := d.clear(target); err != nil {
		return err
	}
	return d.store.Publications.Drop(target)
}

// clear removes what a container orchestrator or we may have left at a target
// path: an empty directory, an empty file or a link into our store. It never
// removes data.
func (d *Driver) clear(target string) error {
	info, err := os.Lstat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("reading target path: %w", err)
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := os.Readlink(target)
		if err != nil {
			return fmt.Errorf("reading target path: %w", err)
		}
		if !strings.HasPrefix(to, d.store.Dir()+"/") {
			return fmt.Errorf("target path %q is a link to %q, which is not ours; remove it", target, to)
		}
	case info.Mode().IsRegular() && info.Size() == 0, info.IsDir():
	default:
		return fmt.Errorf("target path %q is taken by something that is not ours; remove it", target)
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clearing target path: %w", err)
	}
	return nil
}
