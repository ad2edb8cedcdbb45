package capacity_test

import (
	"maps"
	"slices"
	"testing"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/capacity"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
)

const driver = "demo.example"

// term returns the place with the keys and values.
func term(words ...string) topology.Term {
	pairs := map[string]string{}
	for i := 0; i+1 < len(words); i += 2 {
		pairs[words[i]] = words[i+1]
	}
	return topology.TermOf(pairs)
}

func class(name, provisioner string, mode *storagev1.VolumeBindingMode) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: provisioner, VolumeBindingMode: mode}
}

func TestWanted(t *testing.T) {
	delayed, immediate := new(storagev1.VolumeBindingWaitForFirstConsumer), new(storagev1.VolumeBindingImmediate)
	all := []*storagev1.StorageClass{
		class("late", driver, delayed), class("now", driver, immediate), class("unsaid", driver, nil),
		class("other", "other.example", delayed), class("old", "kubernetes.io/demo", delayed),
	}
	hosts := []topology.Term{term("host", "a"), term("host", "b")}
	for _, c := range []struct {
		name      string
		classes   []*storagev1.StorageClass
		segments  []topology.Term
		immediate bool
		want      []capacity.Pair
	}{
		{"each place with each class of the driver, with delayed binding", all, hosts, false, []capacity.Pair{{"late", "host=a"}, {"late", "host=b"}}},
		{"with immediate binding, too, if that is asked for", all, hosts[:1], true, []capacity.Pair{{"late", "host=a"}, {"now", "host=a"}, {"unsaid", "host=a"}}},
		{"everywhere is one place", all, capacity.Everywhere().All(), false, []capacity.Pair{{"late", ""}}},
		{"a place of several keys", all, []topology.Term{term("zone", "1", "host", "a")}, false, []capacity.Pair{{"late", "host=a,zone=1"}}},
		{"allowedTopologies are not asked", []*storagev1.StorageClass{{
			ObjectMeta: metav1.ObjectMeta{Name: "some"}, Provisioner: driver, VolumeBindingMode: delayed,
			AllowedTopologies: topologyOf("host", "b"),
		}}, hosts, false, []capacity.Pair{{"some", "host=a"}, {"some", "host=b"}}},
		{"no places", all, nil, true, nil},
		{"no classes", nil, hosts, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := slices.SortedFunc(maps.Keys(capacity.Wanted(driver, c.classes, c.segments, c.immediate)), comparePairs)
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %v\nwant %v", got, c.want)
			}
		})
	}
}

func TestObjectsAreFoundByWhatTheyAreAbout(t *testing.T) {
	for _, c := range []struct {
		name     string
		topology *metav1.LabelSelector
		want     capacity.Pair
	}{
		{"a place", &metav1.LabelSelector{MatchLabels: map[string]string{"zone": "1", "host": "a"}}, capacity.Pair{Class: "c", Segment: "host=a,zone=1"}},
		{"everywhere, as it is written", &metav1.LabelSelector{MatchLabels: map[string]string{}}, capacity.Pair{Class: "c"}},
		{"everywhere, as it is read (C-2)", &metav1.LabelSelector{}, capacity.Pair{Class: "c"}},
		{"nowhere is none of ours", nil, capacity.Pair{}},
		{"nor is anything else than labels", &metav1.LabelSelector{
			MatchLabels:      map[string]string{"host": "a"},
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "host", Operator: metav1.LabelSelectorOpExists}},
		}, capacity.Pair{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := capacity.Of(&storagev1.CSIStorageCapacity{StorageClassName: "c", NodeTopology: c.topology}); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestTouched(t *testing.T) {
	for _, c := range []struct {
		name    string
		segment topology.Term
		terms   []topology.Term
		want    bool
	}{
		{"the same place", term("host", "a"), []topology.Term{term("host", "a")}, true},
		{"another place", term("host", "a"), []topology.Term{term("host", "b")}, false},
		{"one of several places", term("host", "a"), []topology.Term{term("host", "b"), term("host", "a")}, true},
		{"a volume of the zone, and one of its hosts (C-5)", term("zone", "1", "host", "a"), []topology.Term{term("zone", "1")}, true},
		{"a volume of another zone", term("zone", "1", "host", "a"), []topology.Term{term("zone", "2")}, false},
		{"a volume of a host, and its zone (C-5)", term("zone", "1"), []topology.Term{term("zone", "1", "host", "a")}, true},
		{"keys in another order (C-4)", term("b", "2", "a", "1"), []topology.Term{term("a", "1", "b", "2")}, true},
		{"everywhere is touched by every volume", term(), []topology.Term{term("host", "a")}, true},
		{"a volume that can be used everywhere", term("host", "a"), nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := capacity.Touched(c.segment, c.terms); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}

// C-10: the keys belong to the CSINode in the cache.
func TestSegmentsAreSortedAndTheKeysOfTheNodeAreNot(t *testing.T) {
	keys := []string{"zone", "host"}
	segment, _ := topology.Place(map[string]string{"zone": "1", "host": "a"}, keys)
	if segment.String() != "host=a,zone=1" || !slices.Equal(keys, []string{"zone", "host"}) {
		t.Errorf("the segment is %q, the keys are %v", segment, keys)
	}
}

func TestParametersForTheDriver(t *testing.T) {
	for _, c := range []struct {
		name      string
		have, get map[string]string
	}{
		{"none", nil, map[string]string{}},
		{"its own", map[string]string{"pool": "fast"}, map[string]string{"pool": "fast"}},
		{"reserved ones do not reach it (C-3)", map[string]string{
			"pool": "fast", "csi.storage.k8s.io/fstype": "xfs", "csi.storage.k8s.io/provisioner-secret-name": "s", "csi.storage.k8s.io/provisioner-secret-namespace": "n",
		}, map[string]string{"pool": "fast"}},
		{"old spellings do, as in CreateVolume", map[string]string{"fsType": "xfs", "csiProvisionerSecretName": "s"}, map[string]string{"fsType": "xfs", "csiProvisionerSecretName": "s"}},
		{"nor do those of a class that is wrong", map[string]string{"pool": "fast", "csi.storage.k8s.io/typo": "x"}, map[string]string{"pool": "fast"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := capacity.Parameters(&storagev1.StorageClass{Parameters: c.have}); !maps.Equal(got, c.get) {
				t.Errorf("got %v, want %v", got, c.get)
			}
		})
	}
}
