package demodriver

import (
	"context"
	"maps"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver/store"
)

func (s *controller) CreateVolume(ctx context.Context, req *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	d := s.driver
	if err := d.demand(canCreateVolumes); err != nil {
		return nil, err
	}
	ctx, done, err := d.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if req.GetName() == "" {
		return nil, status.Error(codes.InvalidArgument, "name is empty")
	}
	if err := d.authenticate(req.GetSecrets()); err != nil {
		return nil, err
	}
	if len(req.GetMutableParameters()) > 0 && !d.can(canModify) {
		return nil, status.Errorf(codes.InvalidArgument, "driver %q does not offer MODIFY_VOLUME, leave mutable_parameters empty", d.cfg.Name)
	}
	block, err := d.checkCapabilities(req.GetVolumeCapabilities())
	if err != nil {
		return nil, err
	}
	unlock, ok := d.locks.write(nameKey("volume", req.GetName()))
	if !ok {
		return nil, status.Errorf(codes.Aborted, "another call is at work on the volume named %q; call again when it is through", req.GetName())
	}
	defer unlock()
	if volume, ok := d.store.Volumes.ByName(req.GetName()); ok {
		return d.existingVolume(volume, req, block)
	}
	return d.newVolume(ctx, req, block)
}

// existingVolume answers with the volume that has the name already, if it is
// what is asked for. Its source may be gone meanwhile.
func (d *Driver) existingVolume(volume store.Record, req *csi.CreateVolumeRequest, block bool) (*csi.CreateVolumeResponse, error) {
	unlock, ok := d.locks.read(idKey(volume.ID))
	if !ok {
		return nil, status.Errorf(codes.Aborted, "volume %q named %q is being deleted; call again when it is gone", volume.ID, volume.Name)
	}
	defer unlock()
	var different string
	switch {
	case !fits(volume.Bytes, req.GetCapacityRange()):
		different = "size"
	case volume.Block != block:
		different = "access type"
	case !maps.Equal(volume.Parameters, req.GetParameters()):
		different = "parameters"
	case volume.SourceVolumeID != req.GetVolumeContentSource().GetVolume().GetVolumeId(),
		volume.SourceSnapshotID != req.GetVolumeContentSource().GetSnapshot().GetSnapshotId():
		different = "content source"
	case !d.usable(volume, req.GetAccessibilityRequirements()):
		different = "topology"
	default:
		return d.created(volume), nil
	}
	return nil, status.Errorf(codes.AlreadyExists, "volume %q named %q exists with another %s than requested", volume.ID, volume.Name, different)
}

// newVolume makes the volume; the name is locked.
func (d *Driver) newVolume(ctx context.Context, req *csi.CreateVolumeRequest, block bool) (*csi.CreateVolumeResponse, error) {
	src, err := d.openSource(req.GetVolumeContentSource())
	if err != nil {
		return nil, err
	}
	defer src.close()
	if src.given() && src.record.Block != block {
		return nil, status.Errorf(codes.InvalidArgument, "content source %q is of the other access type", src.record.ID)
	}
	size, err := sizeFor(req.GetCapacityRange(), src.record.Bytes, d.cfg.Granularity)
	if err != nil {
		return nil, err
	}
	place, err := d.choose(req.GetAccessibilityRequirements(), src.record)
	if err != nil {
		return nil, err
	}
	record := store.Record{Name: req.GetName(), Bytes: size, Block: block, Parameters: req.GetParameters(), MutableParameters: req.GetMutableParameters(), Place: place}
	if src.isSnapshot {
		record.SourceSnapshotID = src.record.ID
	} else {
		record.SourceVolumeID = src.record.ID
	}
	volume, err := d.build(ctx, d.store.Volumes, record, src)
	if err != nil {
		return nil, err
	}
	klog.FromContext(ctx).V(2).Info("Volume created", "volumeID", volume.ID, "name", volume.Name, "bytes", volume.Bytes, "source", src.record.ID)
	return d.created(volume), nil
}

// created is the answer for a volume that exists.
func (d *Driver) created(volume store.Record) *csi.CreateVolumeResponse {
	return &csi.CreateVolumeResponse{Volume: d.describe(volume)}
}

func (d *Driver) describe(volume store.Record) *csi.Volume {
	return &csi.Volume{
		VolumeId:           volume.ID,
		CapacityBytes:      volume.Bytes,
		ContentSource:      contentSource(volume),
		AccessibleTopology: d.accessibleFrom(volume),
	}
}

func (s *controller) DeleteVolume(ctx context.Context, req *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	d := s.driver
	if err := d.demand(canCreateVolumes); err != nil {
		return nil, err
	}
	ctx, done, err := d.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := d.authenticate(req.GetSecrets()); err != nil {
		return nil, err
	}
	id := req.GetVolumeId()
	if id == "" {
		return nil, status.Error(codes.InvalidArgument, "volume_id is empty")
	}
	unlock, ok := d.locks.write(idKey(id))
	if !ok {
		return nil, status.Errorf(codes.Aborted, "another call is at work on volume %q, perhaps a clone of it; call again when it is through", id)
	}
	defer unlock()
	if targets := d.publishedAt(id); len(targets) > 0 {
		return nil, status.Errorf(codes.FailedPrecondition, "volume %q is published at %q; unpublish it first", id, targets[0])
	}
	if err := d.remove(ctx, d.store.Volumes, id); err != nil {
		return nil, err
	}
	return &csi.DeleteVolumeResponse{}, nil
}
