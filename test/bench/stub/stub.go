package stub

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Driver is one that is being served.
type Driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer

	// Socket is where it is served.
	Socket string

	name    string
	latency time.Duration
	temp    string
	server  *grpc.Server
	served  chan error

	mu sync.Mutex
	// volumes are what was created and not deleted, by name, which is their id, too.
	volumes map[string]*csi.Volume
	calls   map[string]int
	atWork  int
	most    int
}

// Start serves a driver of that name. CreateVolume and DeleteVolume take as long as
// latency.
func Start(name string, latency time.Duration) (*Driver, error) {
	// A socket path has at most 107 bytes, too few for t.TempDir.
	temp, err := os.MkdirTemp("", "stub")
	if err != nil {
		return nil, fmt.Errorf("making a folder for the stub's socket: %w", err)
	}
	d := &Driver{
		Socket: filepath.Join(temp, "s"), name: name, latency: latency, temp: temp, served: make(chan error, 1),
		volumes: map[string]*csi.Volume{}, calls: map[string]int{},
	}
	listener, err := net.Listen("unix", d.Socket)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listening on the stub's socket: %w", err), os.RemoveAll(temp))
	}
	d.server = grpc.NewServer(grpc.UnaryInterceptor(d.count))
	csi.RegisterIdentityServer(d.server, d)
	csi.RegisterControllerServer(d.server, d)
	go func() { d.served <- d.server.Serve(listener) }()
	return d, nil
}

// Close stops the driver and removes its socket.
func (d *Driver) Close() error {
	d.server.Stop()
	return errors.Join(<-d.served, os.RemoveAll(d.temp))
}

// Volumes returns how many volumes there are.
func (d *Driver) Volumes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.volumes)
}

// Calls returns how many calls there were so far, by method.
func (d *Driver) Calls() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.calls)
}

// MostAtOnce returns how many calls were being answered at once, at most, since it
// was asked last.
func (d *Driver) MostAtOnce() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	most := d.most
	d.most = d.atWork
	return most
}

// count is around every call.
func (d *Driver) count(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	d.mu.Lock()
	d.calls[path.Base(info.FullMethod)]++
	d.atWork++
	d.most = max(d.most, d.atWork)
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.atWork--
		d.mu.Unlock()
	}()
	return handler(ctx, req)
}

// work takes as long as the storage system would.
func (d *Driver) work(ctx context.Context) error {
	if d.latency <= 0 {
		return nil
	}
	timer := time.NewTimer(d.latency)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

// GetPluginInfo tells the driver's name.
func (d *Driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: d.name, VendorVersion: "stub"}, nil
}

// GetPluginCapabilities tells that there is a controller service.
func (d *Driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{{
		Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: csi.PluginCapability_Service_CONTROLLER_SERVICE}},
	}}}, nil
}

// Probe says that all is well.
func (d *Driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}

// ControllerGetCapabilities tells what the demo driver tells of volumes.
func (d *Driver) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	resp := &csi.ControllerGetCapabilitiesResponse{}
	for _, rpc := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
		csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
	} {
		resp.Capabilities = append(resp.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: rpc}},
		})
	}
	return resp, nil
}

// CreateVolume enters a volume into the books.
func (d *Driver) CreateVolume(ctx context.Context, req *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if req.GetName() == "" {
		return nil, status.Error(codes.InvalidArgument, "name is empty")
	}
	if err := d.work(ctx); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	bytes := req.GetCapacityRange().GetRequiredBytes()
	if id := req.GetVolumeContentSource().GetVolume().GetVolumeId(); id != "" {
		source, found := d.volumes[id]
		if !found {
			return nil, status.Errorf(codes.NotFound, "source volume %q does not exist", id)
		}
		bytes = max(bytes, source.GetCapacityBytes())
	}
	volume, found := d.volumes[req.GetName()]
	switch {
	case !found:
		volume = &csi.Volume{VolumeId: req.GetName(), CapacityBytes: bytes, ContentSource: req.GetVolumeContentSource()}
		d.volumes[req.GetName()] = volume
	case volume.GetCapacityBytes() != bytes || !proto.Equal(volume.GetContentSource(), req.GetVolumeContentSource()):
		return nil, status.Errorf(codes.AlreadyExists, "volume %q exists and is another one", req.GetName())
	}
	return &csi.CreateVolumeResponse{Volume: volume}, nil
}

// DeleteVolume strikes a volume from the books.
func (d *Driver) DeleteVolume(ctx context.Context, req *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume_id is empty")
	}
	if err := d.work(ctx); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.volumes, req.GetVolumeId())
	return &csi.DeleteVolumeResponse{}, nil
}
