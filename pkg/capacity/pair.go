package capacity

import (
	"maps"
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/request"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Pair is what there is one object for: a StorageClass and a segment, which is a place as
// topology.Term prints it ("" for everywhere). It is a value: equal pairs are one.
type Pair struct{ Class, Segment string }

// Part is what belongs to a pair.
type Part struct {
	Segment topology.Term
	// uid and version of the class: if it is another, the driver is asked anew.
	uid     types.UID
	version string
}

// Wanted returns the pairs that there has to be an object for: each place with each class
// of the driver whose claims are bound when a pod needs them; with immediate, those with
// Immediate binding, too. A class without a binding mode is an Immediate one.
//
// Rule: spec of the incumbent, capacity, "Which objects exist". Classes of an in-tree
// plugin that the driver took over do not count there, and neither here.
func Wanted(driver string, classes []*storagev1.StorageClass, segments []topology.Term, immediate bool) map[Pair]Part {
	wanted := make(map[Pair]Part, len(classes)*len(segments))
	texts := make([]string, 0, len(segments))
	for _, segment := range segments {
		texts = append(texts, segment.String())
	}
	for _, class := range classes {
		delayed := class.VolumeBindingMode != nil && *class.VolumeBindingMode != storagev1.VolumeBindingImmediate
		if class.Provisioner != driver || !delayed && !immediate {
			continue
		}
		for i, segment := range segments {
			wanted[Pair{class.Name, texts[i]}] = Part{segment, class.UID, class.ResourceVersion}
		}
	}
	return wanted
}

// Of returns the pair that an object is about. One that says something else than "these
// labels have these values" is about none that is ever wanted: the zero pair. So is one
// without a nodeTopology, which is storage that no node can reach; one that is empty is
// about everywhere, however the API hands it out (C-2).
func Of(object *storagev1.CSIStorageCapacity) Pair {
	if object.NodeTopology == nil || len(object.NodeTopology.MatchExpressions) > 0 {
		return Pair{}
	}
	return Pair{object.StorageClassName, topology.TermOf(object.NodeTopology.MatchLabels).String()}
}

// Touched says whether the room at a segment changes with a volume that can be used at
// the terms. One of the two may say more than the other: a volume of a zone takes from
// its hosts, and one of a host takes from its zone (C-5). No terms are everywhere.
func Touched(segment topology.Term, terms []topology.Term) bool {
	for _, term := range terms {
		if term.In(segment) || segment.In(term) {
			return true
		}
	}
	return len(terms) == 0
}

// Parameters returns the class's parameters as CreateVolume has them, without those that
// are for the sidecar (C-3). A class that CreateVolume is never called for, because it is
// wrong, loses all reserved ones: the scheduler has to go on, so that the claim tells.
func Parameters(class *storagev1.StorageClass) map[string]string {
	if forDriver, _, v := request.Parameters(class); v.Ready() {
		return forDriver
	}
	forDriver := maps.Clone(class.Parameters)
	maps.DeleteFunc(forDriver, func(key, _ string) bool { return strings.HasPrefix(key, wellknown.ParameterPrefix) })
	return forDriver
}
