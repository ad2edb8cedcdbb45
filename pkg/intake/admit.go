package intake

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/planner"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

// consider decides about a claim that is not on record. It is put on the
// waitlist under each object before that is read, and stays there with every
// verdict but Ready.
func (i *Intake) consider(ctx context.Context, k key, claim *v1.PersistentVolumeClaim) error {
	i.waiting.Drop(k)
	if !i.given(claim) || claim.DeletionTimestamp != nil || claim.Spec.VolumeName != "" {
		i.Protector.Unhold(k.uid)
		i.dropped(k)
		i.stalled.clear(k)
		return i.tidy(ctx, claim) // nothing was started, or it is through, and nothing is to be
	}
	if state, known := i.Ledger.State(k.uid); known && state == ledger.Unknown {
		return i.stripped(ctx, k, claim)
	}
	if i.Nodes != nil {
		switch open, v := i.Nodes.Open(claim); {
		case open && v.Ready():
			i.compete(ctx, k, claim)
			return nil
		case open:
			i.Recorder.Say(claim, v)
			return nil
		}
	}
	plan, v, err := i.check(ctx, k, claim)
	if err != nil {
		i.Protector.Unhold(k.uid)
		return err
	}
	if !v.Ready() {
		klog.FromContext(ctx).V(4).Info("Claim is not admitted", "verdict", v.Kind, "reason", v.Reason, "message", v.Message)
		i.Protector.Unhold(k.uid)
		i.stalled.note(k, v.Reason)
		i.Recorder.Say(claim, v)
		if v.Kind == verdict.GiveBack {
			return i.giveBack(ctx, k, claim)
		}
		return nil
	}
	i.waiting.Drop(k)
	return i.admit(ctx, k, claim, plan, v)
}

// check asks all rules about a claim that this process has not admitted, and puts it on the
// waitlist under each object that is read. Ready may come with something to be told. An error
// means that it could not be found out.
func (i *Intake) check(ctx context.Context, k key, claim *v1.PersistentVolumeClaim) (planner.Plan, verdict.Verdict, error) {
	plan, v, err := i.Planner.Check(ctx, claim, func(o waitlist.Object) { i.waiting.Add(k, o) })
	switch {
	case errors.Is(err, planner.ErrSourceReplaced):
		i.queue.Add(k)
		return planner.Plan{}, verdict.Ignored("", "%v", err), nil
	case err != nil:
		return planner.Plan{}, verdict.Verdict{}, i.eventUnchecked(ctx, k, claim, err)
	case !v.Ready():
		i.recheckUnwatched(k, v)
	}
	return plan, v, nil
}

// recheckUnwatched requeues the claim after a while if the verdict depends on an object that is
// not watched.
func (i *Intake) recheckUnwatched(k key, v verdict.Verdict) {
	unwatched := []verdict.Reason{
		verdict.SecretNotFound, verdict.SecretNotReadable, verdict.AttributesNotReadable,
		verdict.SnapshotContentMissing, verdict.SnapshotNotReadable, verdict.RestoreModeMismatch,
	}
	if i.Caches.Snapshots == nil {
		unwatched = append(unwatched, verdict.SnapshotNotFound, verdict.SnapshotNotReady)
	}
	if i.Caches.AttributesClasses == nil {
		unwatched = append(unwatched, verdict.AttributesNotFound)
	}
	if slices.Contains(unwatched, v.Reason) {
		i.queue.AddAfter(k, askAgain)
	}
}

// eventUnchecked sends an event that it is not known whether the source is in use. It returns err.
func (i *Intake) eventUnchecked(ctx context.Context, k key, claim *v1.PersistentVolumeClaim, err error) error {
	i.stalled.note(k, verdict.CloneSourceUnchecked)
	if ctx.Err() == nil {
		i.Recorder.Say(claim, verdict.Refused(verdict.CloneSourceUnchecked,
			"the clone was not started, because it could not be found out whether its source is in use (tried again by itself): %v", err))
	}
	return err
}

// stripped: somebody took the record off while a volume may exist. It is put
// back, so that the work is not lost.
func (i *Intake) stripped(ctx context.Context, k key, claim *v1.PersistentVolumeClaim) error {
	turn, free := i.Ledger.Take(k.uid)
	if !free {
		return nil // whoever has the turn wakes us
	}
	req := turn.Request()
	i.finish(k, turn)
	if req == nil {
		i.Ledger.Forget(k.uid)
		i.queue.Add(k)
		return nil
	}
	klog.FromContext(ctx).Info("The record was taken off by somebody else while a volume may exist; it is put back", "volume", req.GetName())
	_, err := i.write(ctx, claim, i.pins(k.uid, req))
	return err
}

// admit protects the source, then writes the record. The hold on the source
// lasts until the record is seen in the cache, or has failed. note is a verdict of
// Ready, which may have something to be told.
func (i *Intake) admit(ctx context.Context, k key, claim *v1.PersistentVolumeClaim, plan planner.Plan, note verdict.Verdict) error {
	pins := plan.Pins()
	if !i.reserve(pins.VolumeName, k) {
		i.Protector.Unhold(k.uid)
		return nil // whoever has the name wakes us
	}
	note, err := i.hold(ctx, k, plan, note)
	if err != nil {
		i.unreserve(k)
		return i.notProtected(ctx, k, claim, err)
	}
	turn, free := i.Ledger.Take(k.uid)
	if !free {
		i.Protector.Unhold(k.uid)
		i.unreserve(k)
		return nil // whoever has the turn wakes us
	}
	if !i.OnRecord(plan) {
		turn.Admitting()
		turn.Done()
		i.stalled.clear(k)
		klog.FromContext(ctx).V(2).Info("Claim admitted without a record", "volume", plan.Request.GetName(), "requiredBytes", plan.Request.GetCapacityRange().GetRequiredBytes())
		i.Recorder.Say(claim, note)
		i.queue.Add(k)
		i.wakeEngine(k)
		return nil
	}
	defer i.finish(k, turn)
	turn.Recording()
	if record.Left(i.Keys, claim) && claim.Annotations[i.Keys.VolumeName] == pins.VolumeName {
		// Somebody took the record off, and its pins still tell what may exist.
		pins = i.foundPins(claim, pins)
		i.Ledger.Keep(k.uid, pins.ContentSource, pins.RequiredBytes)
	}
	written, err := i.write(ctx, claim, pins)
	if written {
		i.stalled.clear(k)
		klog.FromContext(ctx).V(2).Info("Claim admitted", "volume", plan.Request.GetName(), "requiredBytes", plan.Request.GetCapacityRange().GetRequiredBytes())
		i.Recorder.Say(claim, note)
		return nil
	}
	turn.Close()
	i.Protector.Unhold(k.uid)
	i.unreserve(k)
	if err != nil && !retryQuietly(err) {
		i.stalled.note(k, verdict.RecordNotWritten)
		i.Recorder.Say(claim, verdict.Refused(verdict.RecordNotWritten,
			"the work could not be put on record on this claim, so it was not started (tried again by itself): %v", err))
	}
	return err
}

// hold protects what is to be copied, if anything is. A snapshot that RBAC does not let
// us protect is restored all the same, as the incumbent does; then that is to be told.
func (i *Intake) hold(ctx context.Context, k key, plan planner.Plan, note verdict.Verdict) (verdict.Verdict, error) {
	if !plan.Copies() {
		return note, nil
	}
	err := i.Protector.Hold(ctx, k.uid, plan)
	if plan.Snapshot != nil && apierrors.IsForbidden(err) {
		return verdict.Noted(verdict.SnapshotUnprotected,
			"VolumeSnapshot %q could not be protected while it is being restored; it must not be deleted before this claim is bound. The provisioner needs list, watch and update on volumesnapshots: %v", plan.Snapshot.GetName(), err), nil
	}
	return note, err
}

// notProtected tells why the source could not be protected. A source that
// changed meanwhile is simply judged again.
func (i *Intake) notProtected(ctx context.Context, k key, claim *v1.PersistentVolumeClaim, err error) error {
	if ctx.Err() == nil && !retryQuietly(err) {
		i.stalled.note(k, verdict.SourceNotProtected)
		i.Recorder.Say(claim, verdict.Refused(verdict.SourceNotProtected,
			"the source could not be protected, so the clone was not started (tried again by itself): %v", err))
	}
	return err
}

// write puts the record on the claim: on the very version that was judged, or
// not at all. An answer that got lost is found out by a look at the live claim.
func (i *Intake) write(ctx context.Context, claim *v1.PersistentVolumeClaim, pins record.Pins) (written bool, err error) {
	patch, err := record.Write(i.Keys, claim, pins)
	if err != nil {
		return false, err
	}
	after, err := i.Writer.Patch(ctx, claim, patch)
	if err == nil {
		i.wrote(after)
		return true, nil
	}
	if apierrors.IsNotFound(err) {
		return false, nil // its deletion is on the way to us
	}
	live, getErr := i.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Get(ctx, claim.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(getErr), getErr == nil && live.UID != claim.UID:
		return false, nil
	case getErr == nil && record.Says(i.Keys, live, pins):
		i.wrote(live)
		return true, nil
	}
	return false, fmt.Errorf("writing the record of claim %s/%s: %w", claim.Namespace, claim.Name, err)
}

// retryQuietly: the object changed under our hands; its new version is judged
// again, and the user need not know. Invalid is quiet if it is about a field: one
// that is being deleted takes no finalizers. A ValidatingAdmissionPolicy answers
// Invalid, too, and names no field.
func retryQuietly(err error) bool {
	aboutField := apierrors.HasStatusCause(err, metav1.CauseTypeForbidden) || apierrors.HasStatusCause(err, metav1.CauseTypeFieldValueInvalid)
	return apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsInvalid(err) && aboutField
}
