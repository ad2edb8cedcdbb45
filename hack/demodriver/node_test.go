package demodriver_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
)

const (
	singleWriter = csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
	multiWriter  = csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER
)

func (s *served) publish(t *testing.T, volumeID, target string, capability *csi.VolumeCapability, readOnly bool) codes.Code {
	t.Helper()
	_, err := s.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{
		VolumeId: volumeID, TargetPath: target, VolumeCapability: capability, Readonly: readOnly,
	})
	return status.Code(err)
}

func (s *served) unpublish(t *testing.T, volumeID, target string) {
	t.Helper()
	_, err := s.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: volumeID, TargetPath: target})
	if err != nil {
		t.Fatalf("unpublishing %q: %v", target, err)
	}
	if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("target after unpublishing: %v, want it gone", err)
	}
}

// eachMode runs a test for links and, if permitted here, for mounts.
func eachMode(t *testing.T, test func(t *testing.T, s *served, target string)) {
	for _, mode := range []demodriver.PublishMode{demodriver.PublishSymlink, demodriver.PublishMount} {
		t.Run(string(mode), func(t *testing.T) {
			s := serve(t, demodriver.Config{PublishMode: mode})
			target := filepath.Join(t.TempDir(), "target")
			probe := s.create(t, request("probe")).GetVolumeId()
			if mode == demodriver.PublishMount {
				if os.Geteuid() != 0 || s.publish(t, probe, target, mount(writer), false) != codes.OK {
					t.Skip("mounting is not permitted here")
				}
				s.unpublish(t, probe, target)
			}
			test(t, s, target)
		})
	}
}

func TestAPublishedVolumeIsTheVolume(t *testing.T) {
	eachMode(t, func(t *testing.T, s *served, target string) {
		id := s.create(t, request("a")).GetVolumeId()
		for range 2 { // the second time there is nothing to do
			if got := s.publish(t, id, target, mount(writer), false); got != codes.OK {
				t.Fatalf("publishing got %s", got)
			}
		}
		if err := os.WriteFile(filepath.Join(target, "file"), []byte("data"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := s.read(t, id, "file"); got != "data" {
			t.Fatalf("volume has %q, want data", got)
		}
		_, err := s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
		if status.Code(err) != codes.FailedPrecondition {
			t.Fatalf("deleting it got %v, want FailedPrecondition", err)
		}
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
		s.connect(t)
		if got := s.publish(t, id, target, mount(writer), true); got != codes.AlreadyExists {
			t.Fatalf("publishing read-only after a restart got %s, want AlreadyExists", got)
		}
		s.unpublish(t, id, target)
		s.unpublish(t, id, target) // nothing to do
		if got := s.read(t, id, "file"); got != "data" {
			t.Fatalf("volume has %q after unpublishing, want data", got)
		}
		if _, err := s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAPublishedBlockVolumeIsTheFile(t *testing.T) {
	eachMode(t, func(t *testing.T, s *served, target string) {
		id := s.create(t, request("a", asBlock)).GetVolumeId()
		if got := s.publish(t, id, target, block(writer), false); got != codes.OK {
			t.Fatalf("publishing got %s", got)
		}
		info, err := os.Stat(target)
		if err != nil || info.Size() != mib {
			t.Fatalf("target has %v (%v), want 1 MiB", info, err)
		}
		s.unpublish(t, id, target)
	})
}

func TestAReadOnlyMountIsReadOnly(t *testing.T) {
	eachMode(t, func(t *testing.T, s *served, target string) {
		if s.Config.PublishMode != demodriver.PublishMount {
			t.Skip("a link cannot be read-only")
		}
		id := s.create(t, request("a")).GetVolumeId()
		if got := s.publish(t, id, target, mount(writer), true); got != codes.OK {
			t.Fatalf("publishing got %s", got)
		}
		err := os.WriteFile(filepath.Join(target, "file"), nil, 0o600)
		s.unpublish(t, id, target)
		if err == nil {
			t.Fatal("writing worked")
		}
	})
}

func TestWhoMayPublishWhere(t *testing.T) {
	s := serve(t, demodriver.Config{PublishMode: demodriver.PublishSymlink})
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	shared := s.create(t, request("shared")).GetVolumeId()
	alone := s.create(t, request("alone")).GetVolumeId()
	if err := errors.Join(os.Mkdir(at("empty"), 0o700), os.MkdirAll(at("full/of"), 0o700),
		os.WriteFile(at("file"), []byte("data"), 0o600), os.Symlink("/etc", at("link"))); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name       string
		volume     string
		target     string
		capability *csi.VolumeCapability
		want       codes.Code
	}{
		{"a shared volume", shared, at("1"), mount(multiWriter), codes.OK},
		{"a shared volume at another path", shared, at("2"), mount(multiWriter), codes.OK},
		{"a shared volume in another mode at the same path", shared, at("2"), mount(writer), codes.AlreadyExists},
		{"another volume at the same path", alone, at("2"), mount(writer), codes.AlreadyExists},
		{"a single writer where there are others", shared, at("3"), mount(singleWriter), codes.FailedPrecondition},
		{"a single writer", alone, at("4"), mount(singleWriter), codes.OK},
		{"a single writer again", alone, at("4"), mount(singleWriter), codes.OK},
		{"others beside a single writer", alone, at("5"), mount(multiWriter), codes.FailedPrecondition},
		{"onto an empty directory", shared, at("empty"), mount(multiWriter), codes.OK},
		{"onto a directory that is not empty", shared, at("full"), mount(multiWriter), codes.Internal},
		{"onto a file with data", shared, at("file"), mount(multiWriter), codes.Internal},
		{"onto a link that is not ours", shared, at("link"), mount(multiWriter), codes.Internal},
		{"a filesystem as a block device", shared, at("6"), block(multiWriter), codes.InvalidArgument},
		{"what does not exist", "vol-0", at("7"), mount(writer), codes.NotFound},
		{"nowhere", shared, "", mount(writer), codes.InvalidArgument},
		{"nothing", "", at("8"), mount(writer), codes.InvalidArgument},
		{"without saying how", shared, at("9"), nil, codes.InvalidArgument},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if got := s.publish(t, tc.volume, tc.target, tc.capability, false); got != tc.want {
				t.Fatalf("got %s, want %s", got, tc.want)
			}
		})
	}
	if to, err := os.Readlink(at("link")); err != nil || to != "/etc" {
		t.Errorf("the link that is not ours points to %q (%v) now", to, err)
	}
	_, err := s.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: shared, TargetPath: at("4")})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("unpublishing what another volume has got %v, want FailedPrecondition", err)
	}
}

func TestATargetThatARebootTookAwayDoesNotCount(t *testing.T) {
	s := serve(t, demodriver.Config{PublishMode: demodriver.PublishSymlink})
	target := filepath.Join(t.TempDir(), "target")
	id := s.create(t, request("a")).GetVolumeId()
	if got := s.publish(t, id, target, mount(singleWriter), false); got != codes.OK {
		t.Fatalf("publishing got %s", got)
	}
	if err := os.Remove(target); err != nil {
		t.Fatal(err)
	}
	if got := s.publish(t, id, target+"-2", mount(singleWriter), false); got != codes.OK {
		t.Fatalf("publishing elsewhere got %s", got)
	}
	s.unpublish(t, id, target+"-2")
	if _, err := s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
		t.Fatal(err)
	}
}
