package intake

import (
	"context"
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

// clean is the cleaner's work: it has undone what may exist for a claim that
// nobody wants, and closes it. It runs beside the queue's workers, and therefore
// leaves the waitlist alone, and writes nothing to the claim but what is to be asked
// for, if its record does not say that.
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
	if remembered := turn.Beside().Claim; gone && remembered != nil {
		claim = remembered
	} else if gone {
		klog.FromContext(ctx).Info("A claim on record is gone, and this process knows nothing of its volume", "volume", i.Planner.VolumeName(claim))
		turn.Close()
	}
	if turn.State() == ledger.Unknown && i.Recorder.Last(k.uid) != verdict.CleanUpBlocked {
		i.tell(claim, gone, verdict.Ignored(verdict.CleaningUp,
			"the claim is no longer wanted while volume %q may exist; the driver is asked for it, and the reclaim policy decides what becomes of it", i.Planner.VolumeName(claim)))
	}
	err := i.completeUndo(ctx, turn, claim, gone)
	if err == nil {
		err = i.Cleaner.Undo(ctx, turn, claim)
	}
	if err == nil {
		turn.Close() // before anybody else gets the turn
	}
	i.finish(k, turn)
	switch {
	case errors.Is(err, ledger.ErrHalfProven):
		return err
	case err != nil:
		i.stalled.note(k, verdict.CleanUpBlocked)
		i.tell(claim, gone, verdict.Refused(verdict.CleanUpBlocked,
			"volume %q cannot be cleaned up now (tried again by itself): %v", i.Planner.VolumeName(claim), err))
		return fmt.Errorf("cleaning up volume %q: %w", i.Planner.VolumeName(claim), err)
	}
	if gone {
		i.forget(k)
		return nil
	}
	i.queue.Add(k) // the claim is closed; follow releases it
	return nil
}

// completeUndo has the record of a claim say what Undo is about to ask for. What cannot
// be asked for, Undo tells.
func (i *Intake) completeUndo(ctx context.Context, turn *ledger.Turn, claim *v1.PersistentVolumeClaim, gone bool) error {
	if gone || turn.State() != ledger.Unknown || !i.recorded(claim) {
		return nil
	}
	pins, err := i.Planner.CleanUpPins(turn, claim)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	_, err = i.complete(ctx, claim, pins)
	return err
}

func (i *Intake) tell(claim *v1.PersistentVolumeClaim, gone bool, v verdict.Verdict) {
	if !gone {
		i.Recorder.Say(claim, v)
	}
}
