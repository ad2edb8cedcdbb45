package demodriver

import (
	"context"
	"maps"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ControllerModifyVolume takes any parameters: they are kept, and change nothing.
func (s *controller) ControllerModifyVolume(ctx context.Context, req *csi.ControllerModifyVolumeRequest) (*csi.ControllerModifyVolumeResponse, error) {
	d := s.driver
	if err := d.demand(canModify); err != nil {
		return nil, err
	}
	ctx, done, err := d.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	id := req.GetVolumeId()
	if id == "" {
		return nil, status.Error(codes.InvalidArgument, "volume_id is empty")
	}
	unlock, ok := d.locks.write(idKey(id))
	if !ok {
		return nil, status.Errorf(codes.Aborted, "another call is at work on volume %q; call again when it is through", id)
	}
	defer unlock()
	volume, ok := d.store.Volumes.Get(id)
	if !ok {
		return nil, status.Errorf(codes.NotFound, "volume %q does not exist", id)
	}
	parameters := maps.Clone(volume.MutableParameters)
	if parameters == nil {
		parameters = map[string]string{}
	}
	maps.Copy(parameters, req.GetMutableParameters())
	volume.MutableParameters = parameters
	if err := d.store.Volumes.Save(volume); err != nil {
		return nil, d.internal(ctx, "saving the parameters", err)
	}
	return &csi.ControllerModifyVolumeResponse{}, nil
}
