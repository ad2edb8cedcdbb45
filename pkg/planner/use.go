package planner

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

// checkUse asks whether the source of a claim is in use (rule 6). before is called with each
// object before it is read, and the claim must be waiting for it from then on. An error means
// that it could not be found out.
func (p *Planner) checkUse(ctx context.Context, claim, src *v1.PersistentVolumeClaim, before func(waitlist.Object)) (verdict.Verdict, error) {
	if !p.Strict {
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

// sourceGranted reports whether a clone may use its source: the source is in its namespace, or a
// ReferenceGrant allows it, or did when this process wrote or verified the record. A record
// alone proves nothing, because users can write it.
func (p *Planner) sourceGranted(claim *v1.PersistentVolumeClaim) bool {
	ref := source.Of(claim)
	return ref.Namespace == claim.Namespace || p.Ledger.Own(claim.UID) ||
		p.OtherNamespaces && source.Granted(p.grantsIn(ref.Namespace), claim.Namespace, ref)
}

// SourceDenied reports whether the rules deny the claim its source, as if no work had begun.
func (p *Planner) SourceDenied(claim *v1.PersistentVolumeClaim) bool {
	_, v := source.Judge(p.sourceFacts(claim, false, func(waitlist.Object) {}))
	return v.Kind == verdict.Wait || v.Kind == verdict.Refuse
}

// MayHoldSource reports whether a recorded clone may keep its source from being deleted: not if
// the rules deny it that source.
func (p *Planner) MayHoldSource(claim *v1.PersistentVolumeClaim) bool {
	return p.sourceGranted(claim) && !p.Ledger.Doubted(claim.UID)
}
