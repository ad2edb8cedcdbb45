package planner

import (
	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// accessibility returns the topology that the claim's volume must be accessible from; nil for no
// requirement, as with a driver without topology. mayExist is true if an earlier request may
// have created a volume.
func (p *Planner) accessibility(claim *v1.PersistentVolumeClaim, class *storagev1.StorageClass, sourcePV *v1.PersistentVolume, mayExist bool, before func(waitlist.Object)) (*csi.TopologyRequirement, verdict.Verdict) {
	if p.Places == nil {
		return nil, verdict.Verdict{}
	}
	facts := topology.Facts{
		Driver: p.Driver.Name, Class: class.Name, Claim: claim.Name,
		Allowed: topology.Allowed(class.AllowedTopologies),
		Strict:  p.StrictTopology, Immediate: p.ImmediateTopology,
		Source:   topology.Of(sourcePV),
		MayExist: mayExist, Pinned: topology.Parse(record.Asked(p.Keys, claim).Topology),
	}
	if node := p.nodeOf(claim); node != "" {
		before(waitlist.Node(node))
		facts.Selected = p.Places.Of(node)
	}
	facts.Cluster = p.Places.All()
	where, v := topology.Require(facts)
	if v.Reason != verdict.NoTopology {
		return where, v
	}
	before(waitlist.Nodes()) // only now: with each node all claims would be looked at
	facts.Cluster = p.Places.All()
	return topology.Require(facts)
}

// nodeOf returns the node for which the volume is planned: the selected one or, with
// --node-deployment, always this one, also before it is selected.
func (p *Planner) nodeOf(claim *v1.PersistentVolumeClaim) string {
	if p.Node != "" {
		return p.Node
	}
	return claim.Annotations[wellknown.SelectedNode]
}

// IsForOtherNode reports whether another node is selected for the claim than the one for which
// this process provisions. It is always false without --node-deployment.
func (p *Planner) IsForOtherNode(claim *v1.PersistentVolumeClaim) bool {
	chosen := claim.Annotations[wellknown.SelectedNode]
	return p.Node != "" && chosen != "" && chosen != p.Node
}

// recordedAccessibility is accessibility for an earlier request that may have created a volume.
func (p *Planner) recordedAccessibility(claim *v1.PersistentVolumeClaim, class *storagev1.StorageClass) *csi.TopologyRequirement {
	where, _ := p.accessibility(claim, class, nil, true, func(waitlist.Object) {})
	return where
}

// sourceOutOfReach returns a verdict if the source of a clone is not accessible from the selected
// node, so that a driver may not be able to copy it there; else a zero verdict.
func (p *Planner) sourceOutOfReach(claim *v1.PersistentVolumeClaim, sourcePV *v1.PersistentVolume) verdict.Verdict {
	node, reach := p.nodeOf(claim), topology.Of(sourcePV)
	if p.Places == nil || node == "" || len(reach) == 0 {
		return verdict.Verdict{}
	}
	if here := p.Places.Of(node); here.Place.Len() == 0 || topology.Reaches(reach, here.Place) {
		return verdict.Verdict{}
	}
	return verdict.GivenBack(verdict.SourceOutOfReach,
		"driver %q cannot clone to node %q, which the scheduler has chosen: the source's PV %q can be reached from %s only; the claim is given back to the scheduler",
		p.Driver.Name, node, sourcePV.Name, topology.List(reach))
}
