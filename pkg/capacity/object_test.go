package capacity_test

import (
	"cmp"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/capacity"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
)

func comparePairs(a, b capacity.Pair) int {
	return cmp.Or(strings.Compare(a.Class, b.Class), strings.Compare(a.Segment, b.Segment))
}

func topologyOf(key, value string) []v1.TopologySelectorTerm {
	return []v1.TopologySelectorTerm{{MatchLabelExpressions: []v1.TopologySelectorLabelRequirement{{Key: key, Values: []string{value}}}}}
}

func mark(owner *metav1.OwnerReference) capacity.Mark {
	return capacity.Mark{Namespace: "storage", Driver: driver, ManagedBy: capacity.ManagedBy(""), Owner: owner}
}

func owner(uid string, controller *bool) *metav1.OwnerReference {
	return &metav1.OwnerReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "o" + uid, UID: types.UID(uid), Controller: controller}
}

func TestRoomOf(t *testing.T) {
	for _, c := range []struct {
		name string
		resp *csi.GetCapacityResponse
		want capacity.Room
		err  bool
	}{
		{"nothing is left", &csi.GetCapacityResponse{}, capacity.Room{}, false},
		{"no reply at all is none left", nil, capacity.Room{}, false},
		{"room", &csi.GetCapacityResponse{AvailableCapacity: 5}, capacity.Room{Bytes: 5}, false},
		{"the largest volume", &csi.GetCapacityResponse{AvailableCapacity: 5, MaximumVolumeSize: wrapperspb.Int64(3)}, capacity.Room{Bytes: 5, Largest: 3, HasLargest: true}, false},
		{"that there is no volume so small", &csi.GetCapacityResponse{AvailableCapacity: 5, MaximumVolumeSize: wrapperspb.Int64(0)}, capacity.Room{Bytes: 5, HasLargest: true}, false},
		{"the smallest volume does not count", &csi.GetCapacityResponse{AvailableCapacity: 5, MinimumVolumeSize: wrapperspb.Int64(3)}, capacity.Room{Bytes: 5}, false},
		{"less than nothing", &csi.GetCapacityResponse{AvailableCapacity: -1}, capacity.Room{}, true},
		{"volumes of less than nothing", &csi.GetCapacityResponse{MaximumVolumeSize: wrapperspb.Int64(-1)}, capacity.Room{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := capacity.RoomOf(c.resp)
			if got != c.want || (err != nil) != c.err {
				t.Errorf("got %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

// What an object looks like in the API is what the incumbent's looks like.
func TestNew(t *testing.T) {
	const labels = `"labels":{"csi.storage.k8s.io/drivername":"demo.example","csi.storage.k8s.io/managed-by":"external-provisioner"}`
	for _, c := range []struct {
		name    string
		owner   *metav1.OwnerReference
		segment topology.Term
		room    capacity.Room
		want    string
	}{
		{
			"all there is", owner("1", new(true)), term("zone", "1", "host", "a"), capacity.Room{Bytes: 3 << 30, Largest: 1 << 20, HasLargest: true},
			`{"metadata":{"generateName":"csisc-","namespace":"storage",` + labels + `,"ownerReferences":[{"apiVersion":"apps/v1","kind":"Deployment","name":"o1","uid":"1","controller":true}]},` +
				`"nodeTopology":{"matchLabels":{"host":"a","zone":"1"}},"storageClassName":"c","capacity":"3Gi","maximumVolumeSize":"1Mi"}`,
		},
		{
			"no owner, and no room", nil, term("host", "a"), capacity.Room{},
			`{"metadata":{"generateName":"csisc-","namespace":"storage",` + labels + `},"nodeTopology":{"matchLabels":{"host":"a"}},"storageClassName":"c","capacity":"0"}`,
		},
		{
			"no room for one volume", nil, term("host", "a"), capacity.Room{Bytes: 1, HasLargest: true},
			`{"metadata":{"generateName":"csisc-","namespace":"storage",` + labels + `},"nodeTopology":{"matchLabels":{"host":"a"}},"storageClassName":"c","capacity":"1","maximumVolumeSize":"0"}`,
		},
		{
			"everywhere", nil, term(), capacity.Room{Bytes: 1},
			`{"metadata":{"generateName":"csisc-","namespace":"storage",` + labels + `},"nodeTopology":{},"storageClassName":"c","capacity":"1"}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			object := capacity.New(mark(c.owner), "c", c.segment, c.room)
			got, err := json.Marshal(object)
			if err != nil || string(got) != c.want {
				t.Errorf("got  %s (%v)\nwant %s", got, err, c.want)
			}
			if pair := capacity.Of(object); pair != (capacity.Pair{Class: "c", Segment: c.segment.String()}) {
				t.Errorf("it is found as %v", pair)
			}
		})
	}
}

func TestChanged(t *testing.T) {
	ours, other := owner("1", new(true)), owner("2", new(true))
	plain := func(o *metav1.OwnerReference) metav1.OwnerReference {
		without := *o
		without.Controller = nil
		return without
	}
	room := capacity.Room{Bytes: 5 << 20, Largest: 1 << 20, HasLargest: true}
	for _, c := range []struct {
		name   string
		change func(*storagev1.CSIStorageCapacity)
		owner  *metav1.OwnerReference
		room   capacity.Room
		// owners that the object has to have; nil if nothing is to be written.
		owners []metav1.OwnerReference
	}{
		{"nothing", nil, ours, room, nil},
		{"the same in other words", func(o *storagev1.CSIStorageCapacity) { o.Capacity = new(resource.MustParse("5120Ki")) }, ours, room, nil},
		{"room", nil, ours, capacity.Room{Bytes: 4 << 20, Largest: 1 << 20, HasLargest: true}, []metav1.OwnerReference{*ours}},
		{"the largest volume", nil, ours, capacity.Room{Bytes: 5 << 20, Largest: 2 << 20, HasLargest: true}, []metav1.OwnerReference{*ours}},
		{"the largest volume is not told any more", nil, ours, capacity.Room{Bytes: 5 << 20}, []metav1.OwnerReference{*ours}},
		{"no capacity at all was there", func(o *storagev1.CSIStorageCapacity) { o.Capacity = nil }, ours, room, []metav1.OwnerReference{*ours}},
		{"an owner is missing", func(o *storagev1.CSIStorageCapacity) { o.OwnerReferences = nil }, ours, room, []metav1.OwnerReference{*ours}},
		{"another owner stays", func(o *storagev1.CSIStorageCapacity) { o.OwnerReferences = []metav1.OwnerReference{plain(other)} }, ours, room, []metav1.OwnerReference{plain(other), *ours}},
		{"another controller stays, and ours is none (C-6)", func(o *storagev1.CSIStorageCapacity) { o.OwnerReferences = []metav1.OwnerReference{*other} }, ours, room, []metav1.OwnerReference{*other, plain(ours)}},
		{"which is all right then (C-6)", func(o *storagev1.CSIStorageCapacity) {
			o.OwnerReferences = []metav1.OwnerReference{*other, plain(ours)}
		}, ours, room, nil},
		{"ours is the controller when the other is gone", func(o *storagev1.CSIStorageCapacity) { o.OwnerReferences = []metav1.OwnerReference{plain(ours)} }, ours, room, []metav1.OwnerReference{*ours}},
		{"without an owner nobody is taken off", nil, nil, room, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			object := capacity.New(mark(ours), "c", term("host", "a"), room)
			object.ResourceVersion = "7"
			if c.change != nil {
				c.change(object)
			}
			before := object.DeepCopy()
			got := capacity.Changed(mark(c.owner), object, c.room)
			if text(object) != text(before) {
				t.Error("the object of the cache was changed")
			}
			if c.owners == nil {
				if got != nil {
					t.Errorf("changed to %s", text(got))
				}
				return
			}
			want := capacity.New(mark(nil), "c", term("host", "a"), c.room)
			want.ResourceVersion, want.OwnerReferences = "7", c.owners
			if text(got) != text(want) {
				t.Errorf("got  %s\nwant %s", text(got), text(want))
			}
		})
	}
}

func text(object *storagev1.CSIStorageCapacity) string {
	if object == nil {
		return "nothing"
	}
	data, _ := json.Marshal(object) // objects of the API can be
	return string(data)
}

func TestMarks(t *testing.T) {
	m := mark(nil)
	for name, c := range map[string]struct {
		change func(labels map[string]string)
		want   bool
	}{
		"ours":                  {func(map[string]string) {}, true},
		"with labels of others": {func(l map[string]string) { l["x"] = "y" }, true},
		"another driver's":      {func(l map[string]string) { l["csi.storage.k8s.io/drivername"] = "other.example" }, false},
		"another node's":        {func(l map[string]string) { l["csi.storage.k8s.io/managed-by"] = "external-provisioner-a" }, false},
		"with a label removed":  {func(l map[string]string) { delete(l, "csi.storage.k8s.io/managed-by") }, false},
	} {
		object := capacity.New(m, "c", term(), capacity.Room{})
		c.change(object.Labels)
		if got := m.Marks(object); got != c.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}

func TestChoose(t *testing.T) {
	object := func(name string, age int) *storagev1.CSIStorageCapacity {
		return &storagev1.CSIStorageCapacity{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(1000-age), 0))}}
	}
	for _, c := range []struct {
		name    string
		objects []*storagev1.CSIStorageCapacity
		kept    string
		more    string
	}{
		{"none", nil, "", ""},
		{"one", []*storagev1.CSIStorageCapacity{object("a", 1)}, "a", ""},
		{"the oldest stays", []*storagev1.CSIStorageCapacity{object("a", 1), object("b", 3), object("c", 2)}, "b", "c a"},
		{"of the same second the first by name", []*storagev1.CSIStorageCapacity{object("b", 1), object("a", 1)}, "a", "b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			kept, more := capacity.Choose(c.objects)
			var names []string
			for _, o := range more {
				names = append(names, o.Name)
			}
			name := ""
			if kept != nil {
				name = kept.Name
			}
			if name != c.kept || strings.Join(names, " ") != c.more {
				t.Errorf("got %q and %v, want %q and %q", name, names, c.kept, c.more)
			}
		})
	}
}
