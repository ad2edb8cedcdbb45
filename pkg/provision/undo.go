package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/secret"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/volume"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

// Undo finds out whether the driver holds a volume for a claim that nobody
// wants any more, and deletes it. nil means that nothing is left to be done:
// nothing exists, or a PV owns it. kept is not empty when a volume was left
// alone because something else uses it. The caller has the claim's turn.
//
// The claim may be gone already; then only what this process remembers counts.
func (p *Provisioner) Undo(ctx context.Context, turn *ledger.Turn, claim *v1.PersistentVolumeClaim) (kept string, err error) {
	if turn.State() != ledger.Unknown {
		return "", nil
	}
	ctx, end := observe.Span(ctx, "clean up", "persistentvolumeclaim", claim)
	defer func() { end(err) }()
	if turn.Foreign() {
		if live, err := p.confirm(ctx, turn, claim); err != nil || live == nil {
			return "", err
		}
	}
	ctx = p.counted(ctx, p.Caches.Class(source.ClassName(claim)))
	p.Fetch(ctx, claim) // if that fails, it is asked without, which proves less
	calls, _, err := p.calls(turn, claim)
	if err != nil {
		return "", err
	}
	name := calls[0].request.GetName()
	if saved, err := p.savedLive(ctx, claim, name); saved || err != nil {
		if saved {
			turn.Saved()
		}
		return "", err
	}
	with, err := p.lastCredentials(ctx, calls[0])
	if err != nil {
		return "", err
	}
	if turn.Handle() == "" || turn.Open() {
		var resp *csi.CreateVolumeResponse
		resp, with, err = p.search(ctx, turn, calls, with)
		switch {
		case err != nil && turn.State() == ledger.Clean:
			return "", nil
		case err != nil && turn.HalfProven():
			return "", fmt.Errorf("%w: %w", ledger.ErrHalfProven, err)
		case err != nil:
			return "", err
		case resp.GetVolume().GetVolumeId() == "":
			return "", volume.ErrNoVolume
		}
	}
	handle := turn.Handle()
	if kept, err = p.remove(ctx, claim, name, handle, with); err != nil || kept != "" {
		return kept, err
	}
	turn.Removed()
	p.Figures.CleanedUp()
	klog.FromContext(ctx).Info("Volume of a deleted claim cleaned up", "volumeID", handle)
	return "", nil
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
	// lacking says what the request could not be made with again; see credentials.
	lacking string
}

func (c pastCall) pins() record.Pins {
	pins := record.Of(c.request)
	pins.Secret = c.secret.String()
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
// credentials for the first one; those of the last one are returned.
func (p *Provisioner) search(ctx context.Context, turn *ledger.Turn, calls []pastCall, with credentials) (*csi.CreateVolumeResponse, credentials, error) {
	var err error
	for i, call := range calls {
		if i > 0 {
			if with, err = p.lastCredentials(ctx, call); err != nil {
				return nil, with, err
			}
		}
		attempted := turn.Repeatable()
		var resp *csi.CreateVolumeResponse
		resp, err = p.call(ctx, turn, call.request, with, call.attributesClass)
		if call.request != attempted {
			turn.Sought()
		}
		answer := csidriver.Meaning(err)
		if differs := answer == ledger.Differs || i > 0 && answer == ledger.Absent; !differs {
			return resp, with, err
		}
	}
	return nil, with, err
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
// errors); else the blank one is what is found, and deleted.
func (p *Provisioner) calls(turn *ledger.Turn, claim *v1.PersistentVolumeClaim) (calls []pastCall, pinned *pastCall, err error) {
	today, err := p.rebuild(claim)
	last := turn.Request()
	sent := pastCall{
		request: last, secret: secret.Parse(turn.Beside().Secret), today: today.secret, attributesClass: turn.Beside().AttributesClass,
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
// asked for: the result is only deleted. So it is without a VolumeAttributesClass or the
// name of a Secret that is gone.
func (p *Provisioner) rebuild(claim *v1.PersistentVolumeClaim) (pastCall, error) {
	return p.rebuildFrom(claim, source.VolumeOf(p.facts(claim, true, func(waitlist.Object) {})))
}

func (p *Provisioner) rebuildFrom(claim *v1.PersistentVolumeClaim, src *source.Volume) (pastCall, error) {
	unwatched := func(waitlist.Object) {}
	_, class, v := p.classOf(claim, unwatched)
	if !v.Ready() {
		return pastCall{}, errors.New(v.Message)
	}
	name := p.VolumeName(claim)
	var past pastCall
	attributes, v := p.attributes(claim, unwatched)
	if attributes != nil {
		past.attributesClass = attributes.Name
	} else {
		past.lacking = lacksAttributes(p.attributesOf(claim), v)
	}
	if past.request, v = p.build(claim, class, src, attributes, name, p.whereBefore(claim, class)); !v.Ready() {
		return pastCall{}, errors.New(v.Message)
	}
	if past.secret = p.begunWith(claim, class, name); !past.secret.IsZero() {
		return past, nil
	}
	if past.secret, v = secret.ResolveProvisioner(class, about(claim, name)); !v.Ready() {
		past.lacking = "the Secret of the StorageClass (" + v.Message + ")"
	}
	return past, nil
}
