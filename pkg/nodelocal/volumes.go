package nodelocal

import (
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Place is a node and the segments that its driver has told.
type Place struct {
	Node     string
	Segments map[string]string
}

// Keeps says whether a PV's volume is for the provisioner at this place to delete: if its
// node affinity is fulfilled here. Without affinity it is for the node on which it was made;
// and for every node if that is not known, as when a provisioner without node deployment
// has made it.
//
// Rule: spec of the incumbent, node deployment, deletion; a PV without affinity is deleted
// by all of its provisioners at once.
func Keeps(pv *v1.PersistentVolume, driver string, here Place) bool {
	if pv.Spec.NodeAffinity != nil && pv.Spec.NodeAffinity.Required != nil {
		return slices.ContainsFunc(pv.Spec.NodeAffinity.Required.NodeSelectorTerms, here.fulfils)
	}
	on := madeOn(pv, driver)
	return on == "" || on == here.Node
}

// fulfils says whether the place is one of a term: of one without requirements none is
// (Kubernetes, NodeSelectorTerm).
func (p Place) fulfils(term v1.NodeSelectorTerm) bool {
	all := func(requirements []v1.NodeSelectorRequirement, set labels.Set) bool {
		return !slices.ContainsFunc(requirements, func(r v1.NodeSelectorRequirement) bool { return !matches(r, set) })
	}
	return len(term.MatchExpressions)+len(term.MatchFields) > 0 &&
		all(term.MatchExpressions, p.Segments) && all(term.MatchFields, labels.Set{"metadata.name": p.Node})
}

func matches(r v1.NodeSelectorRequirement, set labels.Set) bool {
	operator, known := map[v1.NodeSelectorOperator]selection.Operator{
		v1.NodeSelectorOpIn: selection.In, v1.NodeSelectorOpNotIn: selection.NotIn,
		v1.NodeSelectorOpExists: selection.Exists, v1.NodeSelectorOpDoesNotExist: selection.DoesNotExist,
		v1.NodeSelectorOpGt: selection.GreaterThan, v1.NodeSelectorOpLt: selection.LessThan,
	}[r.Operator]
	if !known {
		return false
	}
	// The API server lets none through that cannot be read; it would match nowhere.
	requirement, err := labels.NewRequirement(r.Key, operator, r.Values)
	return err == nil && requirement.Matches(set)
}

// Identity returns the name by which the attributes of a volume tell who has made it.
func Identity(process, node string) string { return process + "-" + node }

// madeOn returns the node whose provisioner has made the volume, "" if the PV does not
// tell: the identity is "<number>-<number>-<driver>-<node>", as the incumbent's is.
func madeOn(pv *v1.PersistentVolume, driver string) string {
	if pv.Spec.CSI == nil {
		return ""
	}
	rest := pv.Spec.CSI.VolumeAttributes[wellknown.ProvisionerIdentity]
	for range 2 {
		number, after, found := strings.Cut(rest, "-")
		if !found || number == "" || strings.Trim(number, "0123456789") != "" {
			return ""
		}
		rest = after
	}
	node, found := strings.CutPrefix(rest, driver+"-")
	if !found {
		return ""
	}
	return node
}
