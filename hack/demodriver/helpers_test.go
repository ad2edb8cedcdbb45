package demodriver_test

import (
	"context"
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

const (
	mib = int64(1) << 20
	// patience bounds waiting for what must happen; nothing takes that long.
	patience = 3 * time.Minute

	writer = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
)

// served is a driver behind its socket, and clients for it.
type served struct {
	*driver.Server
	csi.ControllerClient
	csi.NodeClient
	csi.IdentityClient
}

func serve(t *testing.T, cfg demodriver.Config) *served {
	t.Helper()
	s := &served{Server: driver.ForTest(t, cfg)}
	s.connect(t)
	return s
}

// connect makes the clients; it is needed again after Restart.
func (s *served) connect(t *testing.T) {
	t.Helper()
	conn, err := s.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s.ControllerClient = csi.NewControllerClient(conn)
	s.NodeClient = csi.NewNodeClient(conn)
	s.IdentityClient = csi.NewIdentityClient(conn)
}

// create makes a volume that the test needs.
func (s *served) create(t *testing.T, req *csi.CreateVolumeRequest) *csi.Volume {
	t.Helper()
	resp, err := s.CreateVolume(t.Context(), req)
	if err != nil {
		t.Fatalf("creating %q: %v", req.GetName(), err)
	}
	return resp.GetVolume()
}

// write puts a file into a volume.
func (s *served) write(t *testing.T, volumeID, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.Driver.VolumePath(volumeID), name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// read gets a file out of a volume.
func (s *served) read(t *testing.T, volumeID, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.Driver.VolumePath(volumeID), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// untilAnswered repeats a call as long as it is ABORTED: another one is at work
// on the same object.
func untilAnswered(ctx context.Context, call func() error) error {
	for {
		err := call()
		if status.Code(err) != codes.Aborted || ctx.Err() != nil {
			return err
		}
	}
}

func mount(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
	}
}

func block(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
	}
}

// request is for a blank filesystem volume; change it with the functions below.
func request(name string, changes ...func(*csi.CreateVolumeRequest)) *csi.CreateVolumeRequest {
	req := &csi.CreateVolumeRequest{Name: name, VolumeCapabilities: []*csi.VolumeCapability{mount(writer)}}
	for _, change := range changes {
		change(req)
	}
	return req
}

func sized(required, limit int64) func(*csi.CreateVolumeRequest) {
	return func(req *csi.CreateVolumeRequest) {
		req.CapacityRange = &csi.CapacityRange{RequiredBytes: required, LimitBytes: limit}
	}
}

func asBlock(req *csi.CreateVolumeRequest) {
	req.VolumeCapabilities = []*csi.VolumeCapability{block(writer)}
}

func cloneOf(volumeID string) func(*csi.CreateVolumeRequest) {
	return func(req *csi.CreateVolumeRequest) {
		req.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
			Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: volumeID},
		}}
	}
}

func restoreOf(snapshotID string) func(*csi.CreateVolumeRequest) {
	return func(req *csi.CreateVolumeRequest) {
		req.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
			Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: snapshotID},
		}}
	}
}

func parameters(key, value string) func(*csi.CreateVolumeRequest) {
	return func(req *csi.CreateVolumeRequest) { req.Parameters = map[string]string{key: value} }
}

func required(segments map[string]string) func(*csi.CreateVolumeRequest) {
	return func(req *csi.CreateVolumeRequest) {
		req.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: []*csi.Topology{{Segments: segments}}}
	}
}
