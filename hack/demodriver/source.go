package demodriver

import (
	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver/store"
)

// source is what a new object is copied from. The zero value means nothing: a
// blank volume.
type source struct {
	record     store.Record
	path       string
	isSnapshot bool
	unlock     func()
}

func (s source) given() bool { return s.unlock != nil }

// close lets the source be deleted again.
func (s source) close() {
	if s.unlock != nil {
		s.unlock()
	}
}

// openSource finds the content source of a request and keeps it from being
// deleted until close. Any number of calls may have it open.
func (d *Driver) openSource(content *csi.VolumeContentSource) (source, error) {
	switch {
	case content == nil:
		return source{}, nil
	case content.GetVolume() != nil:
		if !d.can(canClone) {
			return source{}, status.Errorf(codes.InvalidArgument, "driver %q does not offer CLONE_VOLUME", d.cfg.Name)
		}
		return d.open(d.store.Volumes, "volume", content.GetVolume().GetVolumeId())
	case content.GetSnapshot() != nil:
		if !d.can(canCreateSnapshots) {
			return source{}, status.Errorf(codes.InvalidArgument, "driver %q does not offer CREATE_DELETE_SNAPSHOT", d.cfg.Name)
		}
		src, err := d.open(d.store.Snapshots, "snapshot", content.GetSnapshot().GetSnapshotId())
		src.isSnapshot = true
		return src, err
	default:
		return source{}, status.Error(codes.InvalidArgument, "volume_content_source has neither volume nor snapshot")
	}
}

func (d *Driver) open(shelf *store.Shelf, kind, id string) (source, error) {
	if id == "" {
		return source{}, status.Errorf(codes.InvalidArgument, "id of the source %s is empty", kind)
	}
	unlock, ok := d.locks.read(idKey(id))
	if !ok {
		return source{}, status.Errorf(codes.Aborted, "source %s %q is being deleted; call again", kind, id)
	}
	record, ok := shelf.Get(id)
	if !ok {
		unlock()
		return source{}, status.Errorf(codes.NotFound, "source %s %q does not exist", kind, id)
	}
	return source{record: record, path: shelf.Path(id), unlock: unlock}, nil
}

// contentSource is what a volume was made from, nil when it was made blank.
func contentSource(volume store.Record) *csi.VolumeContentSource {
	switch {
	case volume.SourceVolumeID != "":
		return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
			Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: volume.SourceVolumeID},
		}}
	case volume.SourceSnapshotID != "":
		return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
			Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: volume.SourceSnapshotID},
		}}
	default:
		return nil
	}
}
