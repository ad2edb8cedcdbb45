package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/volume"
)

// save writes the PV to the API server. It goes on for a while when ctx ends,
// because the volume exists; what cannot be saved by then is made again, which
// finds the same volume.
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
// earlier create took effect although its answer was lost.
func (p *Provisioner) sameAsLive(ctx context.Context, claim *v1.PersistentVolumeClaim, pv *v1.PersistentVolume) error {
	live, err := p.Client.CoreV1().PersistentVolumes().Get(ctx, pv.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("comparing with the PV %q that exists: %w", pv.Name, err)
	}
	live, pv = p.Migration.Seen(live), p.Migration.Seen(pv)
	if volume.SavedFor(live, claim, p.Driver.Name) && pv.Spec.CSI != nil && live.Spec.CSI.VolumeHandle == pv.Spec.CSI.VolumeHandle {
		return nil
	}
	return errForeignPV
}

// mayPass says whether the same request may succeed a moment later: the API
// server was not reached, was busy, or changed its mind meanwhile.
func mayPass(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return !errors.Is(err, errForeignPV)
	}
	return apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err) || apierrors.IsNotFound(err)
}
