package intake

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Nodes says whose a claim is where each node has a provisioner of its own
// (--node-deployment).
type Nodes interface {
	// Elsewhere says whether the claim is for the provisioner of another node.
	Elsewhere(claim *v1.PersistentVolumeClaim) bool
	// Open says whether no node is chosen yet, so that the provisioners compete for the
	// claim. They do not if the verdict is not Ready, which is then to be told.
	Open(claim *v1.PersistentVolumeClaim) (bool, verdict.Verdict)
	// Bid competes for the claim in this version. volume is what would be asked for; nil if
	// it could not be made on this node.
	Bid(claim *v1.PersistentVolumeClaim, volume *csi.CreateVolumeRequest)
	// Watch looks after a claim that is Elsewhere.
	Watch(claim *v1.PersistentVolumeClaim)
	// Drop forgets a claim that is through, gone, or cannot be made now.
	Drop(namespace, name string, uid types.UID)
}

func (i *Intake) elsewhere(claim *v1.PersistentVolumeClaim) bool {
	return i.Nodes != nil && i.Nodes.Elsewhere(claim)
}

// withdrawn: somebody took the claim from this node, which has it on record.
func (i *Intake) withdrawn(claim *v1.PersistentVolumeClaim) bool {
	return i.Nodes != nil && claim.Annotations[wellknown.SelectedNode] == ""
}

// dropped: this node does not compete for the claim any more.
func (i *Intake) dropped(k key) {
	if i.Nodes != nil {
		i.Nodes.Drop(k.namespace, k.name, k.uid)
	}
}

// aside: the claim is for the provisioner of another node. If this one has begun with it
// nevertheless, because somebody took its record off, that is undone.
func (i *Intake) aside(k key, claim *v1.PersistentVolumeClaim) {
	i.waiting.Drop(k)
	i.Protector.Unhold(k.uid)
	i.unreserve(k)
	if state, known := i.Ledger.State(k.uid); known && state == ledger.Unknown && i.Ledger.Asked(k.uid) != nil {
		i.dirty.Add(k)
	}
	if i.given(claim) {
		i.Nodes.Watch(claim)
	} else {
		i.dropped(k)
	}
}

// compete decides whether this node tries to take a claim for which none is chosen. Only the
// rules that need no more than the caches are asked: with the others, each node would read
// the same Secret and the same pods. Who has taken the claim asks them all.
func (i *Intake) compete(ctx context.Context, k key, claim *v1.PersistentVolumeClaim) {
	plan, v := i.Planner.CheckCached(ctx, claim, func(o waitlist.Object) { i.waiting.Add(k, o) })
	switch {
	case v.Kind == verdict.GiveBack, v.Ready() && plan.OutOfReach.Reason != "":
		i.Nodes.Bid(claim, nil)
	case v.Ready():
		i.Nodes.Bid(claim, plan.Request)
	default:
		klog.FromContext(ctx).V(4).Info("Claim is not competed for", "verdict", v.Kind, "reason", v.Reason, "message", v.Message)
		i.dropped(k)
		i.recheckUnwatched(k, v)
		i.Recorder.Say(claim, v)
	}
}
