package stub_test

import (
	"context"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/bench/stub"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/goroutines"
)

// TestMain fails if the tests leave goroutines behind.
func TestMain(m *testing.M) { goroutines.Main(m) }

// start serves a stub and returns a client of it.
func start(t *testing.T, latency time.Duration) (*stub.Driver, csi.ControllerClient) {
	t.Helper()
	d, err := stub.Start("stub.example", latency)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("unix://"+d.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, csi.NewControllerClient(conn)
}

func volume(name string, bytes int64, source string) *csi.CreateVolumeRequest {
	req := &csi.CreateVolumeRequest{Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: bytes}}
	if source != "" {
		req.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
			Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: source},
		}}
	}
	return req
}

func TestVolumesAreEnteredAndStruckOut(t *testing.T) {
	d, client := start(t, 0)
	src, err := client.CreateVolume(t.Context(), volume("src", 5, ""))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		clone, err := client.CreateVolume(t.Context(), volume("copy", 3, src.GetVolume().GetVolumeId()))
		if err != nil {
			t.Fatal(err)
		}
		if v := clone.GetVolume(); v.GetCapacityBytes() != 5 || v.GetContentSource().GetVolume().GetVolumeId() != "src" {
			t.Errorf("the clone is %v, want 5 bytes of src", v)
		}
	}
	for _, wrong := range []struct {
		req  *csi.CreateVolumeRequest
		code codes.Code
	}{
		{volume("", 5, ""), codes.InvalidArgument},
		{volume("src", 6, ""), codes.AlreadyExists},
		{volume("copy", 5, ""), codes.AlreadyExists},
		{volume("another", 5, "none"), codes.NotFound},
	} {
		if _, err := client.CreateVolume(t.Context(), wrong.req); status.Code(err) != wrong.code {
			t.Errorf("%v is answered with %v, want %s", wrong.req, err, wrong.code)
		}
	}
	if n := d.Volumes(); n != 2 {
		t.Errorf("there are %d volumes, want 2", n)
	}
	for _, id := range []string{"src", "src", "copy"} {
		if _, err := client.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
			t.Error(err)
		}
	}
	if n := d.Volumes(); n != 0 {
		t.Errorf("there are %d volumes, want none", n)
	}
	calls := d.Calls()
	if calls["CreateVolume"] != 7 || calls["DeleteVolume"] != 3 {
		t.Errorf("calls are %v, want 7 of CreateVolume and 3 of DeleteVolume", calls)
	}
}

func TestCallsTakeTheirTimeSideBySide(t *testing.T) {
	d, client := start(t, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	for _, name := range []string{"a", "b"} {
		go func() {
			_, err := client.CreateVolume(ctx, volume(name, 1, ""))
			done <- err
		}()
	}
	for d.Calls()["CreateVolume"] < 2 {
		select {
		case err := <-done:
			t.Fatalf("a call that takes an hour has ended: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	for range 2 {
		if err := <-done; status.Code(err) != codes.Canceled {
			t.Errorf("a call that was given up ended with %v, want Canceled", err)
		}
	}
	if n := d.MostAtOnce(); n != 2 {
		t.Errorf("%d calls were answered at once, want 2", n)
	}
	if n := d.Volumes(); n != 0 {
		t.Errorf("%d volumes of calls that were given up, want none", n)
	}
}
