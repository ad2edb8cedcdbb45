package provision

import (
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/planner"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/secret"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/volume"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// skippedError is the result of an attempt that had nothing to do.
type skippedError struct{ reason string }

// Error implements error.
func (e skippedError) Error() string { return e.reason }

// attempt makes the volume and saves its PV. The error is a skippedError if there was nothing to
// do.
func (p *Provisioner) attempt(ctx context.Context, turn *ledger.Turn, claim *v1.PersistentVolumeClaim) (*v1.PersistentVolume, error) {
	claim, err := p.wanted(ctx, turn, claim)
	if err != nil {
		return nil, err
	}
	if !p.Ledger.Own(claim.UID) {
		return nil, skippedError{"its record is not verified yet"}
	}
	if v := p.Planner.FetchUncached(ctx, claim); !v.Ready() {
		return nil, errors.New(v.Message)
	}
	plan, v := p.Planner.Plan(claim, true, nil)
	switch {
	case v.Kind == verdict.Ignore:
		return nil, skippedError{"not ours to provision"}
	case !v.Ready():
		return nil, errors.New(v.Message)
	case plan.Stale:
		return nil, skippedError{"its record is written again first"}
	}
	req, begun, attributesClass := nextCall(turn, plan)
	with, err := p.Planner.CredentialsFor(ctx, begun, plan.Secrets.Provisioner)
	if err != nil {
		return nil, err
	}
	beside := ledger.Beside{AttributesClass: attributesClass, Claim: claim, Class: plan.Class, ReclaimPolicy: plan.ReclaimPolicy}
	ctx = p.counted(ctx, plan.Class)
	if !p.Migration.Is(plan.Class.Provisioner) {
		warnOfOldKeys(ctx, plan.Class)
	}
	resp, outcome := p.call(ctx, turn, req, with, beside)
	if outcome.Err != nil {
		if turn.State() == ledger.Clean {
			p.changed(plan.Class.Name, wantedAt(req))
		}
		// The source may not be accessible from the selected node: another node may help.
		if plan.OutOfReach.Reason != "" && outcome.SourceRefused {
			turn.Elsewhere()
		}
		return nil, outcome.Err
	}
	if cached := p.Caches.Claim(claim.Namespace, claim.Name); cached != nil && cached.UID == claim.UID && p.Planner.IsForOtherNode(cached) {
		return nil, skippedError{"another node was selected during the call"} // its provisioner saves the claim's PV
	}
	if other := p.userOf(claim, resp.GetVolume().GetVolumeId()); other != "" {
		return nil, fmt.Errorf("driver %q answered CreateVolume for volume %q with volume %q, which belongs to PV %q; two claims must not share a volume: use a longer --volume-name-uuid-length, or mend the driver",
			p.Driver.Name, req.GetName(), resp.GetVolume().GetVolumeId(), other)
	}
	in := volume.Input{
		Claim: claim, Class: plan.Class, Request: req, Response: resp, Secrets: plan.Secrets,
		AttributesClass: attributesClass, ReclaimPolicy: plan.ReclaimPolicy,
	}
	pv, err := p.savePV(ctx, turn, in, with)
	if err != nil {
		return nil, p.reject(ctx, turn, in, with, err)
	}
	p.cloned(turn, claim, plan.Class)
	return pv, nil
}

// nextCall returns the request to send, with its Secret and its VolumeAttributesClass. While the
// outcome of an earlier call is open, that very request is repeated, unless the driver has a
// volume that it does not fit: an earlier process may have sent another request, with the class
// as it was then.
func nextCall(turn *ledger.Turn, plan planner.Plan) (*csi.CreateVolumeRequest, secret.Ref, string) {
	if earlier := turn.Repeatable(); earlier != nil && turn.State() == ledger.Unknown && !turn.Differs() {
		return earlier, secret.Parse(turn.Beside().Secret), turn.Beside().AttributesClass
	}
	return plan.Request, plan.Secrets.Provisioner, plan.AttributesClass
}

// changed reports that free capacity may have changed.
func (p *Provisioner) changed(class string, terms []topology.Term) {
	if p.VolumesChanged != nil {
		p.VolumesChanged(class, terms)
	}
}

// wantedAt returns the places from one of which a volume had to be usable.
func wantedAt(req *csi.CreateVolumeRequest) []topology.Term {
	var terms []topology.Term
	for _, place := range req.GetAccessibilityRequirements().GetRequisite() {
		terms = append(terms, topology.TermOf(place.GetSegments()))
	}
	return terms
}

// cloned counts a claim whose PV is saved, if it is a clone and this process began it.
func (p *Provisioner) cloned(turn *ledger.Turn, claim *v1.PersistentVolumeClaim, class *storagev1.StorageClass) {
	if took, known := turn.Took(); known && source.Of(claim).Kind == source.Claim {
		p.Figures.Cloned(class.Name, took)
	}
}

// userOf returns the name of a PV that has the handle and is not this claim's;
// "" if there is none.
func (p *Provisioner) userOf(claim *v1.PersistentVolumeClaim, handle string) string {
	for _, pv := range p.Caches.PVsOfHandle(handle) {
		if !volume.Owns(pv, claim, p.Driver.Name) {
			return pv.Name
		}
	}
	return ""
}

// wanted returns the claim to work on, or a skippedError. A record that this process did not
// write is confirmed by the live claim first: the cache may be stale, and the work long done.
func (p *Provisioner) wanted(ctx context.Context, turn *ledger.Turn, claim *v1.PersistentVolumeClaim) (*v1.PersistentVolumeClaim, error) {
	if state := turn.State(); state == ledger.Closed || state == ledger.Saved {
		return nil, skippedError{"the claim is " + state.String()}
	}
	if turn.Foreign() {
		live, err := p.confirm(ctx, turn, claim)
		if err != nil {
			return nil, err
		}
		if live == nil {
			return nil, skippedError{"the live claim is not on record"}
		}
		claim = live
	}
	if claim.DeletionTimestamp != nil || claim.Spec.VolumeName != "" || !p.stillWanted(claim) {
		return nil, skippedError{"the claim is deleted or bound"}
	}
	return claim, nil
}

// confirm reads the live claim. If it does not carry the record, the work of the process that
// wrote the record has ended: the claim is closed, and nil returned.
func (p *Provisioner) confirm(ctx context.Context, turn *ledger.Turn, claim *v1.PersistentVolumeClaim) (*v1.PersistentVolumeClaim, error) {
	live, err := p.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Get(ctx, claim.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		turn.Close()
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading the live claim before the first call to the driver: %w", err)
	case live.UID != claim.UID || !p.Planner.Admitted(live):
		turn.Close()
		return nil, nil
	}
	turn.Confirm()
	return live, nil
}

// stillWanted looks into the cache, which may be stale: a claim whose deletion it does not
// show gets its PV, which Kubernetes then reclaims.
func (p *Provisioner) stillWanted(claim *v1.PersistentVolumeClaim) bool {
	cached := p.Caches.Claim(claim.Namespace, claim.Name)
	return cached != nil && cached.UID == claim.UID && cached.DeletionTimestamp == nil && !p.Planner.IsForOtherNode(cached)
}

// warnOfOldKeys says which parameters of the class are spelt as they once were.
func warnOfOldKeys(ctx context.Context, class *storagev1.StorageClass) {
	if old := secret.Deprecated(class.Parameters); len(old) > 0 {
		klog.FromContext(ctx).Info("The StorageClass has deprecated parameters; write them with the prefix "+wellknown.ParameterPrefix, "class", class.Name, "parameters", old)
	}
}

// call makes one CreateVolume and records its outcome in the ledger; beside gets the
// Secret's name here. The contents of the Secret are used for this one call only.
func (p *Provisioner) call(ctx context.Context, turn *ledger.Turn, req *csi.CreateVolumeRequest, with planner.Credentials, beside ledger.Beside) (*csi.CreateVolumeResponse, csidriver.Outcome) {
	beside.Secret = with.Ref.String()
	before := turn.CallingWith(req, beside)
	resp, outcome := p.Driver.CreateVolume(ctx, req, with.Values)
	proof := outcome.Proof
	if proof == ledger.Absent && with.Lacking != "" {
		proof = ledger.Unauthorized // the driver may have refused because of what is missing
	}
	state := turn.Answered(before, proof)
	if outcome.Err != nil {
		if outcome.OtherNode {
			turn.Elsewhere()
		}
		klog.FromContext(ctx).V(2).Info("CreateVolume failed", "volume", req.GetName(), "known", state, "err", errors.Unwrap(outcome.Err))
		outcome.Err = with.Explain(outcome.Err)
		return nil, outcome
	}
	turn.SetVolume(resp)
	return resp, outcome
}

// counted returns a context whose calls to the driver are counted as migrated, if the
// class, nil if it is gone, is one of the in-tree plugin that the driver took over.
func (p *Provisioner) counted(ctx context.Context, class *storagev1.StorageClass) context.Context {
	if class != nil && p.Migration.Is(class.Provisioner) {
		return csidriver.Migrated(ctx)
	}
	return ctx
}

// reject returns the error for the user after savePV has failed. A volume of which no PV
// can be made is removed, if its reclaim policy allows that.
func (p *Provisioner) reject(ctx context.Context, turn *ledger.Turn, in volume.Input, with planner.Credentials, failed error) error {
	if !errors.As(failed, &unusableError{}) {
		return failed
	}
	err := p.remove(ctx, in, with)
	var kept keptError
	switch {
	case errors.As(err, &kept):
		return fmt.Errorf("%w; it was not deleted because %s", failed, kept.reason)
	case err != nil:
		return fmt.Errorf("%w; deleting it is tried again: %w", failed, err)
	}
	turn.Removed()
	klog.FromContext(ctx).Info("Volume deleted because the driver's reply cannot be used", "volumeID", in.Handle())
	return fmt.Errorf("%w; the volume was deleted, and it is tried again", failed)
}

// withoutStatus hides a gRPC status from the engine, which would not look at a claim for
// five minutes after InvalidArgument, whatever changes.
func withoutStatus(err error) error { return errors.New(err.Error()) }
