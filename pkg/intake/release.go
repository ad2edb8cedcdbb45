package intake

import (
	"context"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// close forbids further calls, if the state is one of the allowed: it may have
// changed since it was looked at. If it is not, or if somebody is at it, false is
// returned, and the claim is looked at again.
func (i *Intake) close(k key, allowed ...ledger.State) bool {
	turn, free := i.Ledger.Take(k.uid)
	if !free {
		return false // whoever has the turn wakes us
	}
	defer i.finish(k, turn)
	if !slices.Contains(allowed, turn.State()) {
		i.queue.Add(k)
		return false
	}
	turn.Close()
	return true
}

// release closes the claim in the ledger, if it is in one of the allowed states,
// and takes the record off.
func (i *Intake) release(ctx context.Context, k key, claim *v1.PersistentVolumeClaim, allowed ...ledger.State) error {
	if !i.close(k, allowed...) {
		return nil
	}
	i.letGo(k)
	if !i.recorded(claim) && !record.Left(i.Keys, claim) {
		return nil
	}
	patch, err := record.Erase(i.Keys, claim)
	if err != nil {
		return err
	}
	return i.erase(ctx, claim, patch)
}

// tidy takes off what is left of a record that somebody else took off. The claim is
// bound, so nobody asks for those pins any more.
func (i *Intake) tidy(ctx context.Context, claim *v1.PersistentVolumeClaim) error {
	if !record.Left(i.Keys, claim) || claim.Status.Phase != v1.ClaimBound {
		return nil
	}
	patch, err := record.Erase(i.Keys, claim)
	if err != nil {
		return err
	}
	return i.erase(ctx, claim, patch)
}

// reschedule gives a claim, for which nothing exists, back to the scheduler: the
// volume could not be made for the chosen node, but perhaps can for another one.
// Record and node go in one write, so that nobody works on one without the other.
func (i *Intake) reschedule(ctx context.Context, k key, claim *v1.PersistentVolumeClaim) error {
	if !i.close(k, ledger.Clean, ledger.Idle) {
		return nil
	}
	return i.giveBack(ctx, k, claim)
}

// giveBack takes the node that the scheduler has chosen off a claim for which nothing
// exists, with the record if it has one.
func (i *Intake) giveBack(ctx context.Context, k key, claim *v1.PersistentVolumeClaim) error {
	i.letGo(k)
	patch, err := record.GiveBack(i.Keys, claim)
	if err != nil {
		return err
	}
	klog.FromContext(ctx).V(2).Info("Claim is given back to the scheduler", "node", claim.Annotations[wellknown.SelectedNode])
	return i.erase(ctx, claim, patch)
}

// letGo drops what is kept for a claim that is closed.
func (i *Intake) letGo(k key) {
	i.waiting.Drop(k)
	i.stalled.clear(k)
	i.Protector.Unhold(k.uid)
	i.unreserve(k)
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.lacking, k.uid)
	delete(i.mends, k.uid)
}

// erase takes the record off the live claim, whatever else changed on it.
func (i *Intake) erase(ctx context.Context, claim *v1.PersistentVolumeClaim, patch []byte) error {
	live, err := i.Writer.Patch(ctx, claim, patch)
	if err != nil {
		return ignoreNotFound(err, claim)
	}
	i.wrote(live)
	klog.FromContext(ctx).V(2).Info("Claim released")
	return nil // that the source is free shows when the cache has it
}

func ignoreNotFound(err error, claim *v1.PersistentVolumeClaim) error {
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("taking the record off claim %s/%s: %w", claim.Namespace, claim.Name, err)
}
