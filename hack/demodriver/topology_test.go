package demodriver_test

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
)

func zone(name string) map[string]string { return map[string]string{"zone": name, "kind": "disk"} }

// wanted asks for zones: those of preferred in their order, and of all one that must do.
func wanted(preferred, requisite string) func(*csi.CreateVolumeRequest) {
	list := func(zones string) (all []*csi.Topology) {
		for _, z := range zones {
			all = append(all, &csi.Topology{Segments: map[string]string{"zone": string(z)}})
		}
		return all
	}
	return func(r *csi.CreateVolumeRequest) {
		r.AccessibilityRequirements = &csi.TopologyRequirement{Preferred: list(preferred), Requisite: list(requisite)}
	}
}

func TestVolumesAreAtThePreferredPlace(t *testing.T) {
	s := serve(t, demodriver.Config{Places: []map[string]string{zone("a"), zone("b"), zone("c")}, CopiesStay: true})
	source := s.create(t, request("source", wanted("b", "b"))).GetVolumeId()
	for _, c := range []struct {
		name string
		req  *csi.CreateVolumeRequest
		code codes.Code
		zone string
	}{
		{"nothing asked for is the first place", request("1"), codes.OK, "a"},
		{"the first that is preferred", request("2", wanted("cba", "abc")), codes.OK, "c"},
		{"one of the requisite", request("3", wanted("", "xb")), codes.OK, "b"},
		{"a preferred place that there is not", request("4", wanted("xa", "xa")), codes.OK, "a"},
		{"no such place", request("5", wanted("xy", "xy")), codes.ResourceExhausted, ""},
		{"the same again", request("2", wanted("abc", "abc")), codes.OK, "c"},
		{"the same for another place", request("2", wanted("a", "a")), codes.AlreadyExists, ""},
		{"a copy is where its source is", request("6", cloneOf(source), wanted("ab", "ab")), codes.OK, "b"},
		{"a copy can be nowhere else", request("7", cloneOf(source), wanted("a", "a")), codes.InvalidArgument, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, err := s.CreateVolume(t.Context(), c.req)
			if status.Code(err) != c.code {
				t.Fatalf("got %v, want %s", err, c.code)
			}
			if c.code != codes.OK {
				return
			}
			places := resp.GetVolume().GetAccessibleTopology()
			if len(places) != 1 || places[0].GetSegments()["zone"] != c.zone || places[0].GetSegments()["kind"] != "disk" {
				t.Errorf("the volume can be used from %v, want zone %q", places, c.zone)
			}
		})
	}
}

func TestCapacityIsToldOfEveryPlace(t *testing.T) {
	s := serve(t, demodriver.Config{Places: []map[string]string{zone("a"), zone("b")}})
	for name, some := range map[string]bool{"a": true, "b": true, "c": false} {
		resp, err := s.GetCapacity(t.Context(), &csi.GetCapacityRequest{AccessibleTopology: &csi.Topology{Segments: zone(name)}})
		if err != nil || (resp.GetAvailableCapacity() > 0) != some {
			t.Errorf("capacity at %s is %d (%v), want some: %t", name, resp.GetAvailableCapacity(), err, some)
		}
	}
}

// A folder is one node's, unless its place is said to be one of several nodes.
func TestVolumesOfAPlaceOfSeveralNodes(t *testing.T) {
	for name, c := range map[string]struct {
		config demodriver.Config
		code   codes.Code
	}{
		"without topology":           {demodriver.Config{}, codes.OK},
		"the place of one node":      {demodriver.Config{Segments: zone("a")}, codes.InvalidArgument},
		"the place of several nodes": {demodriver.Config{Segments: zone("a"), Shared: true}, codes.OK},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, c.config)
			_, err := s.CreateVolume(t.Context(), request("many", func(r *csi.CreateVolumeRequest) {
				r.VolumeCapabilities = []*csi.VolumeCapability{mount(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER)}
			}))
			if status.Code(err) != c.code {
				t.Errorf("got %v, want %s", err, c.code)
			}
		})
	}
}
