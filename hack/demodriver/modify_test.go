package demodriver_test

import (
	"maps"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
)

func TestMutableParameters(t *testing.T) {
	s := serve(t, demodriver.Config{Modifies: true})
	req := request("a")
	req.MutableParameters = map[string]string{"tier": "gold", "iops": "100"}
	created, err := s.CreateVolume(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	modify := &csi.ControllerModifyVolumeRequest{VolumeId: created.GetVolume().GetVolumeId(), MutableParameters: map[string]string{"iops": "200"}}
	if _, err := s.ControllerModifyVolume(t.Context(), modify); err != nil {
		t.Fatal(err)
	}
	if got, want := s.Driver.Volumes()[0].MutableParameters, map[string]string{"tier": "gold", "iops": "200"}; !maps.Equal(got, want) {
		t.Errorf("the volume has %v, want %v", got, want)
	}
	modify.VolumeId = "vol-0"
	if _, err := s.ControllerModifyVolume(t.Context(), modify); status.Code(err) != codes.NotFound {
		t.Errorf("a volume that does not exist: %v", err)
	}

	plain := serve(t, demodriver.Config{})
	if _, err := plain.CreateVolume(t.Context(), req); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a driver without such parameters creates: %v", err)
	}
	if _, err := plain.ControllerModifyVolume(t.Context(), modify); status.Code(err) != codes.Unimplemented {
		t.Errorf("a driver without such parameters modifies: %v", err)
	}
}

func TestSecretsAreDemanded(t *testing.T) {
	s := serve(t, demodriver.Config{Secrets: map[string]string{"user": "demo", "password": "open sesame"}})
	req := request("a")
	for _, secrets := range []map[string]string{nil, {"user": "demo"}, {"user": "demo", "password": "guess"}} {
		req.Secrets = secrets
		if _, err := s.CreateVolume(t.Context(), req); status.Code(err) != codes.Unauthenticated {
			t.Errorf("with %v: %v", secrets, err)
		}
	}
	req.Secrets = map[string]string{"user": "demo", "password": "open sesame", "more": "x"}
	created, err := s.CreateVolume(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	gone := &csi.DeleteVolumeRequest{VolumeId: created.GetVolume().GetVolumeId()}
	if _, err := s.DeleteVolume(t.Context(), gone); status.Code(err) != codes.Unauthenticated {
		t.Errorf("deleting without: %v", err)
	}
	gone.Secrets = req.GetSecrets()
	if _, err := s.DeleteVolume(t.Context(), gone); err != nil {
		t.Error(err)
	}
}
