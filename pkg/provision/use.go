package provision

import (
	"context"
	"errors"

	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/inuse"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

// JudgeUse asks rule 6 of a claim that all other rules let pass: is its source in
// use? before is called with each object before it is read, and the claim is
// expected to be waiting for it from then on. An error means that the question
// could not be answered.
func (p *Provisioner) JudgeUse(ctx context.Context, claim, src *v1.PersistentVolumeClaim, before func(waitlist.Object)) (verdict.Verdict, error) {
	if !p.Strict() {
		return verdict.Verdict{}, nil
	}
	before(waitlist.AttachmentsOf(src.Spec.VolumeName))
	before(waitlist.PodsIn(src.Namespace))
	before(waitlist.PodsOf(src.Namespace, src.Name))
	evidence := source.Evidence{AttachmentsTell: p.AttachmentsTell}
	if record.On(p.Keys, claim) {
		evidence.Before = claim.CreationTimestamp.Time
	}
	seen, err := p.Pods.Look(ctx, src.Namespace)
	switch {
	case err == nil:
		evidence.Pods, evidence.PodsKnown = seen.Of(src.Name), true
	case !errors.Is(err, inuse.ErrDenied):
		return verdict.Verdict{}, err
	}
	evidence.Attachments = p.Caches.AttachmentsOf(src.Spec.VolumeName)
	v := source.JudgeUse(claim, src, evidence)
	if evidence.PodsKnown && v.Kind == verdict.Wait {
		p.Pods.Watch(src.Namespace, seen.Version)
	}
	return v, nil
}

// Granted says whether a clone may use its source: one of its own namespace, or one
// that a ReferenceGrant lets it use, or did when this process put it on record or
// vouched for it. A record alone proves nothing: users can write it.
func (p *Provisioner) Granted(claim *v1.PersistentVolumeClaim) bool {
	ref := source.Of(claim)
	return ref.Namespace == claim.Namespace || p.Ledger.Own(claim.UID) ||
		p.OtherNamespaces && source.Granted(p.grantsIn(ref.Namespace), claim.Namespace, ref)
}

// Doubtful says whether the rules about its source do not let the claim have that, as
// if nobody had begun with it.
func (p *Provisioner) Doubtful(claim *v1.PersistentVolumeClaim) bool {
	_, v := source.Judge(p.facts(claim, false, func(waitlist.Object) {}))
	return v.Kind == verdict.Wait || v.Kind == verdict.Refuse
}

// Needs says whether a clone on record may keep its source from going: not if the
// rules do not let it use that source at all.
func (p *Provisioner) Needs(claim *v1.PersistentVolumeClaim) bool {
	return p.Granted(claim) && !p.Ledger.Doubted(claim.UID)
}
