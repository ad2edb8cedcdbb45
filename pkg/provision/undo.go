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
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
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
	if turn.Foreign() {
		if live, err := p.confirm(ctx, turn, claim); err != nil || live == nil {
			return "", err
		}
	}
	reqs, _, err := p.requests(turn, claim)
	if err != nil {
		return "", err
	}
	req := reqs[0]
	live, err := p.Client.CoreV1().PersistentVolumes().Get(ctx, req.GetName(), metav1.GetOptions{})
	switch {
	case err == nil && volume.Owns(live, claim, p.Driver.Name):
		turn.Saved()
		return "", nil
	case err != nil && !apierrors.IsNotFound(err):
		return "", fmt.Errorf("looking for PV %q before the volume is searched: %w", req.GetName(), err)
	}
	if turn.Handle() == "" || turn.Open() {
		resp, err := p.search(ctx, turn, reqs)
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
	if kept, err = p.remove(ctx, claim, req.GetName(), handle); err != nil || kept != "" {
		return kept, err
	}
	turn.Removed()
	klog.FromContext(ctx).Info("Volume of a deleted claim cleaned up", "claim", klog.KObj(claim), "volumeID", handle)
	return "", nil
}

// UndoPins returns what the record is to say while Undo asks the driver.
func (p *Provisioner) UndoPins(turn *ledger.Turn, claim *v1.PersistentVolumeClaim) (record.Pins, error) {
	reqs, pinned, err := p.requests(turn, claim)
	switch {
	case err != nil:
		return record.Pins{}, err
	case pinned != nil:
		return record.Of(pinned), nil // it may be what was made: whoever comes next must know
	}
	// A blank volume is only asked for before a copy.
	for _, req := range reqs {
		if req.GetVolumeContentSource() != nil {
			return record.Of(req), nil
		}
	}
	return record.Of(reqs[0]), nil
}

// search asks for the volume, to learn of it, with one request after another: the next
// one only if the driver has said that something else exists under the name.
func (p *Provisioner) search(ctx context.Context, turn *ledger.Turn, reqs []*csi.CreateVolumeRequest) (resp *csi.CreateVolumeResponse, err error) {
	for i, req := range reqs {
		attempted := turn.Repeatable()
		resp, err = p.call(ctx, turn, req)
		if req != attempted {
			turn.Sought()
		}
		answer := csidriver.Meaning(err)
		if differs := answer == ledger.Differs || i > 0 && answer == ledger.Absent; !differs {
			return resp, err
		}
	}
	return nil, err
}

// requests returns what was or may have been sent for the claim, in the order in which
// it is to be asked for; there is at least one. pinned is the one of them that only the
// record speaks for, nil if there is none.
//
// First comes what this process has sent. If it has sent nothing there are the source
// that is on record, if that is not today's, and the one of today. Nothing but a record
// that anybody can write speaks for the former; nor for the latter if the rules do not let
// the claim have it. Then nothing is copied before a blank volume of that name was asked
// for: a driver that holds the copy answers ALREADY_EXISTS (CSI spec, CreateVolume
// errors); else the blank one is what is found, and deleted.
func (p *Provisioner) requests(turn *ledger.Turn, claim *v1.PersistentVolumeClaim) (reqs []*csi.CreateVolumeRequest, pinned *csi.CreateVolumeRequest, err error) {
	last := turn.Request()
	sent := last
	if last.GetVolumeContentSource() == nil && source.Of(claim).Kind != source.None {
		sent = nil // that was only to find out
	}
	today, err := p.rebuild(claim)
	if err != nil && last != nil {
		return []*csi.CreateVolumeRequest{last}, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if pinned, err = p.pinned(claim, today); err != nil {
		return nil, nil, err
	}
	add := func(req *csi.CreateVolumeRequest) {
		if req != nil && !slices.ContainsFunc(reqs, func(other *csi.CreateVolumeRequest) bool { return proto.Equal(req, other) }) {
			reqs = append(reqs, req)
		}
	}
	unproven := today.GetVolumeContentSource() != nil && !p.Needs(claim)
	switch {
	case sent != nil:
		add(sent)
	case pinned != nil:
		add(withSource(pinned, nil))
	case unproven, last != nil:
		add(withSource(today, nil))
	}
	add(pinned)
	add(today)
	return reqs, pinned, nil
}

// pinned returns the request of an earlier process with the source that is on record;
// nil if that is today's, or there is none that can be the claim's.
func (p *Provisioner) pinned(claim *v1.PersistentVolumeClaim, today *csi.CreateVolumeRequest) (*csi.CreateVolumeRequest, error) {
	text, _ := p.Ledger.Kept(claim.UID)
	if !p.Ledger.Own(claim.UID) && record.On(p.Keys, claim) {
		text = record.Asked(p.Keys, claim).ContentSource
	}
	content, kind := record.ParseSource(text), source.Of(claim).Kind
	could := kind == source.Claim && content.GetVolume() != nil || kind == source.Snapshot && content.GetSnapshot() != nil
	if !could || proto.Equal(content, today.GetVolumeContentSource()) {
		return nil, nil
	}
	blank, err := p.rebuildFrom(claim, nil) // the bytes on record stand as they are
	if err != nil {
		return nil, err
	}
	return withSource(blank, content), nil
}

// withSource returns the same request for a copy of something else.
func withSource(req *csi.CreateVolumeRequest, content *csi.VolumeContentSource) *csi.CreateVolumeRequest {
	other := proto.CloneOf(req)
	other.VolumeContentSource = content
	return other
}

// rebuild makes the request of an earlier process again, from the pinned name
// and bytes. No rule is asked about the source: with another one, or none, the
// driver would not recognise the volume. Only without its PV a blank volume is
// asked for: the result is only deleted.
func (p *Provisioner) rebuild(claim *v1.PersistentVolumeClaim) (*csi.CreateVolumeRequest, error) {
	return p.rebuildFrom(claim, source.VolumeOf(p.facts(claim, true, func(waitlist.Object) {})))
}

func (p *Provisioner) rebuildFrom(claim *v1.PersistentVolumeClaim, src *source.Volume) (*csi.CreateVolumeRequest, error) {
	class, v := p.classOf(claim, func(waitlist.Object) {})
	if !v.Ready() {
		return nil, errors.New(v.Message)
	}
	req, v := p.build(claim, class, src, p.VolumeName(claim))
	if !v.Ready() {
		return nil, errors.New(v.Message)
	}
	return req, nil
}
