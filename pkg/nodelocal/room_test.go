package nodelocal_test

import (
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/nodelocal"
)

func TestDelays(t *testing.T) {
	nothing := func(time.Duration) time.Duration { return 0 }
	most := func(d time.Duration) time.Duration { return d - 1 }
	delays := nodelocal.Delays{Base: 20 * time.Second, Max: time.Minute}
	for _, c := range []struct {
		name   string
		delays nodelocal.Delays
		tries  int
		random func(time.Duration) time.Duration
		want   time.Duration
	}{
		{"the first, at the longest", delays, 0, nothing, 20 * time.Second},
		{"the first, at the shortest", delays, 0, most, 1},
		{"the second", delays, 1, nothing, 40 * time.Second},
		{"the second, at the shortest", delays, 1, most, 20*time.Second + 1},
		{"the third is as long as they get", delays, 2, nothing, time.Minute},
		{"so is the thousandth", delays, 1000, nothing, time.Minute},
		{"one delay for all", nodelocal.Delays{Base: time.Second, Max: time.Second}, 5, most, 1},
		{"chance never makes it less than nothing", delays, 0, func(d time.Duration) time.Duration { return 2 * d }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.delays.After(c.tries, c.random); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestAsks(t *testing.T) {
	capabilities := []*csi.VolumeCapability{{AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}}}
	here, there := &csi.Topology{Segments: map[string]string{"node": "1"}}, &csi.Topology{Segments: map[string]string{"node": "2"}}
	volume := &csi.CreateVolumeRequest{
		Name: "pvc-1", VolumeCapabilities: capabilities,
		Parameters: map[string]string{"tier": "fast", "csi.storage.k8s.io/pvc/name": "db"},
	}
	ask := func(place *csi.Topology) *csi.GetCapacityRequest {
		return &csi.GetCapacityRequest{VolumeCapabilities: capabilities, Parameters: map[string]string{"tier": "fast"}, AccessibleTopology: place}
	}
	for _, c := range []struct {
		name   string
		places []*csi.Topology
		want   []*csi.GetCapacityRequest
	}{
		{"no place is required", nil, []*csi.GetCapacityRequest{ask(nil)}},
		{"one place", []*csi.Topology{here}, []*csi.GetCapacityRequest{ask(here)}},
		{"each place", []*csi.Topology{here, there}, []*csi.GetCapacityRequest{ask(here), ask(there)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.places != nil {
				volume.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: c.places}
			}
			got := nodelocal.Asks(volume)
			if len(got) != len(c.want) {
				t.Fatalf("got %v", got)
			}
			for i := range got {
				if !proto.Equal(got[i], c.want[i]) {
					t.Errorf("got %v, want %v", got[i], c.want[i])
				}
			}
		})
	}
}

func TestFits(t *testing.T) {
	for _, c := range []struct {
		name              string
		bytes, free, most int64
		want              bool
	}{
		{"room to spare", 5, 6, 0, true},
		{"just enough", 6, 6, 0, true},
		{"too little", 7, 6, 0, false},
		{"nothing is asked for", 0, 0, 0, true},
		{"enough, but not for one volume", 5, 10, 4, false},
		{"enough for one volume, too", 5, 10, 5, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := nodelocal.Fits(c.bytes, c.free, c.most); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}
