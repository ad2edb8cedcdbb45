package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/planner"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/volume"
)

// unusableError is the error of a volume of which no PV can be made: the driver's reply
// breaks the CSI contract, or the PV cannot be translated for an in-tree plugin.
type unusableError struct{ error }

// Unwrap implements the interface of package errors.
func (e unusableError) Unwrap() error { return e.error }

// savePV saves the PV of a volume that the driver has made, also if the claim was deleted,
// or bound to another PV, meanwhile: Kubernetes then reclaims the volume by its reclaim
// policy. The error is an unusableError if there can be no PV, volume.ErrNoVolume if there
// is no volume.
func (p *Provisioner) savePV(ctx context.Context, turn *ledger.Turn, in volume.Input, with planner.Credentials) (*v1.PersistentVolume, error) {
	in.Driver, in.Identity, in.PublishReadOnly, in.Topology = p.Driver.Name, p.Identity, p.PublishReadOnly, p.Planner.Places != nil
	in.Secrets.Provisioner = with.Ref
	if err := volume.Check(in.Request, in.Response); errors.Is(err, volume.ErrNoVolume) {
		return nil, err
	} else if err != nil {
		return nil, unusableError{err}
	}
	built := volume.Build(in)
	pv, err := p.asSaved(in.Class, built)
	if err != nil {
		return nil, unusableError{err}
	}
	wanted := p.mayBind(in.Claim)
	if err := p.save(ctx, in.Claim, pv); err != nil {
		return nil, err
	}
	turn.Saved()
	p.changed(in.Class.Name, topology.Of(built))
	klog.FromContext(ctx).V(2).Info("Volume provisioned", "pv", klog.KObj(pv), "volumeID", in.Handle(), "claimWanted", wanted)
	if !wanted {
		p.Figures.CleanedUp()
		p.eventRetained(in, pv.Name)
	}
	return pv, nil
}

// asSaved returns the PV in the form in which it is saved: for a class of the in-tree plugin
// that the driver took over, that of the plugin's PVs.
func (p *Provisioner) asSaved(class *storagev1.StorageClass, pv *v1.PersistentVolume) (*v1.PersistentVolume, error) {
	if !p.Migration.Is(class.Provisioner) {
		return pv, nil
	}
	return p.Migration.FromCSI(pv)
}

// mayBind reports whether the claim waits for a PV, as far as the cache shows: a PV that is
// saved for it now is bound to it.
func (p *Provisioner) mayBind(claim *v1.PersistentVolumeClaim) bool {
	cached := p.Caches.Claim(claim.Namespace, claim.Name)
	return cached != nil && cached.UID == claim.UID && cached.DeletionTimestamp == nil && cached.Spec.VolumeName == ""
}

// save creates the PV. It continues for saveTimeout when ctx ends, because the volume exists. If the
// PV cannot be saved by then, the next attempt finds the same volume.
func (p *Provisioner) save(ctx context.Context, claim *v1.PersistentVolumeClaim, pv *v1.PersistentVolume) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	backoff := wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Steps: 6}
	var last error
	err := wait.ExponentialBackoffWithContext(ctx, backoff, func(ctx context.Context) (bool, error) {
		_, last = p.Client.CoreV1().PersistentVolumes().Create(ctx, pv, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(last) {
			last = p.sameAsLive(ctx, claim, pv)
		}
		if last == nil || mayPass(last) {
			return last == nil, nil
		}
		return false, last
	})
	if err == nil {
		return nil
	}
	if last == nil {
		last = err
	}
	return fmt.Errorf("the volume exists, but its PV %q could not be saved (tried again by itself): %w", pv.Name, last)
}

// errForeignPV: a PV of our name exists that is not ours.
var errForeignPV = errors.New("a PV of that name exists and is not the one to be saved; remove it, or use a longer --volume-name-uuid-length")

// sameAsLive returns nil if the live PV is the one that was to be saved: an
// earlier create took effect although its answer was lost. For a claim that does not want
// the volume any PV of that name is, if it has the volume.
func (p *Provisioner) sameAsLive(ctx context.Context, claim *v1.PersistentVolumeClaim, pv *v1.PersistentVolume) error {
	live, err := p.Client.CoreV1().PersistentVolumes().Get(ctx, pv.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("comparing with the PV %q that exists: %w", pv.Name, err)
	}
	live, pv = p.Migration.Seen(live), p.Migration.Seen(pv)
	same := live.Spec.CSI != nil && pv.Spec.CSI != nil && live.Spec.CSI.Driver == p.Driver.Name && live.Spec.CSI.VolumeHandle == pv.Spec.CSI.VolumeHandle
	if same && (volume.SavedFor(live, claim, p.Driver.Name) || !p.mayBind(claim)) {
		return nil
	}
	return errForeignPV
}

// mayPass reports whether the same request may succeed a moment later: the API
// server was not reached, was busy, or changed its mind meanwhile.
func mayPass(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return !errors.Is(err, errForeignPV)
	}
	return apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err) || apierrors.IsNotFound(err)
}
