package demodriver_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
)

// serveDevices serves a driver with loop devices, if they can be had here.
func serveDevices(t *testing.T) *served {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("loop devices take root")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skipf("there are no loop devices here: %v", err)
	}
	return serve(t, demodriver.Config{PublishMode: demodriver.PublishMount, LoopDevices: true})
}

func (s *served) stage(t *testing.T, volumeID string, capability *csi.VolumeCapability) codes.Code {
	t.Helper()
	_, err := s.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{
		VolumeId: volumeID, StagingTargetPath: "/staging", VolumeCapability: capability,
	})
	return status.Code(err)
}

func (s *served) unstage(t *testing.T, volumeID string) {
	t.Helper()
	_, err := s.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: volumeID, StagingTargetPath: "/staging"})
	if err != nil {
		t.Fatalf("unstaging %q: %v", volumeID, err)
	}
}

// devicesOn returns the loop devices that show a file.
func devicesOn(t *testing.T, path string) []string {
	t.Helper()
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		if shown, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(shown)) == path {
			found = append(found, file)
		}
	}
	return found
}

func TestAStagedBlockVolumeIsABlockDevice(t *testing.T) {
	s := serveDevices(t)
	id := s.create(t, request("a", asBlock)).GetVolumeId()
	path := s.Driver.VolumePath(id)
	target := filepath.Join(t.TempDir(), "target")
	if got := s.publish(t, id, target, block(writer), false); got != codes.Internal {
		t.Errorf("publishing before staging got %s, want Internal", got)
	}
	for range 2 { // the second time there is nothing to do
		if got := s.stage(t, id, block(writer)); got != codes.OK {
			t.Fatalf("staging got %s", got)
		}
		if got := s.publish(t, id, target, block(writer), false); got != codes.OK {
			s.unstage(t, id)
			t.Fatalf("publishing got %s", got)
		}
	}
	if found := devicesOn(t, path); len(found) != 1 {
		t.Errorf("devices of the volume: %v, want one", found)
	}
	info, err := os.Stat(target)
	if err != nil || info.Mode()&os.ModeDevice == 0 {
		t.Errorf("target is %v (%v), want a device", info, err)
	}
	written := bytes.Repeat([]byte("block"), 1000)
	writeDevice(t, target, written)
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	s.connect(t)
	s.unpublish(t, id, target)
	s.unstage(t, id)
	s.unstage(t, id) // nothing to do
	if found := devicesOn(t, path); len(found) != 0 {
		t.Errorf("devices are left: %v", found)
	}
	content, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(content, written) {
		t.Errorf("the volume does not hold what was written to the device (%v)", err)
	}
}

func writeDevice(t *testing.T, path string, content []byte) {
	t.Helper()
	device, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if _, err := device.Write(content); err != nil {
		t.Error(err)
	}
	if err := device.Sync(); err != nil {
		t.Error(err)
	}
}

func TestStagingAFilesystemVolumeChangesNothing(t *testing.T) {
	s := serveDevices(t)
	id := s.create(t, request("a")).GetVolumeId()
	if got := s.stage(t, id, mount(writer)); got != codes.OK {
		t.Errorf("staging got %s", got)
	}
	target := filepath.Join(t.TempDir(), "target")
	if got := s.publish(t, id, target, mount(writer), false); got != codes.OK {
		t.Fatalf("publishing got %s", got)
	}
	s.unpublish(t, id, target)
	s.unstage(t, id)
}

func TestWhoMayStage(t *testing.T) {
	s := serveDevices(t)
	if got := s.stage(t, "", block(writer)); got != codes.InvalidArgument {
		t.Errorf("staging nothing got %s", got)
	}
	if got := s.stage(t, "vol-0", block(writer)); got != codes.NotFound {
		t.Errorf("staging what does not exist got %s", got)
	}
	s.unstage(t, "vol-0")
	without := serve(t, demodriver.Config{})
	if got := without.stage(t, "vol-0", block(writer)); got != codes.Unimplemented {
		t.Errorf("staging with a driver that has no devices got %s", got)
	}
}

func TestDevicesTakeMounts(t *testing.T) {
	_, err := demodriver.New(demodriver.Config{Name: "d", Dir: t.TempDir(), PublishMode: demodriver.PublishSymlink, LoopDevices: true})
	const want = `demo driver "d" is to have loop devices but publishes by "symlink"; use mount, a link is no device`
	if err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}
