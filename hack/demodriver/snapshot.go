package demodriver

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver/store"
)

func (s *controller) CreateSnapshot(ctx context.Context, req *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	d := s.driver
	if err := d.demand(canCreateSnapshots); err != nil {
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
	if req.GetSourceVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "source_volume_id is empty")
	}
	unlock, ok := d.locks.write(nameKey("snapshot", req.GetName()))
	if !ok {
		return nil, status.Errorf(codes.Aborted, "another call is at work on the snapshot named %q; call again when it is through", req.GetName())
	}
	defer unlock()
	snapshot, ok := d.store.Snapshots.ByName(req.GetName())
	if !ok {
		snapshot, err = d.newSnapshot(ctx, req)
		if err != nil {
			return nil, err
		}
	}
	if snapshot.SourceVolumeID != req.GetSourceVolumeId() {
		return nil, status.Errorf(codes.AlreadyExists, "snapshot %q named %q exists of another volume, %q", snapshot.ID, snapshot.Name, snapshot.SourceVolumeID)
	}
	return &csi.CreateSnapshotResponse{Snapshot: describeSnapshot(snapshot)}, nil
}

func (d *Driver) newSnapshot(ctx context.Context, req *csi.CreateSnapshotRequest) (store.Record, error) {
	src, err := d.open(d.store.Volumes, "volume", req.GetSourceVolumeId())
	if err != nil {
		return store.Record{}, err
	}
	defer src.close()
	return d.build(ctx, d.store.Snapshots, store.Record{
		Name:           req.GetName(),
		Bytes:          src.record.Bytes,
		Block:          src.record.Block,
		SourceVolumeID: src.record.ID,
	}, src)
}

func describeSnapshot(snapshot store.Record) *csi.Snapshot {
	return &csi.Snapshot{
		SnapshotId:     snapshot.ID,
		SourceVolumeId: snapshot.SourceVolumeID,
		SizeBytes:      snapshot.Bytes,
		CreationTime:   timestamppb.New(snapshot.CreatedAt),
		ReadyToUse:     true,
	}
}

func (s *controller) DeleteSnapshot(ctx context.Context, req *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	d := s.driver
	if err := d.demand(canCreateSnapshots); err != nil {
		return nil, err
	}
	ctx, done, err := d.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	id := req.GetSnapshotId()
	if id == "" {
		return nil, status.Error(codes.InvalidArgument, "snapshot_id is empty")
	}
	unlock, ok := d.locks.write(idKey(id))
	if !ok {
		return nil, status.Errorf(codes.Aborted, "snapshot %q is being restored or deleted by another call; call again when it is through", id)
	}
	defer unlock()
	if err := d.remove(ctx, d.store.Snapshots, id); err != nil {
		return nil, err
	}
	return &csi.DeleteSnapshotResponse{}, nil
}
