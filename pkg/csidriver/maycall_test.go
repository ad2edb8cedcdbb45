package csidriver_test

import (
	"errors"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-lib-utils/metrics"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/driver"
)

// A process that may not call the driver any more, because another one may be at
// work, does not; what it would have changed stays as it is.
func TestADriverIsCalledOnlyByWhoMay(t *testing.T) {
	server := driver.ForTest(t, demodriver.Config{Name: "clone.example.com"})
	d, err := csidriver.Connect(t.Context(), server.Socket, 10*time.Second, metrics.NewCSIMetricsManagerForSidecar(""), func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	req := &csi.CreateVolumeRequest{
		Name: "pvc-1", CapacityRange: &csi.CapacityRange{RequiredBytes: 1 << 20},
		VolumeCapabilities: []*csi.VolumeCapability{{
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
		}},
	}
	created, outcome := d.CreateVolume(t.Context(), req, nil)
	if outcome.Err != nil {
		t.Fatal(outcome.Err)
	}
	late := errors.New("another one may be at work")
	d.MayCall = func() error { return late }
	req.Name = "pvc-2"
	if _, outcome := d.CreateVolume(t.Context(), req, nil); !errors.Is(outcome.Err, late) {
		t.Errorf("CreateVolume: %v", outcome.Err)
	}
	if err := d.DeleteVolume(t.Context(), created.GetVolume().GetVolumeId(), nil); !errors.Is(err, late) {
		t.Errorf("DeleteVolume: %v", err)
	}
	if volumes := server.Driver.Volumes(); len(volumes) != 1 {
		t.Errorf("the driver has %d volumes, want the first one", len(volumes))
	}
	d.MayCall = func() error { return nil }
	if err := d.DeleteVolume(t.Context(), created.GetVolume().GetVolumeId(), nil); err != nil {
		t.Error(err)
	}
}
