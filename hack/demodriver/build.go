package demodriver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver/replica"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver/store"
)

// build makes a volume or snapshot with the data of the source, or blank. After
// an error nothing of it is left.
func (d *Driver) build(ctx context.Context, shelf *store.Shelf, record store.Record, src source) (store.Record, error) {
	if !d.quota.take(record.Bytes) {
		free, _ := d.quota.free()
		return store.Record{}, status.Errorf(codes.ResourceExhausted, "%q needs %d bytes, driver %q has %d left", record.Name, record.Bytes, d.cfg.Name, free)
	}
	what := fmt.Sprintf("making %q", record.Name)
	draft, err := shelf.Begin()
	if err != nil {
		d.quota.give(record.Bytes)
		return store.Record{}, d.internal(ctx, what, err)
	}
	made, err := d.fillAndCommit(ctx, draft, record, src)
	if err != nil {
		d.quota.give(record.Bytes)
		if discardErr := draft.Discard(); discardErr != nil {
			klog.FromContext(ctx).Error(discardErr, "Unfinished data stay until the next start", "name", record.Name)
		}
		return store.Record{}, d.internal(ctx, what, err)
	}
	return made, nil
}

func (d *Driver) fillAndCommit(ctx context.Context, draft *store.Draft, record store.Record, src source) (store.Record, error) {
	if src.given() {
		report, err := replica.Make(ctx, src.path, draft.Path(), d.copy)
		if err != nil {
			return store.Record{}, err
		}
		klog.FromContext(ctx).V(2).Info("Data copied", "name", record.Name, "source", src.record.ID,
			"method", report.Method(), "files", report.Files, "bytes", report.Bytes)
	}
	if err := d.shape(draft.Path(), record); err != nil {
		return store.Record{}, err
	}
	// ctx ends a moment after closing does, which is too late here.
	if err := errors.Join(ctx.Err(), d.closing.Err()); err != nil {
		return store.Record{}, err // the caller is gone, or the driver is
	}
	return draft.Commit(record)
}

// shape makes a blank volume, and gives a block volume its size in any case.
func (d *Driver) shape(path string, record store.Record) error {
	if !record.Block {
		return blankDir(path)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("making file of the volume: %w", err)
	}
	defer file.Close()
	if err := file.Truncate(record.Bytes); err != nil {
		return fmt.Errorf("setting size of the volume: %w", err)
	}
	if d.cfg.NoSync {
		return nil
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("syncing the volume to disk: %w", err)
	}
	return nil
}

// blankDir makes an empty directory that any pod's user may write to, whatever
// our umask. One that was copied stays as it is.
func blankDir(path string) error {
	err := os.Mkdir(path, 0o777)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("making directory of the volume: %w", err)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		return fmt.Errorf("setting mode of the volume: %w", err)
	}
	return nil
}

// remove deletes a volume or snapshot, which the caller has locked.
func (d *Driver) remove(ctx context.Context, shelf *store.Shelf, id string) error {
	record, ok := shelf.Get(id)
	if !ok {
		return nil
	}
	err := shelf.Remove(id)
	if _, still := shelf.Get(id); !still {
		d.quota.give(record.Bytes)
	}
	if err != nil {
		return d.internal(ctx, fmt.Sprintf("deleting %q", id), err)
	}
	klog.FromContext(ctx).V(2).Info("Deleted", "id", id, "name", record.Name)
	return nil
}
