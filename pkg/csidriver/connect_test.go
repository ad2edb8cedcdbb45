package csidriver_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kubernetes-csi/csi-lib-utils/metrics"
	"google.golang.org/grpc/codes"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/driver"
)

// door stands before a driver's socket. It lets the first visitors in and never
// answers them, as a driver that has no time yet; the others it takes through.
func door(t *testing.T, behind string, unanswered int) (address string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "door") // short: a socket
	if err != nil {
		t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(listener.Close(), os.RemoveAll(dir)) })
	go func() {
		for visitor := 0; ; visitor++ {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			if visitor < unanswered {
				continue
			}
			out, err := (&net.Dialer{}).DialContext(t.Context(), "unix", behind)
			if err != nil {
				_ = in.Close()
				continue
			}
			pass := func(to, from net.Conn) { _, _ = io.Copy(to, from); _ = errors.Join(to.Close(), from.Close()) }
			go pass(in, out)
			go pass(out, in)
		}
	}()
	return filepath.Join(dir, "s")
}

// A connection that the driver had no time to greet was never had, so it is not
// lost: Connect waits for the driver for ever.
func TestConnectWaitsForADriverThatAcceptsAndIsNotReady(t *testing.T) {
	server := driver.ForTest(t, demodriver.Config{Name: "clone.example.com"})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	lost := make(chan error, 1)
	d, err := csidriver.Connect(ctx, door(t, server.Socket, 1), 10*time.Second, metrics.NewCSIMetricsManagerForSidecar(""), func(err error) { lost <- err })
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Name != "clone.example.com" {
		t.Errorf("connected to %q", d.Name)
	}
	select {
	case err := <-lost:
		t.Fatalf("before it was connected: %v", err)
	default:
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-lost:
		if !errors.Is(err, csidriver.ErrLost) {
			t.Errorf("lost with %v", err)
		}
	case <-ctx.Done():
		t.Error("nobody noticed that the driver has gone")
	}
}

// A process that ended because the driver was busy would be started again and again.
func TestConnectRepeatsQuestionsThatHaveNoAnswer(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"GetPluginInfo", "GetPluginCapabilities", "ControllerGetCapabilities"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			server := driver.ForTest(t, demodriver.Config{Name: "clone.example.com"})
			server.Faults.On(method).Nth(1).LoseReply()
			server.Faults.On(method).Nth(2).Fail(codes.DeadlineExceeded, "busy")
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			d, err := csidriver.Connect(ctx, server.Socket, 10*time.Second, metrics.NewCSIMetricsManagerForSidecar(""), func(error) {})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if got := len(server.Faults.Calls(method)); got != 3 || d.Name != "clone.example.com" || !d.CanClone() {
				t.Errorf("after %d calls driver %q, %v", got, d.Name, d.Controller)
			}
		})
	}
}
