package intake

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/volume"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

// follow accompanies a claim on record to its end (design, "Life of a claim").
func (i *Intake) follow(ctx context.Context, k key, claim *v1.PersistentVolumeClaim) error {
	name := i.Planner.VolumeName(claim)
	i.waiting.Add(k, waitlist.PV(name))
	if i.recorded(claim) { // which itself protects the source now, and keeps the name
		i.Protector.Unhold(k.uid)
		i.unreserve(k)
	}
	state, known := i.Ledger.State(k.uid)
	switch {
	case i.owned(claim, name), known && state == ledger.Saved:
		return i.followSaved(ctx, k, claim, name)
	case known && state == ledger.Closed:
		// Its release, or the writing of its record, got no answer. Nothing can have
		// been called since: take the record off, and judge it anew.
		return i.release(ctx, k, claim, ledger.Closed)
	case !i.wanted(claim):
		return i.abandon(ctx, k, claim)
	case i.withdrawn(claim) && known && (state == ledger.Idle || state == ledger.Clean):
		return i.release(ctx, k, claim, ledger.Idle, ledger.Clean)
	}
	return i.followWork(ctx, k, claim)
}

// owned says whether a PV owns the claim's volume: the one of its name, or the one
// that it is bound to, whatever its record says now, unless this process has asked the
// driver for a volume of another name, which that PV does not have.
func (i *Intake) owned(claim *v1.PersistentVolumeClaim, name string) bool {
	if volume.Owns(i.Caches.PV(name), claim, i.Driver) {
		return true
	}
	request, bound := i.Ledger.Asked(claim.UID), claim.Spec.VolumeName
	return bound != "" && (request == nil || request.GetName() == bound) && volume.Owns(i.Caches.PV(bound), claim, i.Driver)
}

// wanted says whether a volume of ours is still to be made for the claim: it is
// neither deleted nor bound, another node is not chosen, and no other claim's PV has taken the name. (The
// engine would leave a claim alone, without a word, whose PV's name is taken.)
func (i *Intake) wanted(claim *v1.PersistentVolumeClaim) bool {
	pv := i.Caches.PV(i.Planner.VolumeName(claim))
	return claim.DeletionTimestamp == nil && claim.Spec.VolumeName == "" && !i.elsewhere(claim) &&
		(pv == nil || volume.Owns(pv, claim, i.Driver))
}

// followSaved: nothing can leak any more. The record goes as soon as the PV
// controller has written to the claim for the last time, or at once if the
// claim is deleted.
func (i *Intake) followSaved(ctx context.Context, k key, claim *v1.PersistentVolumeClaim, name string) error {
	bound := claim.Spec.VolumeName != "" && claim.Status.Phase == v1.ClaimBound
	if bound || claim.DeletionTimestamp != nil {
		return i.releaseSaved(ctx, k, claim)
	}
	since := i.lackingSince(k)
	pv := i.Caches.PV(name)
	if pv != nil {
		since = pv.CreationTimestamp.Time
	}
	if left := savedPatience - i.Clock.Since(since); left > 0 {
		i.queue.AddAfter(k, left) // and what happens to the PV wakes us
		return nil
	}
	if pv == nil {
		// Not late, but gone: somebody took its finalizers off.
		_, err := i.Client.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			i.queue.AddAfter(k, savedPatience)
			return err
		}
	}
	return i.releaseSaved(ctx, k, claim)
}

// releaseSaved releases in whatever state: the PV owns the volume.
func (i *Intake) releaseSaved(ctx context.Context, k key, claim *v1.PersistentVolumeClaim) error {
	return i.release(ctx, k, claim, ledger.Saved, ledger.Unknown, ledger.Idle, ledger.Clean, ledger.Closed)
}

// lackingSince returns since when the PV of a saved claim is not in the cache.
func (i *Intake) lackingSince(k key) time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	since, found := i.lacking[k.uid]
	if !found {
		since = i.Clock.Now()
		i.lacking[k.uid] = since
	}
	return since
}

// abandon: no volume of ours is to be made for this claim any more.
func (i *Intake) abandon(ctx context.Context, k key, claim *v1.PersistentVolumeClaim) error {
	if state, known := i.Ledger.State(k.uid); known && (state == ledger.Idle || state == ledger.Clean) {
		return i.release(ctx, k, claim, ledger.Idle, ledger.Clean, ledger.Closed)
	}
	i.dirty.Add(k)
	return nil
}

// followWork waits, beside the engine, for whatever the claim depends on, and
// keeps its source protected; unless the source goes before anything exists:
// then the record is taken back and the source let go (rule 4). What the engine
// has no word for is told here.
func (i *Intake) followWork(ctx context.Context, k key, claim *v1.PersistentVolumeClaim) error {
	if !i.Ledger.Own(k.uid) {
		return i.vouch(ctx, k, claim)
	}
	plan, v := i.Planner.Plan(claim, true, func(o waitlist.Object) { i.waiting.Add(k, o) })
	i.stalled.judged(k, v) // what is not ready the engine tells
	if v.Reason == verdict.ClassNotFound || v.Reason == verdict.ClassOfAnotherDriver {
		i.Recorder.Say(claim, v)
	}
	state, known := i.Ledger.State(k.uid)
	nothing := known && (state == ledger.Clean || state == ledger.Idle)
	switch {
	case i.sourceDeleting(claim) && nothing && (state == ledger.Clean || !v.Ready()):
		return i.release(ctx, k, claim, ledger.Idle, ledger.Clean, ledger.Closed)
	case nothing && v.Kind == verdict.GiveBack:
		i.Recorder.Say(claim, v)
		return i.reschedule(ctx, k, claim)
	case nothing && v.Ready() && plan.Node != "" && i.Ledger.Elsewhere(k.uid):
		if plan.OutOfReach.Reason != "" {
			i.Recorder.Say(claim, plan.OutOfReach)
		}
		return i.reschedule(ctx, k, claim)
	case nothing && v.Ready() && plan.Stale:
		// It is put on record anew before anything is asked.
		return i.release(ctx, k, claim, ledger.Idle, ledger.Clean)
	}
	i.reconsiderSource(claim)
	return i.mend(ctx, claim)
}

// sourceDeleting says whether what the claim is filled from is being deleted.
func (i *Intake) sourceDeleting(claim *v1.PersistentVolumeClaim) bool {
	switch ref := source.Of(claim); ref.Kind {
	case source.Claim:
		src := i.Caches.Claim(ref.Namespace, ref.Name)
		return src != nil && src.DeletionTimestamp != nil
	case source.Snapshot:
		src := i.Caches.Snapshot(ref.Namespace, ref.Name)
		return src != nil && src.GetDeletionTimestamp() != nil
	case source.None, source.Populator:
	}
	return false
}

// reconsiderSource has the protection of the claim's source looked at, if it has one.
func (i *Intake) reconsiderSource(claim *v1.PersistentVolumeClaim) {
	if ref := source.Of(claim); ref.Kind == source.Claim || ref.Kind == source.Snapshot {
		i.Protector.Reconsider(ref)
	}
}
