package places_test

import (
	"slices"
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/places"
)

func TestAt(t *testing.T) {
	for _, c := range []struct {
		name     string
		segments map[string]string
		keys     []string
		place    string
		all      int
	}{
		{"a driver that tells its place", map[string]string{"zone": "z", "node": "here"}, []string{"node", "zone"}, "node=here,zone=z", 1},
		{"a driver that tells none", nil, nil, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			fixed := places.At("here", c.segments)
			here, there := fixed.Of("here"), fixed.Of("there")
			if !here.Exists || !here.Registered || !here.Runs || !slices.Equal(here.Keys, c.keys) || here.Place.String() != c.place || len(fixed.All()) != c.all {
				t.Errorf("this node is %+v, all are %v", here, fixed.All())
			}
			if there.Exists || there.Name != "there" || there.Place.Len() != 0 {
				t.Errorf("another node is %+v", there)
			}
		})
	}
}
