package planner

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/secret"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

// CleanUpPins returns what the claim's record must contain while a clean-up asks the driver.
func (p *Planner) CleanUpPins(turn *ledger.Turn, claim *v1.PersistentVolumeClaim) (record.Pins, error) {
	calls, pinned, err := p.PastCalls(turn, claim)
	switch {
	case err != nil:
		return record.Pins{}, err
	case pinned != nil:
		return pinned.pins(), nil // it may be what exists, and the next process must know
	}
	// A blank volume is only a probe before a copy.
	for _, call := range calls {
		if call.Request.GetVolumeContentSource() != nil {
			return call.pins(), nil
		}
	}
	return calls[0].pins(), nil
}

// PastCall is a CreateVolume that was or may have been sent for a claim.
type PastCall struct {
	Request *csi.CreateVolumeRequest
	// Secret of the call. Today is the Secret that the class names now, if that differs.
	Secret, Today secret.Ref
	// AttributesClass is the name of the VolumeAttributesClass; empty for none.
	AttributesClass string
	// Class as it is in the API, or was when this process made the call.
	Class         *storagev1.StorageClass
	ReclaimPolicy v1.PersistentVolumeReclaimPolicy
	// Lacking is what the rebuilt request does without; see Credentials.Lacking.
	Lacking string
}

func (c PastCall) pins() record.Pins {
	pins := record.Of(c.Request)
	pins.Secret, pins.ReclaimPolicy = c.Secret.String(), c.ReclaimPolicy
	return pins
}

// withSource returns the same call with another source; nil for a blank volume.
func (c PastCall) withSource(content *csi.VolumeContentSource) PastCall {
	c.Request = proto.CloneOf(c.Request)
	c.Request.VolumeContentSource = content
	return c
}

// PVSecrets returns the Secrets that the class of a call names for the claim's PV, or none if
// they cannot be resolved any more.
func (p *Planner) PVSecrets(claim *v1.PersistentVolumeClaim, call PastCall) secret.Refs {
	class, v := p.Migration.Class(call.Class)
	if !v.Ready() {
		return secret.Refs{}
	}
	refs, _ := secret.Resolve(class, templateValues(claim, call.Request.GetName()))
	return refs
}

// CleanUpCredentials is CredentialsFor a call of a clean-up. A Secret that does not exist is no
// error, because a deleted namespace takes its Secrets with it: the driver is called without.
func (p *Planner) CleanUpCredentials(ctx context.Context, call PastCall) (Credentials, error) {
	with, err := p.CredentialsFor(ctx, call.Secret, call.Today)
	with.Lacking = call.Lacking
	if errors.Is(err, ErrNoSecret) {
		with.Lacking = fmt.Sprintf("Secret %q", with.Ref)
		return with, nil
	}
	return with, err
}

// PastCalls returns the calls that were or may have been sent for the claim, at least one, in the
// order in which a clean-up must repeat them. pinned is the call among them of which only the
// claim's record is evidence; nil if there is none.
//
// First comes the call that this process has sent. If it has sent none, there are the call with
// the recorded source, if that is not today's, and the one with today's source. Users can write
// the record, and the rules may deny the claim today's source. In both cases a blank volume of
// the same name is asked for first, and nothing is copied unless the driver answers
// ALREADY_EXISTS, as it does if it has the copy (CSI spec, CreateVolume errors). Otherwise the
// blank volume is what was found; it does not become the claim's PV.
func (p *Planner) PastCalls(turn *ledger.Turn, claim *v1.PersistentVolumeClaim) (calls []PastCall, pinned *PastCall, err error) {
	today, err := p.rebuild(claim)
	last, beside := turn.Request(), turn.Beside()
	sent := PastCall{
		Request: last, Secret: secret.Parse(beside.Secret), Today: today.Secret, AttributesClass: beside.AttributesClass,
		Class: beside.Class, ReclaimPolicy: p.reclaimPolicy(claim, today.Class),
	}
	if err != nil && last != nil {
		return []PastCall{sent}, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if pinned, err = p.recordedCall(claim, today); err != nil {
		return nil, nil, err
	}
	add := func(call PastCall) {
		if !slices.ContainsFunc(calls, func(other PastCall) bool { return proto.Equal(call.Request, other.Request) }) {
			calls = append(calls, call)
		}
	}
	onlyToFindOut := last.GetVolumeContentSource() == nil && source.Of(claim).Kind != source.None
	unproven := today.Request.GetVolumeContentSource() != nil && !p.MayHoldSource(claim)
	switch {
	case last != nil && !onlyToFindOut:
		add(sent)
	case pinned != nil:
		add(pinned.withSource(nil))
	case unproven, last != nil:
		add(today.withSource(nil))
	}
	if pinned != nil {
		add(*pinned)
	}
	add(today)
	return calls, pinned, nil
}

// recordedCall returns the call with the source in the claim's record; nil if that is today's
// source, or cannot be the claim's.
func (p *Planner) recordedCall(claim *v1.PersistentVolumeClaim, today PastCall) (*PastCall, error) {
	text, _ := p.Ledger.Kept(claim.UID)
	if !p.Ledger.Own(claim.UID) && record.On(p.Keys, claim) {
		text = record.Asked(p.Keys, claim).ContentSource
	}
	content, kind := record.ParseSource(text), source.Of(claim).Kind
	could := kind == source.Claim && content.GetVolume() != nil || kind == source.Snapshot && content.GetSnapshot() != nil
	if !could || proto.Equal(content, today.Request.GetVolumeContentSource()) {
		return nil, nil
	}
	blank, err := p.rebuildFrom(claim, nil) // the bytes on record stand as they are
	if err != nil {
		return nil, err
	}
	copied := blank.withSource(content)
	return &copied, nil
}

// rebuild returns the call of an earlier process, rebuilt from the recorded name, bytes and
// Secret. No rule is asked about the source, because with another source the driver would not
// recognize the volume; it is left out only if its PV does not exist. So are a
// VolumeAttributesClass and a Secret that do not exist.
func (p *Planner) rebuild(claim *v1.PersistentVolumeClaim) (PastCall, error) {
	return p.rebuildFrom(claim, source.VolumeOf(p.sourceFacts(claim, true, func(waitlist.Object) {})))
}

func (p *Planner) rebuildFrom(claim *v1.PersistentVolumeClaim, src *source.Volume) (PastCall, error) {
	unwatched := func(waitlist.Object) {}
	class, asked, v := p.classOf(claim, unwatched)
	if !v.Ready() {
		return PastCall{}, errors.New(v.Message)
	}
	name := p.VolumeName(claim)
	past := PastCall{Class: class, ReclaimPolicy: p.reclaimPolicy(claim, class)}
	attributes, v := p.attributes(claim, unwatched)
	if attributes != nil {
		past.AttributesClass = attributes.Name
	} else {
		past.Lacking = lacksAttributes(p.attributesClassName(claim), v)
	}
	if past.Request, v = p.build(claim, asked, src, attributes, name, p.recordedAccessibility(claim, asked)); !v.Ready() {
		return PastCall{}, errors.New(v.Message)
	}
	if past.Secret = p.recordedSecret(claim, asked, name); !past.Secret.IsZero() {
		return past, nil
	}
	if past.Secret, v = secret.ResolveProvisioner(asked, templateValues(claim, name)); !v.Ready() {
		past.Lacking = "the Secret of the StorageClass (" + v.Message + ")"
	}
	return past, nil
}
