package intake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/volume"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

// follow accompanies a claim on record to its end (design, "Life of a claim").
func (i *Intake) follow(ctx context.Context, k key, claim *v1.PersistentVolumeClaim) error {
	name := i.Planner.VolumeName(claim)
	i.waiting.Add(k, waitlist.PV(name))
	i.Protector.Unhold(k.uid) // the record itself protects the source now
	state, known := i.Ledger.State(k.uid)
	switch {
	case volume.Owns(i.Caches.PV(name), claim, i.Driver), known && state == ledger.Saved:
		return i.followSaved(ctx, k, claim, name)
	case known && state == ledger.Closed:
		// Its release, or the writing of its record, got no answer. Nothing can have
		// been called since: take the record off, and judge it anew.
		return i.release(ctx, k, claim, ledger.Closed)
	case !i.wanted(claim):
		return i.abandon(ctx, k, claim)
	}
	return i.followWork(ctx, k, claim)
}

// wanted says whether a volume of ours is still to be made for the claim: it is
// neither deleted nor bound, and no other claim's PV has taken the name. (The
// engine would leave a claim alone, without a word, whose PV's name is taken.)
func (i *Intake) wanted(claim *v1.PersistentVolumeClaim) bool {
	pv := i.Caches.PV(i.Planner.VolumeName(claim))
	return claim.DeletionTimestamp == nil && claim.Spec.VolumeName == "" &&
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
	_, v := i.Planner.Judge(claim, true, func(o waitlist.Object) { i.waiting.Add(k, o) })
	if v.Reason == verdict.ClassNotFound || v.Reason == verdict.ClassOfAnotherDriver {
		i.Recorder.Say(claim, v)
	}
	ref := source.Of(claim)
	if ref.Kind != source.Claim {
		return nil
	}
	src := i.Caches.Claim(ref.Namespace, ref.Name)
	state, known := i.Ledger.State(k.uid)
	if src != nil && src.DeletionTimestamp != nil && known {
		switch {
		case state == ledger.Clean:
			return i.release(ctx, k, claim, ledger.Clean, ledger.Closed)
		case state == ledger.Idle && !v.Ready():
			return i.release(ctx, k, claim, ledger.Idle, ledger.Clean, ledger.Closed)
		}
	}
	i.Protector.Reconsider(ref.Namespace, ref.Name)
	return nil
}

// clean is the cleaner's work: it has undone what may exist for a claim that
// nobody wants, and closes it. It runs beside the queue's workers, and therefore
// writes nothing to the claim and leaves the waitlist alone.
func (i *Intake) clean(ctx context.Context, k key) error {
	claim := i.Caches.Claim(k.namespace, k.name)
	gone := claim == nil || claim.UID != k.uid
	if gone {
		claim = &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: k.namespace, Name: k.name, UID: k.uid}}
	} else if i.wanted(claim) {
		i.wakeEngine(k) // wanted after all
		return nil
	}
	turn, free := i.Ledger.Take(k.uid)
	if !free {
		return nil // whoever has the turn wakes us
	}
	if gone && turn.Request() == nil && turn.Handle() == "" {
		klog.FromContext(ctx).Info("A claim on record is gone, and this process knows nothing of its volume", "volume", i.Planner.VolumeName(claim))
		turn.Close()
	}
	if turn.State() == ledger.Unknown && i.Recorder.Last(k.uid) != verdict.CleanUpBlocked {
		i.tell(claim, gone, verdict.Ignored(verdict.CleaningUp,
			"the claim is no longer wanted while its volume may exist; volume %q is being looked for and deleted", i.Planner.VolumeName(claim)))
	}
	kept, err := i.Planner.Undo(ctx, turn, claim)
	if err == nil {
		turn.Close() // before anybody else gets the turn
	}
	i.finish(k, turn)
	switch {
	case errors.Is(err, ledger.ErrHalfProven):
		return err
	case err != nil:
		i.tell(claim, gone, verdict.Refused(verdict.CleanUpBlocked,
			"volume %q cannot be cleaned up now (tried again by itself): %v", i.Planner.VolumeName(claim), err))
		return fmt.Errorf("cleaning up: %w", err)
	case kept != "":
		i.tell(claim, gone, verdict.Refused(verdict.VolumeKept, "the volume was not deleted because %s", kept))
		klog.FromContext(ctx).Info("Volume kept", "because", kept)
	}
	if gone {
		i.Ledger.Forget(k.uid)
		return nil
	}
	i.queue.Add(k) // the claim is closed; follow releases it
	return nil
}

func (i *Intake) tell(claim *v1.PersistentVolumeClaim, gone bool, v verdict.Verdict) {
	if !gone {
		i.Recorder.Say(claim, v)
	}
}

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
	i.waiting.Drop(k)
	if err := i.erase(ctx, claim); err != nil {
		return err
	}
	i.mu.Lock()
	delete(i.lacking, k.uid)
	i.mu.Unlock()
	klog.FromContext(ctx).V(2).Info("Claim released")
	return nil // that the source is free shows when the cache has it
}

// erase takes the record off the live claim, whatever else changed on it.
func (i *Intake) erase(ctx context.Context, claim *v1.PersistentVolumeClaim) error {
	patch, err := record.Erase(i.Keys, claim)
	if err != nil {
		return err
	}
	live, err := i.Writer.Patch(ctx, claim, patch)
	if err != nil {
		return ignoreNotFound(err, claim)
	}
	i.wrote(live)
	return nil
}

func ignoreNotFound(err error, claim *v1.PersistentVolumeClaim) error {
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("taking the record off claim %s/%s: %w", claim.Namespace, claim.Name, err)
}
