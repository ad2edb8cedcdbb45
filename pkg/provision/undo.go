package provision

import (
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
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
	req := turn.Request()
	if req == nil {
		if req, err = p.rebuild(claim); err != nil {
			return "", err
		}
	}
	live, err := p.Client.CoreV1().PersistentVolumes().Get(ctx, req.GetName(), metav1.GetOptions{})
	switch {
	case err == nil && volume.Owns(live, claim, p.Driver.Name):
		turn.Saved()
		return "", nil
	case err != nil && !apierrors.IsNotFound(err):
		return "", fmt.Errorf("looking for PV %q before the volume is searched: %w", req.GetName(), err)
	}
	if turn.Handle() == "" {
		resp, err := p.call(ctx, turn, req)
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
