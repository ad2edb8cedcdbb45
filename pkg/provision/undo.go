package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/planner"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/volume"
)

// Undo finds out whether the driver holds a volume for a claim that is deleted, or does not
// want one any more, and saves its PV, so that the reclaim policy decides what becomes of it.
// nil means that nothing is left to do: nothing exists, a PV has it, or the volume was kept
// and an event says so. The caller holds the claim's turn. The claim may be gone from the
// API; then it is as this process remembers it.
func (p *Provisioner) Undo(ctx context.Context, turn *ledger.Turn, claim *v1.PersistentVolumeClaim) (err error) {
	if turn.State() != ledger.Unknown {
		return nil
	}
	ctx, end := observe.Span(ctx, "clean up", "persistentvolumeclaim", claim)
	defer func() { end(err) }()
	if turn.Foreign() {
		if live, err := p.confirm(ctx, turn, claim); err != nil || live == nil {
			return err
		}
	}
	ctx = p.counted(ctx, p.Caches.Class(source.ClassName(claim)))
	p.Planner.FetchUncached(ctx, claim) // if that fails, it is asked without, which proves less
	calls, _, err := p.Planner.PastCalls(turn, claim)
	if err != nil {
		return err
	}
	call := calls[0]
	if saved, err := p.savedLive(ctx, claim, call.Request.GetName()); saved || err != nil {
		if saved {
			turn.Saved()
		}
		return err
	}
	with, err := p.Planner.CleanUpCredentials(ctx, call)
	if err != nil {
		return err
	}
	call.Request = cmp.Or(turn.Request(), call.Request)
	resp := turn.Volume()
	if resp == nil || turn.Open() {
		resp, call, with, err = p.search(ctx, turn, claim, calls, with)
		switch {
		case err != nil && turn.State() == ledger.Clean:
			return nil
		case err != nil && turn.HalfProven():
			return fmt.Errorf("%w: %w", ledger.ErrHalfProven, err)
		case err != nil:
			return err
		}
	}
	in := volume.Input{
		Claim: claim, Class: call.Class, Request: call.Request, Response: resp, Secrets: p.Planner.PVSecrets(claim, call),
		AttributesClass: call.AttributesClass, ReclaimPolicy: call.ReclaimPolicy,
	}
	return p.conclude(ctx, turn, in, with)
}

// conclude saves the PV of a volume that Undo has found. If there can be no PV, the volume
// is deleted or, with the reclaim policy Retain, kept.
func (p *Provisioner) conclude(ctx context.Context, turn *ledger.Turn, in volume.Input, with planner.Credentials) error {
	handle, name := in.Handle(), in.Request.GetName()
	if handle == "" {
		return volume.ErrNoVolume
	}
	user := p.nameUser(in.Claim, name)
	if pvs := p.Caches.PVsPerhapsOfHandle(handle); len(pvs) > 0 {
		turn.Saved()
		if pvs[0].Name == name {
			return nil
		}
		user = fmt.Sprintf("PV %q has it", pvs[0].Name)
	}
	if user != "" {
		p.eventForVolume(in, verdict.Refused(verdict.VolumeKept, "volume %q was not deleted because %s", handle, user))
		return nil
	}
	err := p.unusable(in)
	if err == nil {
		_, err = p.savePV(ctx, turn, in, with)
	}
	if err == nil || mayPass(err) && !errors.As(err, &unusableError{}) {
		return err
	}
	removeErr := p.remove(ctx, in, with)
	var kept keptError
	switch {
	case errors.As(removeErr, &kept):
		p.Figures.KeptWithoutPV()
		klog.FromContext(ctx).Info("Volume kept without a PV", "volumeID", handle, "because", kept.reason, "err", err)
		p.eventForVolume(in, verdict.Refused(verdict.VolumeKept,
			"no PV could be saved for volume %q (CSI name %q), and it was not deleted because %s; if no PV has it, create one, or delete the volume in the storage backend: %v", handle, name, kept.reason, err))
	case removeErr != nil:
		return removeErr
	default:
		turn.Removed()
		p.Figures.CleanedUp()
		klog.FromContext(ctx).Info("Volume deleted because no PV could be saved for it", "volumeID", handle, "err", err)
	}
	return nil
}

// unusable returns an unusableError if the volume must not become the claim's PV; else nil.
func (p *Provisioner) unusable(in volume.Input) error {
	kind := source.Of(in.Claim).Kind
	switch {
	case p.mayBind(in.Claim):
		return unusableError{errors.New("the claim is to have another volume: another node was selected for it, or another PV has the name of its PV")}
	case in.Request.GetVolumeContentSource() == nil && (kind == source.Claim || kind == source.Snapshot):
		return unusableError{errors.New("it was found without its source, so it need not have the content that the claim names")}
	}
	return nil
}

// eventRetained sends an event that a volume stays although its claim does not want it.
func (p *Provisioner) eventRetained(in volume.Input, pv string) {
	if in.ReclaimPolicy != v1.PersistentVolumeReclaimRetain {
		return
	}
	why := "the claim was deleted before it used the volume"
	if cached := p.Caches.Claim(in.Claim.Namespace, in.Claim.Name); cached != nil && cached.UID == in.Claim.UID && cached.DeletionTimestamp == nil {
		if cached.Spec.VolumeName == pv {
			return // it was bound when an earlier request had saved the PV
		}
		why = fmt.Sprintf("the claim was bound to PV %q meanwhile; the next claim of this name is bound to PV %q unless that is deleted", cached.Spec.VolumeName, pv)
	}
	p.eventForVolume(in, verdict.Noted(verdict.VolumeRetained, "PV %q keeps volume %q, because its reclaim policy is Retain: %s", pv, in.Handle(), why))
}

// eventForVolume sends an event about a volume on its claim, and on its StorageClass if the claim is deleted:
// its events are then hard to find, or refused in a namespace that is being deleted.
func (p *Provisioner) eventForVolume(in volume.Input, v verdict.Verdict) {
	cached := p.Caches.Claim(in.Claim.Namespace, in.Claim.Name)
	exists := cached != nil && cached.UID == in.Claim.UID
	if exists {
		p.Recorder.Say(cached, v)
	}
	if class := p.Caches.Class(in.Class.Name); class != nil && (!exists || cached.DeletionTimestamp != nil) {
		p.Recorder.SayOfClass(class, v)
	}
}

// savedLive reports whether the live PV of that name owns the claim's volume.
func (p *Provisioner) savedLive(ctx context.Context, claim *v1.PersistentVolumeClaim, name string) (bool, error) {
	live, err := p.Client.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking for PV %q before the volume is searched: %w", name, err)
	}
	return volume.Owns(p.Migration.Seen(live), claim, p.Driver.Name), nil
}

// search asks for the volume, to learn of it, with one request after another: the next
// one only if the driver has said that something else exists under the name. with are the
// credentials for the first request; the last request and its credentials are returned.
func (p *Provisioner) search(ctx context.Context, turn *ledger.Turn, claim *v1.PersistentVolumeClaim, calls []planner.PastCall, with planner.Credentials) (resp *csi.CreateVolumeResponse, call planner.PastCall, _ planner.Credentials, err error) {
	for i, next := range calls {
		call = next
		if i > 0 {
			if with, err = p.Planner.CleanUpCredentials(ctx, call); err != nil {
				return nil, call, with, err
			}
		}
		attempted := turn.Repeatable()
		var outcome csidriver.Outcome
		resp, outcome = p.call(ctx, turn, call.Request, with, ledger.Beside{
			AttributesClass: call.AttributesClass, Claim: claim, Class: call.Class, ReclaimPolicy: call.ReclaimPolicy,
		})
		err = outcome.Err
		if call.Request != attempted {
			turn.Sought()
		}
		if differs := outcome.Proof == ledger.Conflict || i > 0 && outcome.Proof == ledger.Absent; !differs {
			break
		}
	}
	return resp, call, with, err
}
