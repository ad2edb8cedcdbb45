package capacity

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Room is what the driver says of a pair.
type Room struct {
	Bytes int64
	// Largest is how large one volume may be; HasLargest says that the driver told.
	Largest    int64
	HasLargest bool
}

// RoomOf returns what the driver's reply says. minimum_volume_size has no place in the
// API. It is an error if the driver says what cannot be.
func RoomOf(resp *csi.GetCapacityResponse) (Room, error) {
	room := Room{Bytes: resp.GetAvailableCapacity()}
	if size := resp.GetMaximumVolumeSize(); size != nil {
		room.Largest, room.HasLargest = size.GetValue(), true
	}
	if room.Bytes < 0 || room.Largest < 0 {
		return Room{}, fmt.Errorf("it answered available_capacity %d and maximum_volume_size %d; neither may be negative", room.Bytes, room.Largest)
	}
	return room, nil
}

// Mark is what our objects are known by.
type Mark struct {
	Namespace string
	// Driver and ManagedBy are the values of the two labels.
	Driver, ManagedBy string
	// Owner is what they go with; nil for nothing.
	Owner *metav1.OwnerReference
}

// Labels returns the labels of our objects.
func (m Mark) Labels() map[string]string {
	return map[string]string{wellknown.CapacityDriver: m.Driver, wellknown.CapacityManagedBy: m.ManagedBy}
}

// Marks says whether the object is one of ours.
func (m Mark) Marks(object *storagev1.CSIStorageCapacity) bool {
	for key, value := range m.Labels() {
		if object.Labels[key] != value {
			return false
		}
	}
	return true
}

// New returns the object of a class and a segment. The API server names it.
//
// Rule: spec of the incumbent, capacity, "Objects".
func New(m Mark, class string, segment topology.Term, room Room) *storagev1.CSIStorageCapacity {
	object := &storagev1.CSIStorageCapacity{
		ObjectMeta:       metav1.ObjectMeta{Namespace: m.Namespace, GenerateName: "csisc-", Labels: m.Labels()},
		StorageClassName: class,
		NodeTopology:     &metav1.LabelSelector{MatchLabels: maps.Clone(segment.CSI().GetSegments())},
	}
	object.OwnerReferences, _ = owned(nil, m.Owner)
	object.Capacity, object.MaximumVolumeSize = room.quantities()
	return object
}

// Changed returns the object as it has to be, a copy, or nil if it is.
func Changed(m Mark, object *storagev1.CSIStorageCapacity, room Room) *storagev1.CSIStorageCapacity {
	bytes, largest := room.quantities()
	owners, other := owned(object.OwnerReferences, m.Owner)
	if !other && equal(object.Capacity, bytes) && equal(object.MaximumVolumeSize, largest) {
		return nil
	}
	changed := object.DeepCopy()
	changed.OwnerReferences, changed.Capacity, changed.MaximumVolumeSize = owners, bytes, largest
	return changed
}

func (r Room) quantities() (bytes, largest *resource.Quantity) {
	bytes = resource.NewQuantity(r.Bytes, resource.BinarySI)
	if r.HasLargest {
		largest = resource.NewQuantity(r.Largest, resource.BinarySI)
	}
	return bytes, largest
}

func equal(a, b *resource.Quantity) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Cmp(*b) == 0
}

// owned returns the owner references with ours among them, and whether that is something
// else than they were. Those of others stay. Of several only one may be the controller
// (the API server refuses a second): if somebody else is, ours goes without, and the
// object stays until both owners are gone (C-6).
func owned(references []metav1.OwnerReference, ours *metav1.OwnerReference) (after []metav1.OwnerReference, changed bool) {
	if ours == nil {
		return references, false
	}
	want, at := *ours, -1
	for i, reference := range references {
		switch {
		case reference.UID == ours.UID:
			at = i
		case reference.Controller != nil && *reference.Controller:
			want.Controller = nil
		}
	}
	if at < 0 {
		return append(slices.Clone(references), want), true
	}
	is := references[at].Controller != nil && *references[at].Controller
	if is == (want.Controller != nil && *want.Controller) {
		return references, false
	}
	after = slices.Clone(references)
	after[at].Controller = want.Controller
	return after, true
}

// Choose returns which of several objects for one pair stays, the oldest, and which are
// one too many. nil if there is none.
func Choose(objects []*storagev1.CSIStorageCapacity) (kept *storagev1.CSIStorageCapacity, more []*storagev1.CSIStorageCapacity) {
	if len(objects) == 0 {
		return nil, nil
	}
	sorted := slices.SortedFunc(slices.Values(objects), func(a, b *storagev1.CSIStorageCapacity) int {
		if older := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); older != 0 {
			return older
		}
		return strings.Compare(a.Name, b.Name)
	})
	return sorted[0], sorted[1:]
}
