package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/secret"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/volume"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
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
	p.Fetch(ctx, claim) // if that fails, it is asked without, which proves less
	calls, _, err := p.calls(turn, claim)
	if err != nil {
		return err
	}
	call := calls[0]
	if saved, err := p.savedLive(ctx, claim, call.request.GetName()); saved || err != nil {
		if saved {
			turn.Saved()
		}
		return err
	}
	with, err := p.lastCredentials(ctx, call)
	if err != nil {
		return err
	}
	call.request = cmp.Or(turn.Request(), call.request)
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
		Claim: claim, Class: call.class, Request: call.request, Response: resp, Secrets: p.secretsOf(claim, call),
		AttributesClass: call.attributesClass, ReclaimPolicy: call.reclaimPolicy,
	}
	return p.conclude(ctx, turn, in, with)
}

// conclude saves the PV of a volume that Undo has found. If there can be no PV, the volume
// is deleted or, with the reclaim policy Retain, kept.
func (p *Provisioner) conclude(ctx context.Context, turn *ledger.Turn, in volume.Input, with credentials) error {
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
	kept, removeErr := p.remove(ctx, in, with)
	switch {
	case removeErr != nil:
		return removeErr
	case kept != "":
		p.Figures.KeptWithoutPV()
		klog.FromContext(ctx).Info("Volume kept without a PV", "volumeID", handle, "because", kept, "err", err)
		p.eventForVolume(in, verdict.Refused(verdict.VolumeKept,
			"no PV could be saved for volume %q (CSI name %q), and it was not deleted because %s; if no PV has it, create one, or delete the volume in the storage backend: %v", handle, name, kept, err))
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

// savedLive says whether the live PV of that name owns the claim's volume.
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

// UndoPins returns what the record is to say while Undo asks the driver.
func (p *Provisioner) UndoPins(turn *ledger.Turn, claim *v1.PersistentVolumeClaim) (record.Pins, error) {
	calls, pinned, err := p.calls(turn, claim)
	switch {
	case err != nil:
		return record.Pins{}, err
	case pinned != nil:
		return pinned.pins(), nil // it may be what was made: whoever comes next must know
	}
	// A blank volume is only asked for before a copy.
	for _, call := range calls {
		if call.request.GetVolumeContentSource() != nil {
			return call.pins(), nil
		}
	}
	return calls[0].pins(), nil
}

// pastCall is what was or may have been asked of the driver for a claim.
type pastCall struct {
	request *csi.CreateVolumeRequest
	// secret with which, and today's where the class has changed since.
	secret, today   secret.Ref
	attributesClass string
	// class as it is in the API, or was when this process made the call.
	class         *storagev1.StorageClass
	reclaimPolicy v1.PersistentVolumeReclaimPolicy
	// lacking says what the request could not be made with again; see credentials.
	lacking string
}

func (c pastCall) pins() record.Pins {
	pins := record.Of(c.request)
	pins.Secret, pins.ReclaimPolicy = c.secret.String(), c.reclaimPolicy
	return pins
}

// withSource returns the same call for a copy of something else.
func (c pastCall) withSource(content *csi.VolumeContentSource) pastCall {
	c.request = proto.CloneOf(c.request)
	c.request.VolumeContentSource = content
	return c
}

// search asks for the volume, to learn of it, with one request after another: the next
// one only if the driver has said that something else exists under the name. with are the
// credentials for the first request; the last request and its credentials are returned.
func (p *Provisioner) search(ctx context.Context, turn *ledger.Turn, claim *v1.PersistentVolumeClaim, calls []pastCall, with credentials) (resp *csi.CreateVolumeResponse, call pastCall, _ credentials, err error) {
	for i, next := range calls {
		call = next
		if i > 0 {
			if with, err = p.lastCredentials(ctx, call); err != nil {
				return nil, call, with, err
			}
		}
		attempted := turn.Repeatable()
		resp, err = p.call(ctx, turn, call.request, with, ledger.Beside{
			AttributesClass: call.attributesClass, Claim: claim, Class: call.class, ReclaimPolicy: call.reclaimPolicy,
		})
		if call.request != attempted {
			turn.Sought()
		}
		answer := csidriver.Meaning(err)
		if differs := answer == ledger.Differs || i > 0 && answer == ledger.Absent; !differs {
			break
		}
	}
	return resp, call, with, err
}

// secretsOf returns the Secrets that the class of a call names for the claim's PV; none if
// they cannot be resolved any more.
func (p *Provisioner) secretsOf(claim *v1.PersistentVolumeClaim, call pastCall) secret.Refs {
	class, v := p.Migration.Class(call.class)
	if !v.Ready() {
		return secret.Refs{}
	}
	refs, _ := secret.Resolve(class, about(claim, call.request.GetName()))
	return refs
}

// lastCredentials reads the Secret for such a call. If it is gone for good, as when
// the whole namespace is deleted, the driver is called without: what is found is only
// deleted.
func (p *Provisioner) lastCredentials(ctx context.Context, call pastCall) (credentials, error) {
	with, err := p.credentialsFor(ctx, call.secret, call.today)
	with.lacking = call.lacking
	if errors.Is(err, errNoSecret) {
		with.lacking = fmt.Sprintf("Secret %q", with.ref)
		return with, nil
	}
	return with, err
}

// calls returns what was or may have been sent for the claim, in the order in which
// it is to be asked for; there is at least one. pinned is the one of them that only the
// record speaks for, nil if there is none.
//
// First comes what this process has sent. If it has sent nothing there are the source
// that is on record, if that is not today's, and the one of today. Nothing but a record
// that anybody can write speaks for the former; nor for the latter if the rules do not let
// the claim have it. Then nothing is copied before a blank volume of that name was asked
// for: a driver that holds the copy answers ALREADY_EXISTS (CSI spec, CreateVolume
// errors); else the blank one is what is found; it does not become the claim's PV.
func (p *Provisioner) calls(turn *ledger.Turn, claim *v1.PersistentVolumeClaim) (calls []pastCall, pinned *pastCall, err error) {
	today, err := p.rebuild(claim)
	last, beside := turn.Request(), turn.Beside()
	sent := pastCall{
		request: last, secret: secret.Parse(beside.Secret), today: today.secret, attributesClass: beside.AttributesClass,
		class: beside.Class, reclaimPolicy: p.reclaimPolicy(claim, today.class),
	}
	if err != nil && last != nil {
		return []pastCall{sent}, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if pinned, err = p.pinned(claim, today); err != nil {
		return nil, nil, err
	}
	add := func(call pastCall) {
		if !slices.ContainsFunc(calls, func(other pastCall) bool { return proto.Equal(call.request, other.request) }) {
			calls = append(calls, call)
		}
	}
	onlyToFindOut := last.GetVolumeContentSource() == nil && source.Of(claim).Kind != source.None
	unproven := today.request.GetVolumeContentSource() != nil && !p.Needs(claim)
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

// pinned returns the call of an earlier process with the source that is on record;
// nil if that is today's, or there is none that can be the claim's.
func (p *Provisioner) pinned(claim *v1.PersistentVolumeClaim, today pastCall) (*pastCall, error) {
	text, _ := p.Ledger.Kept(claim.UID)
	if !p.Ledger.Own(claim.UID) && record.On(p.Keys, claim) {
		text = record.Asked(p.Keys, claim).ContentSource
	}
	content, kind := record.ParseSource(text), source.Of(claim).Kind
	could := kind == source.Claim && content.GetVolume() != nil || kind == source.Snapshot && content.GetSnapshot() != nil
	if !could || proto.Equal(content, today.request.GetVolumeContentSource()) {
		return nil, nil
	}
	blank, err := p.rebuildFrom(claim, nil) // the bytes on record stand as they are
	if err != nil {
		return nil, err
	}
	copied := blank.withSource(content)
	return &copied, nil
}

// rebuild makes the call of an earlier process again, from the pinned name, bytes and
// Secret. No rule is asked about the source: with another one, or none, the
// driver would not recognise the volume. Only without its PV a blank volume is
// asked for. So it is without a VolumeAttributesClass or the
// name of a Secret that is gone.
func (p *Provisioner) rebuild(claim *v1.PersistentVolumeClaim) (pastCall, error) {
	return p.rebuildFrom(claim, source.VolumeOf(p.facts(claim, true, func(waitlist.Object) {})))
}

func (p *Provisioner) rebuildFrom(claim *v1.PersistentVolumeClaim, src *source.Volume) (pastCall, error) {
	unwatched := func(waitlist.Object) {}
	class, asked, v := p.classOf(claim, unwatched)
	if !v.Ready() {
		return pastCall{}, errors.New(v.Message)
	}
	name := p.VolumeName(claim)
	past := pastCall{class: class, reclaimPolicy: p.reclaimPolicy(claim, class)}
	attributes, v := p.attributes(claim, unwatched)
	if attributes != nil {
		past.attributesClass = attributes.Name
	} else {
		past.lacking = lacksAttributes(p.attributesOf(claim), v)
	}
	if past.request, v = p.build(claim, asked, src, attributes, name, p.whereBefore(claim, asked)); !v.Ready() {
		return pastCall{}, errors.New(v.Message)
	}
	if past.secret = p.begunWith(claim, asked, name); !past.secret.IsZero() {
		return past, nil
	}
	if past.secret, v = secret.ResolveProvisioner(asked, about(claim, name)); !v.Ready() {
		past.lacking = "the Secret of the StorageClass (" + v.Message + ")"
	}
	return past, nil
}
