package demodriver

import (
	"context"
	"fmt"
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver/store"
)

// NodeStageVolume makes the block device of a block volume. A filesystem volume is a
// directory already: nothing is to be done before it is published.
func (s *node) NodeStageVolume(ctx context.Context, req *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	d := s.driver
	if !d.cfg.LoopDevices {
		return s.UnimplementedNodeServer.NodeStageVolume(ctx, req)
	}
	ctx, done, err := d.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	switch {
	case req.GetVolumeId() == "":
		return nil, status.Error(codes.InvalidArgument, "volume_id is empty")
	case req.GetStagingTargetPath() == "":
		return nil, status.Error(codes.InvalidArgument, "staging_target_path is empty")
	case req.GetVolumeCapability() == nil:
		return nil, status.Error(codes.InvalidArgument, "volume_capability is missing")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	unlock, ok := d.locks.read(idKey(req.GetVolumeId()))
	if !ok {
		return nil, status.Errorf(codes.Aborted, "volume %q is being deleted", req.GetVolumeId())
	}
	defer unlock()
	volume, ok := d.store.Volumes.Get(req.GetVolumeId())
	if !ok {
		return nil, status.Errorf(codes.NotFound, "volume %q does not exist", req.GetVolumeId())
	}
	if !volume.Block {
		return &csi.NodeStageVolumeResponse{}, nil
	}
	device, err := attachLoop(d.store.Volumes.Path(volume.ID))
	if err != nil {
		return nil, d.internal(ctx, "staging volume "+volume.ID, err)
	}
	klog.FromContext(ctx).V(2).Info("Volume staged", "volumeID", volume.ID, "device", device)
	return &csi.NodeStageVolumeResponse{}, nil
}

// NodeUnstageVolume takes the block device of a block volume away.
func (s *node) NodeUnstageVolume(ctx context.Context, req *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	d := s.driver
	if !d.cfg.LoopDevices {
		return s.UnimplementedNodeServer.NodeUnstageVolume(ctx, req)
	}
	ctx, done, err := d.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if req.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume_id is empty")
	}
	if req.GetStagingTargetPath() == "" {
		return nil, status.Error(codes.InvalidArgument, "staging_target_path is empty")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	volume, ok := d.store.Volumes.Get(req.GetVolumeId())
	if !ok || !volume.Block {
		return &csi.NodeUnstageVolumeResponse{}, nil
	}
	if err := detachLoop(d.store.Volumes.Path(volume.ID)); err != nil {
		return nil, d.internal(ctx, "unstaging volume "+volume.ID, err)
	}
	return &csi.NodeUnstageVolumeResponse{}, nil
}

// shown returns what is mounted when a volume is published: its directory or file, or
// the block device of its file.
func (d *Driver) shown(p store.Publication) (string, error) {
	data := d.store.Volumes.Path(p.VolumeID)
	if !p.Block || !d.cfg.LoopDevices {
		return data, nil
	}
	device, err := loopOf(data)
	if err == nil && device == "" {
		err = fmt.Errorf("volume %q is not staged; stage it first", p.VolumeID)
	}
	return device, err
}

// mounted is true when a publication's target shows the volume.
func (d *Driver) mounted(p store.Publication) bool {
	shown, err := d.shown(p)
	if err != nil {
		return false
	}
	there, err := os.Lstat(p.TargetPath)
	if err != nil {
		return false
	}
	volume, err := os.Lstat(shown)
	return err == nil && os.SameFile(there, volume)
}
