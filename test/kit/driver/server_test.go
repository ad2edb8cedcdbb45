package driver_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/driver"
)

// patience bounds waiting for what must happen; nothing takes that long.
const patience = 3 * time.Minute

func controller(t *testing.T, s *driver.Server) csi.ControllerClient {
	t.Helper()
	conn, err := s.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return csi.NewControllerClient(conn)
}

func blank(name string) *csi.CreateVolumeRequest {
	return &csi.CreateVolumeRequest{
		Name: name,
		VolumeCapabilities: []*csi.VolumeCapability{{
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		}},
	}
}

func TestVolumesSurviveARestartOnTheSameSocket(t *testing.T) {
	s := driver.ForTest(t, demodriver.Config{Name: "restart.example"})
	client := controller(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	first, err := client.CreateVolume(ctx, blank("a"))
	if err != nil {
		t.Fatal(err)
	}
	before := s.Driver
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if s.Driver == before {
		t.Fatal("the driver instance is the old one")
	}
	again, err := controller(t, s).CreateVolume(ctx, blank("a"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := again.GetVolume().GetVolumeId(), first.GetVolume().GetVolumeId(); got != want {
		t.Fatalf("volume id after restart is %q, want %q", got, want)
	}
	if n := len(s.Faults.Calls("CreateVolume")); n != 2 {
		t.Fatalf("%d calls on record over the restart, want 2", n)
	}
}

func TestRestartTakesAChangedConfig(t *testing.T) {
	s := driver.ForTest(t, demodriver.Config{})
	s.Config.Without = []csi.ControllerServiceCapability_RPC_Type{csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	_, err := controller(t, s).CreateVolume(t.Context(), blank("a"))
	if status.Code(err) != codes.Unimplemented {
		t.Fatalf("got %v, want Unimplemented", err)
	}
}

func TestStopCutsACallInProgress(t *testing.T) {
	s := driver.ForTest(t, demodriver.Config{})
	client := controller(t, s)
	gate := s.Faults.On("CreateVolume").Gate()
	answer := make(chan error, 1)
	go func() {
		_, err := client.CreateVolume(context.Background(), blank("a"))
		answer <- err
	}()
	<-gate.Entered()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; status.Code(err) != codes.Unavailable {
		t.Fatalf("got %v, want Unavailable", err)
	}
	if conn, err := net.Dial("unix", s.Socket); err == nil {
		_ = conn.Close()
		t.Fatal("the socket still answers")
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Driver.Volumes()); n != 0 {
		t.Fatalf("%d volumes after the cut call, want none", n)
	}
}

func TestAHungCallLeavesItsVolumeLate(t *testing.T) {
	s := driver.ForTest(t, demodriver.Config{})
	client := controller(t, s)
	gate := s.Faults.On("CreateVolume").Next(1).HangUntilReleased()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-gate.Entered(); cancel() }()
	if _, err := client.CreateVolume(ctx, blank("late")); status.Code(err) != codes.Canceled {
		t.Fatalf("got %v, want Canceled", err)
	}
	if n := len(s.Driver.Volumes()); n != 0 {
		t.Fatalf("%d volumes before the release, want none", n)
	}
	gate.Release()
	ctx, cancel = context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Faults.WaitIdle(ctx); err != nil {
		t.Fatal(err)
	}
	if v := s.Driver.Volumes(); len(v) != 1 || v[0].Name != "late" {
		t.Fatalf("volumes are %v, want the late one", v)
	}
}

func TestCloseRemovesOnlyWhatIsTemporary(t *testing.T) {
	own := t.TempDir()
	s, err := driver.Start(demodriver.Config{Dir: own})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(s.Socket)); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("directory of the socket: %v, want it gone", err)
	}
	if _, err := os.Stat(filepath.Join(own, "volumes")); err != nil {
		t.Fatalf("volumes in the caller's directory: %v", err)
	}
}
