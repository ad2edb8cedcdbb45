package nodelocal_test

import (
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/nodelocal"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

func requirement(key string, operator v1.NodeSelectorOperator, values ...string) v1.NodeSelectorRequirement {
	return v1.NodeSelectorRequirement{Key: key, Operator: operator, Values: values}
}

func expressions(requirements ...v1.NodeSelectorRequirement) v1.NodeSelectorTerm {
	return v1.NodeSelectorTerm{MatchExpressions: requirements}
}

func TestKeeps(t *testing.T) {
	here := nodelocal.Place{Node: "node-1", Segments: map[string]string{"example.com/node": "node-1", "example.com/zone": "z", "example.com/rank": "5"}}
	const node, zone, rank = "example.com/node", "example.com/zone", "example.com/rank"
	for _, c := range []struct {
		name     string
		terms    []v1.NodeSelectorTerm
		identity string
		want     bool
	}{
		{"its place is this one", []v1.NodeSelectorTerm{expressions(requirement(node, v1.NodeSelectorOpIn, "node-1"))}, "", true},
		{"its place is another one", []v1.NodeSelectorTerm{expressions(requirement(node, v1.NodeSelectorOpIn, "node-2"))}, "", false},
		{"its place is another one, though it was made here", []v1.NodeSelectorTerm{expressions(requirement(node, v1.NodeSelectorOpIn, "node-2"))}, "1-2-" + driver + "-node-1", false},
		{"its place is this one, too, though it was made elsewhere", []v1.NodeSelectorTerm{expressions(requirement(zone, v1.NodeSelectorOpIn, "z"))}, "1-2-" + driver + "-node-2", true},
		{"one of its places is this one", []v1.NodeSelectorTerm{expressions(requirement(node, v1.NodeSelectorOpIn, "node-2")), expressions(requirement(node, v1.NodeSelectorOpIn, "node-1"))}, "", true},
		{"all of a term must hold", []v1.NodeSelectorTerm{expressions(requirement(zone, v1.NodeSelectorOpIn, "z"), requirement(node, v1.NodeSelectorOpIn, "node-2"))}, "", false},
		{"a key that the driver does not have", []v1.NodeSelectorTerm{expressions(requirement("other", v1.NodeSelectorOpIn, "x"))}, "", false},
		{"one of several values", []v1.NodeSelectorTerm{expressions(requirement(zone, v1.NodeSelectorOpIn, "y", "z"))}, "", true},
		{"not in", []v1.NodeSelectorTerm{expressions(requirement(zone, v1.NodeSelectorOpNotIn, "y"))}, "", true},
		{"exists", []v1.NodeSelectorTerm{expressions(requirement(zone, v1.NodeSelectorOpExists))}, "", true},
		{"does not exist", []v1.NodeSelectorTerm{expressions(requirement(zone, v1.NodeSelectorOpDoesNotExist))}, "", false},
		{"greater", []v1.NodeSelectorTerm{expressions(requirement(rank, v1.NodeSelectorOpGt, "4"))}, "", true},
		{"less", []v1.NodeSelectorTerm{expressions(requirement(rank, v1.NodeSelectorOpLt, "5"))}, "", false},
		{"an operator that nobody knows", []v1.NodeSelectorTerm{expressions(requirement(zone, "Near", "z"))}, "", false},
		{"values that cannot be read", []v1.NodeSelectorTerm{expressions(requirement(rank, v1.NodeSelectorOpGt, "many"))}, "", false},
		{"the node by its name", []v1.NodeSelectorTerm{{MatchFields: []v1.NodeSelectorRequirement{requirement("metadata.name", v1.NodeSelectorOpIn, "node-1")}}}, "", true},
		{"another node by its name", []v1.NodeSelectorTerm{{MatchFields: []v1.NodeSelectorRequirement{requirement("metadata.name", v1.NodeSelectorOpIn, "node-2")}}}, "", false},
		{"a term without requirements is nowhere", []v1.NodeSelectorTerm{{}}, "", false},
		{"no affinity, and it was made here", nil, "1700000000000-1234-" + driver + "-node-1", true},
		{"no affinity, and it was made elsewhere", nil, "1700000000000-1234-" + driver + "-node-2", false},
		{"no affinity, and it was made for all nodes", nil, "1700000000000-1234-" + driver, true},
		{"no affinity, and nobody knows who made it", nil, "", true},
		{"no affinity, and the identity is another driver's", nil, "1-2-other.example.com-node-2", true},
		{"no affinity, and the identity is none", nil, "x-2-" + driver + "-node-2", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			pv := &v1.PersistentVolume{}
			pv.Spec.CSI = &v1.CSIPersistentVolumeSource{Driver: driver, VolumeAttributes: map[string]string{wellknown.ProvisionerIdentity: c.identity}}
			if c.terms != nil {
				pv.Spec.NodeAffinity = &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: c.terms}}
			}
			if got := nodelocal.Keeps(pv, driver, here); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
	if !nodelocal.Keeps(&v1.PersistentVolume{}, driver, here) {
		t.Error("a PV that is none of CSI is left to whoever knows it")
	}
}

func TestIdentity(t *testing.T) {
	pv := &v1.PersistentVolume{}
	for _, node := range []string{"node-1", "1-2", "a.b-c"} {
		pv.Spec.CSI = &v1.CSIPersistentVolumeSource{VolumeAttributes: map[string]string{wellknown.ProvisionerIdentity: nodelocal.Identity("12-34-"+driver, node)}}
		if !nodelocal.Keeps(pv, driver, nodelocal.Place{Node: node}) || nodelocal.Keeps(pv, driver, nodelocal.Place{Node: "other"}) {
			t.Errorf("the volume of node %q is not told to be its", node)
		}
	}
}
