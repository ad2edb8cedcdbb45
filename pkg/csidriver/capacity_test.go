package csidriver_test

import (
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-lib-utils/metrics"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/driver"
)

func TestGetCapacity(t *testing.T) {
	server := driver.ForTest(t, demodriver.Config{Name: "clone.example.com", Capacity: 3 << 20})
	d, err := csidriver.Connect(t.Context(), server.Socket, 3*time.Second, metrics.NewCSIMetricsManagerForSidecar(""), func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if !d.CanTellCapacity() {
		t.Error("the demo driver reports GET_CAPACITY")
	}
	// One that does not answer is not waited for longer than for any other call.
	hang := server.Faults.On("GetCapacity").HangUntilReleased()
	_, err = d.GetCapacity(t.Context(), &csi.GetCapacityRequest{})
	if status.Code(err) != codes.DeadlineExceeded || status.Convert(err).Message() != "no answer within 3s" {
		t.Errorf("got %v, want no answer", err)
	}
	hang.Release()
	server.Faults.Reset()
	resp, err := d.GetCapacity(t.Context(), &csi.GetCapacityRequest{})
	if resp.GetAvailableCapacity() != 3<<20 {
		t.Errorf("got %v (%v), want 3Mi", resp, err)
	}
}
