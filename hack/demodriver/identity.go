package demodriver

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// identity is the CSI identity service.
type identity struct {
	csi.UnimplementedIdentityServer
	driver *Driver
}

func (s *identity) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: s.driver.cfg.Name, VendorVersion: s.driver.cfg.Version}, nil
}

func (s *identity) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	resp := &csi.GetPluginCapabilitiesResponse{}
	for _, service := range pluginCapabilities() {
		if s.driver.hasPlugin(service) {
			resp.Capabilities = append(resp.Capabilities, &csi.PluginCapability{
				Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: service}},
			})
		}
	}
	return resp, nil
}

func (s *identity) Probe(ctx context.Context, _ *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	_, done, err := s.driver.begin(ctx)
	if err != nil {
		return nil, err
	}
	done()
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}
