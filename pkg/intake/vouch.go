package intake

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

// vouch asks all rules about a claim whose record this process has found. An earlier
// process may have written it, which asked them, or a user, who did not. Until the
// rules let it go on it is not worked on; and if those about its source do not, it does
// not keep that from going.
func (i *Intake) vouch(ctx context.Context, k key, claim *v1.PersistentVolumeClaim) error {
	plan, v, err := i.check(ctx, k, claim)
	switch {
	case err != nil:
		return err
	case v.Kind == verdict.Ignore:
		i.stalled.clear(k)
		i.Recorder.Say(claim, v)
		return nil // it is not refused either: its node may have been withdrawn meanwhile
	case !v.Ready():
		klog.FromContext(ctx).V(2).Info("Claim on record is not worked on", "verdict", v.Kind, "reason", v.Reason, "message", v.Message)
		i.stalled.note(k, v.Reason)
		i.Recorder.Say(claim, v)
		// A class that is gone, say, tells nothing about who wrote the record, and the
		// source is needed to find out what was made.
		if v.Reason == verdict.CloneSourceInUse || i.Planner.SourceDenied(claim) {
			i.Ledger.Doubt(k.uid)
			i.reconsiderSource(claim)
		}
		return nil
	}
	if v, err = i.hold(ctx, k, plan, v); err != nil {
		return i.notProtected(ctx, k, claim, err)
	}
	pins := i.foundPins(claim, plan.Pins())
	if again, err := i.complete(ctx, claim, pins); again || err != nil {
		return err // it is judged again when the cache has it
	}
	i.Ledger.Keep(k.uid, pins.ContentSource, pins.RequiredBytes)
	i.Ledger.Vouch(k.uid)
	i.stalled.clear(k)
	i.Recorder.Say(claim, v)
	i.queue.Add(k) // it is followed from here on
	i.wakeEngine(k)
	return nil
}

// mostMends is how often a record is mended: who changes it more often than that, an
// admission webhook perhaps, will do it again.
const mostMends = 5

// mend writes the record again if somebody changed what it says while a volume may
// exist: another process could not find that volume by it.
func (i *Intake) mend(ctx context.Context, claim *v1.PersistentVolumeClaim) error {
	asked := i.Ledger.Asked(claim.UID)
	if asked == nil || !i.recorded(claim) {
		return nil
	}
	pins := i.pins(claim.UID, asked)
	if record.Says(i.Keys, claim, pins) || !i.mayMend(claim.UID) {
		return nil
	}
	klog.FromContext(ctx).Info("The record was changed by somebody else while a volume may exist; it is mended", "volume", pins.VolumeName)
	_, err := i.write(ctx, claim, pins)
	return err
}

// pins returns what the record must say after a request.
func (i *Intake) pins(claim types.UID, asked *csi.CreateVolumeRequest) record.Pins {
	pins, beside := record.Of(asked), i.Ledger.Beside(claim)
	pins.Secret, pins.ReclaimPolicy = beside.Secret, beside.ReclaimPolicy
	if source, bytes := i.Ledger.Kept(claim); source != "" && source != pins.ContentSource {
		pins.ContentSource, pins.RequiredBytes = source, bytes
	}
	return pins
}

// foundPins returns what a record that was found must say from now on. An earlier process
// may have made the volume of another source, which had the name of today's: only the
// record tells of that, so it is not given up before it is certain what exists.
func (i *Intake) foundPins(claim *v1.PersistentVolumeClaim, today record.Pins) record.Pins {
	found, pins := record.Asked(i.Keys, claim), today
	if found.ReclaimPolicy == v1.PersistentVolumeReclaimRetain {
		pins.ReclaimPolicy = found.ReclaimPolicy
	}
	if found.ContentSource == "" || today.ContentSource == "" || found.ContentSource == today.ContentSource {
		return pins
	}
	pins.ContentSource = found.ContentSource
	if found.RequiredBytes != 0 {
		pins.RequiredBytes = found.RequiredBytes
	}
	return pins
}

// complete writes what is about to be asked for into a record that says something
// else: it was not written by a process of ours, or was changed since. Whoever comes
// after us must be able to repeat it. written says that the claim has changed.
func (i *Intake) complete(ctx context.Context, claim *v1.PersistentVolumeClaim, pins record.Pins) (written bool, err error) {
	if record.Says(i.Keys, claim, pins) || !i.mayMend(claim.UID) {
		return false, nil
	}
	klog.FromContext(ctx).Info("The record does not say what is to be asked for; it is written anew", "volume", pins.VolumeName)
	return i.write(ctx, claim, pins)
}

func (i *Intake) mayMend(claim types.UID) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.mends[claim]++
	return i.mends[claim] <= mostMends
}
