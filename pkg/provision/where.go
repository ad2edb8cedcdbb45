package provision

import (
	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// accessibility says from where the claim's volume must be reachable; nil for no
// requirement, as with a driver without topology. mayExist: an earlier request may have
// made something.
func (p *Provisioner) accessibility(claim *v1.PersistentVolumeClaim, class *storagev1.StorageClass, sourcePV *v1.PersistentVolume, mayExist bool, before func(waitlist.Object)) (*csi.TopologyRequirement, verdict.Verdict) {
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
	if node := p.nodeFor(claim); node != "" {
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

// nodeFor returns the node on which the volume is to be used: the one that is chosen; or
// this one, where each node has its own provisioner: it provisions for no other, and before
// it takes a claim it asks what would be.
func (p *Provisioner) nodeFor(claim *v1.PersistentVolumeClaim) string {
	if p.Node != "" {
		return p.Node
	}
	return claim.Annotations[wellknown.SelectedNode]
}

// elsewhere says whether another node was chosen for the claim than the one for which this
// process provisions.
func (p *Provisioner) elsewhere(claim *v1.PersistentVolumeClaim) bool {
	chosen := claim.Annotations[wellknown.SelectedNode]
	return p.Node != "" && chosen != "" && chosen != p.Node
}

// whereBefore is accessibility for an earlier request that may have made something.
func (p *Provisioner) whereBefore(claim *v1.PersistentVolumeClaim, class *storagev1.StorageClass) *csi.TopologyRequirement {
	where, _ := p.accessibility(claim, class, nil, true, func(waitlist.Object) {})
	return where
}

// failed notes whether another node could help when the driver has refused the request;
// it returns the error.
func (p Plan) failed(turn *ledger.Turn, err error) error {
	if p.OutOfReach.Reason != "" && csidriver.SourceRefused(err) {
		turn.Elsewhere()
	}
	return err
}

// outOfReach says that the source of a clone cannot be used on the selected node, so that
// a driver may not be able to copy it there; else nothing.
func (p *Provisioner) outOfReach(claim *v1.PersistentVolumeClaim, sourcePV *v1.PersistentVolume) verdict.Verdict {
	node, reach := p.nodeFor(claim), topology.Of(sourcePV)
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
