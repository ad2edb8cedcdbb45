package demodriver

import (
	"context"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver/store"
)

// node is the CSI node service.
type node struct {
	csi.UnimplementedNodeServer
	driver *Driver
	mu     sync.Mutex // publishing is quick: one at a time
}

func (s *node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: s.driver.cfg.NodeID, AccessibleTopology: s.driver.topology()}, nil
}

func (s *node) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	var offered []csi.NodeServiceCapability_RPC_Type
	if s.driver.can(canMultiWriter) {
		offered = append(offered, csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER)
	}
	if s.driver.cfg.LoopDevices {
		offered = append(offered, csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME)
	}
	resp := &csi.NodeGetCapabilitiesResponse{}
	for _, rpc := range offered {
		resp.Capabilities = append(resp.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: rpc}},
		})
	}
	return resp, nil
}

func (s *node) NodePublishVolume(ctx context.Context, req *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	d := s.driver
	ctx, done, err := d.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	wanted, err := d.publication(req)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	unlock, ok := d.locks.read(idKey(wanted.VolumeID))
	if !ok {
		return nil, status.Errorf(codes.Aborted, "volume %q is being deleted", wanted.VolumeID)
	}
	defer unlock()
	volume, ok := d.store.Volumes.Get(wanted.VolumeID)
	if !ok {
		return nil, status.Errorf(codes.NotFound, "volume %q does not exist", wanted.VolumeID)
	}
	if volume.Block != wanted.Block {
		return nil, status.Errorf(codes.InvalidArgument, "volume %q is of the other access type than volume_capability", volume.ID)
	}
	there, err := d.conflict(wanted)
	if there || err != nil {
		return &csi.NodePublishVolumeResponse{}, err
	}
	how, err := d.publish(wanted)
	if err != nil {
		return nil, d.internal(ctx, "publishing volume "+volume.ID, err)
	}
	klog.FromContext(ctx).V(2).Info("Volume published", "volumeID", volume.ID, "target", wanted.TargetPath, "how", how, "readOnly", wanted.ReadOnly)
	return &csi.NodePublishVolumeResponse{}, nil
}

// publication checks a request and returns what it asks for, with How left open.
func (d *Driver) publication(req *csi.NodePublishVolumeRequest) (store.Publication, error) {
	switch {
	case req.GetVolumeId() == "":
		return store.Publication{}, status.Error(codes.InvalidArgument, "volume_id is empty")
	case req.GetTargetPath() == "":
		return store.Publication{}, status.Error(codes.InvalidArgument, "target_path is empty")
	case req.GetVolumeCapability() == nil:
		return store.Publication{}, status.Error(codes.InvalidArgument, "volume_capability is missing")
	}
	if err := d.checkCapability(req.GetVolumeCapability()); err != nil {
		return store.Publication{}, err
	}
	return store.Publication{
		VolumeID:   req.GetVolumeId(),
		TargetPath: req.GetTargetPath(),
		ReadOnly:   req.GetReadonly(),
		Block:      req.GetVolumeCapability().GetBlock() != nil,
		AccessMode: req.GetVolumeCapability().GetAccessMode().GetMode().String(),
	}, nil
}

// conflict compares what is wanted with what is published. It returns true when
// the very same is there already.
//
// Rule: CSI spec, NodePublishVolume, second call table. More lenient in one
// point: SINGLE_NODE_WRITER may be published twice on its node, as kubelet does
// for ReadWriteOnce claims.
func (d *Driver) conflict(wanted store.Publication) (there bool, err error) {
	if at, ok := d.store.Publications.At(wanted.TargetPath); ok && d.visible(at) {
		at.How = ""
		if at != wanted {
			return false, status.Errorf(codes.AlreadyExists, "volume %q is published at %q in another way or is another volume; unpublish it first", at.VolumeID, at.TargetPath)
		}
		return true, nil
	}
	single := csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER.String()
	for _, other := range d.store.Publications.Of(wanted.VolumeID) {
		if d.visible(other) && (wanted.AccessMode == single || other.AccessMode == single) {
			return false, status.Errorf(codes.FailedPrecondition, "volume %q is for a single writer and is published at %q", wanted.VolumeID, other.TargetPath)
		}
	}
	return false, nil
}

func (s *node) NodeUnpublishVolume(ctx context.Context, req *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	d := s.driver
	ctx, done, err := d.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if req.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume_id is empty")
	}
	if req.GetTargetPath() == "" {
		return nil, status.Error(codes.InvalidArgument, "target_path is empty")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := d.store.Publications.At(req.GetTargetPath()); ok && at.VolumeID != req.GetVolumeId() {
		return nil, status.Errorf(codes.FailedPrecondition, "another volume, %q, is published at %q", at.VolumeID, req.GetTargetPath())
	}
	if err := d.unpublish(req.GetTargetPath()); err != nil {
		return nil, d.internal(ctx, "unpublishing volume "+req.GetVolumeId(), err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}
