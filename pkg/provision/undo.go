package provision

import (
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

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
	req, unproven, err := p.lastRequest(turn, claim)
	if err != nil {
		return "", err
	}
	live, err := p.Client.CoreV1().PersistentVolumes().Get(ctx, req.GetName(), metav1.GetOptions{})
	switch {
	case err == nil && volume.Owns(live, claim, p.Driver.Name):
		turn.Saved()
		return "", nil
	case err != nil && !apierrors.IsNotFound(err):
		return "", fmt.Errorf("looking for PV %q before the volume is searched: %w", req.GetName(), err)
	}
	if turn.Handle() == "" || turn.Open() {
		resp, err := p.search(ctx, turn, req, unproven)
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

// UndoPins returns name and bytes of what Undo will ask the driver for.
func (p *Provisioner) UndoPins(turn *ledger.Turn, claim *v1.PersistentVolumeClaim) (record.Pins, error) {
	req, _, err := p.lastRequest(turn, claim)
	if err != nil {
		return record.Pins{}, err
	}
	return record.Pins{VolumeName: req.GetName(), RequiredBytes: req.GetCapacityRange().GetRequiredBytes()}, nil
}

// lastRequest returns the request that was or may have been sent for the claim.
// unproven is for search.
func (p *Provisioner) lastRequest(turn *ledger.Turn, claim *v1.PersistentVolumeClaim) (req *csi.CreateVolumeRequest, unproven bool, err error) {
	req = turn.Request()
	unproven = source.Of(claim).Kind == source.Claim && !p.Needs(claim)
	switch {
	case req == nil, unproven && req.GetVolumeContentSource() == nil:
		req, err = p.rebuild(claim)
		return req, unproven, err
	case turn.Differs(): // see attempt
		if today, err := p.rebuild(claim); err == nil {
			return today, unproven, nil
		}
	}
	return req, false, nil // this process has sent it already
}

// search repeats the request, to learn of the volume. unproven says that nothing but
// a record that anybody can write speaks for a copy of the source, which the rules do
// not let the claim have: then nothing is copied before a blank volume of that name was
// asked for. A driver that holds the copy answers ALREADY_EXISTS (CSI spec, CreateVolume
// errors); else the blank one is what is found, and deleted.
func (p *Provisioner) search(ctx context.Context, turn *ledger.Turn, req *csi.CreateVolumeRequest, unproven bool) (*csi.CreateVolumeResponse, error) {
	if unproven && req.GetVolumeContentSource() != nil {
		blank, ok := proto.Clone(req).(*csi.CreateVolumeRequest)
		if !ok {
			return nil, fmt.Errorf("copying a %T", req) // never: a clone is of its type
		}
		blank.VolumeContentSource = nil
		resp, err := p.call(ctx, turn, blank)
		if status.Code(err) != codes.AlreadyExists {
			return resp, err
		}
	}
	return p.call(ctx, turn, req)
}

// rebuild makes the request of an earlier process again, from the pinned name
// and bytes. No rule is asked about the source: with another one, or none, the
// driver would not recognise the volume. Only without its PV a blank volume is
// asked for: the result is only deleted.
func (p *Provisioner) rebuild(claim *v1.PersistentVolumeClaim) (*csi.CreateVolumeRequest, error) {
	unwatched := func(waitlist.Object) {}
	class, v := p.classOf(claim, unwatched)
	if !v.Ready() {
		return nil, errors.New(v.Message)
	}
	src := source.VolumeOf(p.facts(claim, true, unwatched))
	req, v := p.build(claim, class, src, p.VolumeName(claim))
	if !v.Ready() {
		return nil, errors.New(v.Message)
	}
	return req, nil
}
