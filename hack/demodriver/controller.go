package demodriver

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// controller is the CSI controller service: this file has what asks, volume.go,
// snapshot.go and list.go have the rest.
type controller struct {
	csi.UnimplementedControllerServer
	driver *Driver
}

func (s *controller) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	resp := &csi.ControllerGetCapabilitiesResponse{}
	for _, rpc := range controllerCapabilities() {
		if s.driver.can(rpc) {
			resp.Capabilities = append(resp.Capabilities, &csi.ControllerServiceCapability{
				Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: rpc}},
			})
		}
	}
	return resp, nil
}

func (s *controller) ValidateVolumeCapabilities(_ context.Context, req *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	d := s.driver
	if req.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume_id is empty")
	}
	if len(req.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "volume_capabilities is empty")
	}
	volume, ok := d.store.Volumes.Get(req.GetVolumeId())
	if !ok {
		return nil, status.Errorf(codes.NotFound, "volume %q does not exist", req.GetVolumeId())
	}
	block, err := d.checkCapabilities(req.GetVolumeCapabilities())
	if err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: status.Convert(err).Message()}, nil
	}
	if block != volume.Block {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: "the volume is of the other access type"}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{
		Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
			VolumeContext:      req.GetVolumeContext(),
			VolumeCapabilities: req.GetVolumeCapabilities(),
			Parameters:         req.GetParameters(),
			MutableParameters:  req.GetMutableParameters(),
		},
	}, nil
}

func (s *controller) GetCapacity(_ context.Context, req *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	d := s.driver
	if err := d.demand(canGetCapacity); err != nil {
		return nil, err
	}
	if len(req.GetVolumeCapabilities()) > 0 {
		if _, err := d.checkCapabilities(req.GetVolumeCapabilities()); err != nil {
			return &csi.GetCapacityResponse{}, nil //nolint:nilerr // no room for what cannot be made
		}
	}
	if !d.offers(req.GetAccessibleTopology()) {
		return &csi.GetCapacityResponse{}, nil
	}
	free, limited := d.quota.free()
	if !limited {
		var stat unix.Statfs_t
		if err := unix.Statfs(d.store.Dir(), &stat); err != nil {
			return nil, status.Errorf(codes.Internal, "asking for the free space of %q: %v", d.store.Dir(), err)
		}
		free = int64(stat.Bavail) * stat.Bsize
	}
	return &csi.GetCapacityResponse{
		AvailableCapacity: free,
		MaximumVolumeSize: wrapperspb.Int64(free / d.cfg.Granularity * d.cfg.Granularity),
		MinimumVolumeSize: wrapperspb.Int64(d.cfg.Granularity),
	}, nil
}
