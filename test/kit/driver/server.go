package driver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// lateWorkGrace is how long ForTest waits at the end for work behind hung calls,
// which takes as long as the copying of small test volumes.
const lateWorkGrace = 3 * time.Minute

// Server is a driver that is being served. Its methods and fields are for one
// goroutine, the test's; Driver and Faults themselves may be used by many.
type Server struct {
	// Socket is the path of the unix socket; it stays the same over Restart.
	Socket string
	// Config is what the driver is made from. A change takes effect with Restart.
	Config demodriver.Config
	// Driver is the instance being served, or the last one after Stop. Restart
	// replaces it.
	Driver *demodriver.Driver
	// Faults stands in front of the driver and stays over Restart, with its
	// rules and records.
	Faults *faults.Injector

	temp   string // socket, and the volumes if Config.Dir was empty
	server *grpc.Server
	served chan error
}

// Start serves a new driver. Without cfg.Dir volumes are kept in a temporary
// directory that Close removes; they are not synced to disk then.
func Start(cfg demodriver.Config) (*Server, error) {
	// A socket path has at most 107 bytes, too few for t.TempDir.
	temp, err := os.MkdirTemp("", "csi")
	if err != nil {
		return nil, fmt.Errorf("making directory for the socket: %w", err)
	}
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(temp, "d")
		cfg.NoSync = true
	}
	s := &Server{Socket: filepath.Join(temp, "s"), Config: cfg, Faults: faults.New(), temp: temp}
	if err := s.Restart(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(temp))
	}
	return s, nil
}

// ForTest is Start for the time of a test. At its end all gates are opened, late
// work is awaited and everything is removed.
func ForTest(t testing.TB, cfg demodriver.Config) *Server {
	t.Helper()
	s, err := Start(cfg)
	if err != nil {
		t.Fatalf("starting driver: %v", err)
	}
	t.Cleanup(func() {
		s.Faults.Reset()
		ctx, cancel := context.WithTimeout(context.Background(), lateWorkGrace)
		defer cancel()
		if err := s.Close(); err != nil {
			t.Errorf("closing driver: %v", err)
		}
		if err := s.Faults.WaitIdle(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Stop ends the driver hard, like a kill: connections are cut, work in progress
// is given up and the socket goes away. Volumes stay. Repeating it does nothing.
func (s *Server) Stop() error {
	if s.server == nil {
		return nil
	}
	s.server.Stop()
	err := <-s.served
	if errors.Is(err, grpc.ErrServerStopped) {
		err = nil // stopped before it began
	}
	s.server = nil
	return errors.Join(err, s.Driver.Close())
}

// Restart stops the driver, if it runs, and serves a new instance on the same
// socket and the same volumes, made from Config as it is now.
func (s *Server) Restart() error {
	if err := s.Stop(); err != nil {
		return err
	}
	d, err := demodriver.New(s.Config)
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", s.Socket)
	if err != nil {
		return errors.Join(fmt.Errorf("listening on the socket: %w", err), d.Close())
	}
	server := grpc.NewServer(grpc.UnaryInterceptor(s.Faults.Interceptor()))
	d.Register(server)
	s.Driver, s.server, s.served = d, server, make(chan error, 1)
	served := s.served
	go func() { served <- server.Serve(listener) }()
	return nil
}

// Close is Stop that also removes temporary files.
func (s *Server) Close() error {
	err := s.Stop()
	if removeErr := os.RemoveAll(s.temp); removeErr != nil {
		err = errors.Join(err, fmt.Errorf("removing temporary files: %w", removeErr))
	}
	return err
}

// Dial returns a connection to the driver, which the caller closes. After Restart
// it connects anew by itself; a call in the same moment may get UNAVAILABLE.
func (s *Server) Dial() (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("unix://"+s.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("connecting to the driver: %w", err)
	}
	return conn, nil
}
