package registration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"k8s.io/klog/v2"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// csiVersion is the version of CSI that the kubelet is told; it knows only this form.
const csiVersion = "1.0.0"

// Server is the registration service of one driver.
type Server struct {
	registerapi.UnimplementedRegistrationServer
	// driver is its name, socket where it serves CSI.
	driver, socket string
	server         *grpc.Server
	served         chan error
}

// Serve announces a driver, by its name and the socket that it serves CSI on, in the
// kubelet's folder for plugins. The caller must call Close.
func Serve(ctx context.Context, dir, driver, socket string) (*Server, error) {
	path := filepath.Join(dir, driver+"-reg.sock")
	// A killed process left its socket behind, and the kubelet goes by new ones.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing the old registration socket: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("announcing driver %q to the kubelet: %w", driver, err)
	}
	s := &Server{driver: driver, socket: socket, server: grpc.NewServer(), served: make(chan error, 1)}
	registerapi.RegisterRegistrationServer(s.server, s)
	go func() { s.served <- s.server.Serve(listener) }()
	return s, nil
}

// GetInfo tells the kubelet what there is.
func (s *Server) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{
		Type: registerapi.CSIPlugin, Name: s.driver, Endpoint: s.socket, SupportedVersions: []string{csiVersion},
	}, nil
}

// NotifyRegistrationStatus hears what came of it. After a failure the kubelet asks again
// by itself.
func (s *Server) NotifyRegistrationStatus(ctx context.Context, status *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	if status.GetPluginRegistered() {
		klog.FromContext(ctx).Info("Registered with the kubelet", "driver", s.driver)
	} else {
		klog.FromContext(ctx).Info("The kubelet refused the driver", "driver", s.driver, "reason", status.GetError())
	}
	return &registerapi.RegistrationStatusResponse{}, nil
}

// Close takes the announcement back; the socket goes.
func (s *Server) Close() error {
	s.server.Stop()
	if err := <-s.served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving driver %q to the kubelet: %w", s.driver, err)
	}
	return nil
}
