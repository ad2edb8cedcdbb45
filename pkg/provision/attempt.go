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
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/secret"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/volume"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// attempt makes the volume and saves its PV. ignored is not empty when there
// was nothing to do, and says why.
func (p *Provisioner) attempt(ctx context.Context, turn *ledger.Turn, claim *v1.PersistentVolumeClaim) (pv *v1.PersistentVolume, ignored string, err error) {
	claim, ignored, err = p.wanted(ctx, turn, claim)
	if ignored != "" || err != nil {
		return nil, ignored, err
	}
	if !p.Ledger.Own(claim.UID) {
		return nil, "nobody has vouched for its record yet", nil
	}
	if v := p.Fetch(ctx, claim); !v.Ready() {
		return nil, "", errors.New(v.Message)
	}
	plan, v := p.Plan(claim, true, nil)
	switch {
	case v.Kind == verdict.Ignore:
		return nil, "not ours to provision", nil
	case !v.Ready():
		return nil, "", errors.New(v.Message)
	case plan.Stale:
		return nil, "it is put on record anew first", nil
	}
	// While the outcome of an earlier call is open, that very request is repeated;
	// unless the driver has something that it does not fit, which may be what an earlier
	// process has asked for, when the class was another.
	req, begun, attributesClass := plan.Request, plan.Secrets.Provisioner, plan.AttributesClass
	if earlier := turn.Repeatable(); earlier != nil && turn.State() == ledger.Unknown && !turn.Differs() {
		req, begun, attributesClass = earlier, secret.Parse(turn.Beside().Secret), turn.Beside().AttributesClass
	}
	with, err := p.credentialsFor(ctx, begun, plan.Secrets.Provisioner)
	if err != nil {
		return nil, "", err
	}
	ctx = p.counted(ctx, plan.Class)
	if !p.Migration.Is(plan.Class.Provisioner) {
		warnOfOldKeys(ctx, plan.Class)
	}
	resp, err := p.call(ctx, turn, req, with, attributesClass)
	if err != nil {
		if turn.State() == ledger.Clean {
			p.changed(plan.Class.Name, wantedAt(req))
		}
		return nil, "", plan.failed(turn, err)
	}
	if err := volume.Check(req, resp); err != nil {
		return nil, "", p.reject(ctx, turn, claim, resp, with, err)
	}
	if !p.stillWanted(claim) {
		return nil, p.discard(ctx, turn, claim, req.GetName(), resp.GetVolume().GetVolumeId(), with), nil
	}
	if other := p.userOf(claim, resp.GetVolume().GetVolumeId()); other != "" {
		return nil, "", fmt.Errorf("driver %q answered CreateVolume for volume %q with volume %q, which belongs to PV %q; two claims must not share a volume: use a longer --volume-name-uuid-length, or mend the driver",
			p.Driver.Name, req.GetName(), resp.GetVolume().GetVolumeId(), other)
	}
	refs := plan.Secrets
	refs.Provisioner = with.ref
	pv = volume.Build(volume.Input{
		Claim: claim, Class: plan.Class, Driver: p.Driver.Name, Identity: p.Identity,
		Request: req, Response: resp, Secrets: refs, AttributesClass: attributesClass, PublishReadOnly: p.PublishReadOnly, Topology: p.Places != nil,
	})
	saved, err := p.asSaved(plan.Class, pv)
	if err != nil {
		return nil, "", p.reject(ctx, turn, claim, resp, with, err)
	}
	if err := p.save(ctx, claim, saved); err != nil {
		return nil, "", err
	}
	turn.Saved()
	p.changed(plan.Class.Name, topology.Of(pv))
	p.cloned(turn, claim, plan.Class)
	klog.FromContext(ctx).V(2).Info("Volume provisioned", "pv", klog.KObj(pv), "volumeID", resp.GetVolume().GetVolumeId())
	return saved, "", nil
}

// changed tells that a volume was made, or deleted, or is not to be had.
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

// asSaved returns the PV as it is saved: as one of the in-tree plugin that the driver
// took over, if the class is one of that. It is an error if that cannot be.
func (p *Provisioner) asSaved(class *storagev1.StorageClass, pv *v1.PersistentVolume) (*v1.PersistentVolume, error) {
	if !p.Migration.Is(class.Provisioner) {
		return pv, nil
	}
	return p.Migration.FromCSI(pv)
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

// discard deletes the volume of a claim that was deleted while it was made. What
// does not go now, the cleaner takes care of. It returns why there is no PV.
func (p *Provisioner) discard(ctx context.Context, turn *ledger.Turn, claim *v1.PersistentVolumeClaim, name, handle string, with credentials) string {
	kept, err := p.remove(ctx, claim, name, handle, with)
	klog.FromContext(ctx).V(2).Info("Claim was deleted while its volume was made", "volumeID", handle, "kept", kept, "err", err)
	if kept == "" && err == nil {
		turn.Removed()
		p.Figures.CleanedUp()
	}
	return "the claim is not wanted any more"
}

// wanted returns the claim to work on, or why there is nothing to do. A record
// that this process did not write is confirmed by the live claim first: the
// cache may be behind, and the work long done.
func (p *Provisioner) wanted(ctx context.Context, turn *ledger.Turn, claim *v1.PersistentVolumeClaim) (*v1.PersistentVolumeClaim, string, error) {
	if state := turn.State(); state == ledger.Closed || state == ledger.Saved {
		return nil, "the claim is " + state.String(), nil
	}
	if turn.Foreign() {
		live, err := p.confirm(ctx, turn, claim)
		if err != nil {
			return nil, "", err
		}
		if live == nil {
			return nil, "the live claim is not on record", nil
		}
		claim = live
	}
	if claim.DeletionTimestamp != nil || claim.Spec.VolumeName != "" || !p.stillWanted(claim) {
		return nil, "the claim is deleted or bound", nil
	}
	return claim, "", nil
}

// confirm reads the live claim. If it does not carry the record, whoever wrote
// that is through: the claim is closed, and nil returned.
func (p *Provisioner) confirm(ctx context.Context, turn *ledger.Turn, claim *v1.PersistentVolumeClaim) (*v1.PersistentVolumeClaim, error) {
	live, err := p.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Get(ctx, claim.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		turn.Close()
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading the live claim before the first call to the driver: %w", err)
	case live.UID != claim.UID || !p.Admitted(live):
		turn.Close()
		return nil, nil
	}
	turn.Confirm()
	return live, nil
}

// stillWanted looks into the cache, which may be behind: what slips through is
// saved as a PV, and deleted with it.
func (p *Provisioner) stillWanted(claim *v1.PersistentVolumeClaim) bool {
	cached := p.Caches.Claim(claim.Namespace, claim.Name)
	return cached != nil && cached.UID == claim.UID && cached.DeletionTimestamp == nil && !p.elsewhere(cached)
}

// warnOfOldKeys says which parameters of the class are spelt as they once were.
func warnOfOldKeys(ctx context.Context, class *storagev1.StorageClass) {
	if old := secret.Deprecated(class.Parameters); len(old) > 0 {
		klog.FromContext(ctx).Info("The StorageClass has deprecated parameters; write them with the prefix "+wellknown.ParameterPrefix, "class", class.Name, "parameters", old)
	}
}

// call makes one CreateVolume and notes in the ledger what it tells. The contents of the
// Secret go along with this one call only.
func (p *Provisioner) call(ctx context.Context, turn *ledger.Turn, req *csi.CreateVolumeRequest, with credentials, attributesClass string) (*csi.CreateVolumeResponse, error) {
	before := turn.CallingWith(req, ledger.Beside{Secret: with.ref.String(), AttributesClass: attributesClass})
	resp, err := p.Driver.CreateVolume(ctx, req, with.values)
	answer := csidriver.Meaning(err)
	if answer == ledger.Absent && with.lacking != "" {
		answer = ledger.Denied // the driver may have refused for want of it
	}
	state := turn.Answered(before, answer)
	if err != nil {
		if csidriver.CuredElsewhere(err) {
			turn.Elsewhere()
		}
		klog.FromContext(ctx).V(2).Info("CreateVolume failed", "volume", req.GetName(), "known", state, "err", err)
		return nil, with.explain(csidriver.Explain(p.Driver.Name, "CreateVolume", req.GetName(), err))
	}
	turn.Made(resp.GetVolume().GetVolumeId())
	return resp, nil
}

// counted returns a context whose calls to the driver are counted as migrated, if the
// class, nil if it is gone, is one of the in-tree plugin that the driver took over.
func (p *Provisioner) counted(ctx context.Context, class *storagev1.StorageClass) context.Context {
	if class != nil && p.Migration.Is(class.Provisioner) {
		return csidriver.Migrated(ctx)
	}
	return ctx
}

// reject deletes a volume that is not what was asked for, or whose PV cannot be made,
// and returns the error for the user.
func (p *Provisioner) reject(ctx context.Context, turn *ledger.Turn, claim *v1.PersistentVolumeClaim, resp *csi.CreateVolumeResponse, with credentials, broken error) error {
	if errors.Is(broken, volume.ErrNoVolume) {
		return broken
	}
	handle := resp.GetVolume().GetVolumeId()
	kept, err := p.remove(ctx, claim, turn.Request().GetName(), handle, with)
	switch {
	case err != nil:
		return fmt.Errorf("%w; deleting it is tried again: %w", broken, err)
	case kept != "":
		return fmt.Errorf("%w; it was not deleted because %s", broken, kept)
	}
	turn.Removed()
	klog.FromContext(ctx).Info("Volume deleted because the driver's reply cannot be used", "volumeID", handle)
	return fmt.Errorf("%w; the volume was deleted, and it is tried again", broken)
}

// withoutStatus hides a gRPC status from the engine, which would not look at a claim for
// five minutes after InvalidArgument, whatever changes.
func withoutStatus(err error) error { return errors.New(err.Error()) }
