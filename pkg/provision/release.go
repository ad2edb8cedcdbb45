package provision

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
)

// MayRelease implements PVDeletions. It returns an error as long as the record on the PV's
// claim, or this process's memory of a call, would make a process ask the driver for the
// PV's volume again: without the PV that would bring back a volume that was deleted, or
// delete one that was retained.
func (p *Provisioner) MayRelease(ctx context.Context, name string) error {
	pv := p.Caches.PV(name)
	if pv == nil || pv.Spec.ClaimRef == nil {
		return nil
	}
	ref := pv.Spec.ClaimRef
	state, _ := p.Ledger.State(ref.UID)
	if !p.Ledger.Ask(ref.UID) || state == ledger.Unknown && p.Ledger.Asked(ref.UID) != nil {
		return fmt.Errorf("the finalizer of PV %q stays while its claim %s/%s is worked on", name, ref.Namespace, ref.Name)
	}
	// Live, because the cache may be older than the record.
	claim, err := p.Client.CoreV1().PersistentVolumeClaims(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("reading claim %s/%s before the finalizer of its PV %q is removed: %w", ref.Namespace, ref.Name, name, err)
	case record.Makes(p.Keys, claim, p.Planner.RecordedName(claim), pv):
		return fmt.Errorf("the finalizer of PV %q stays until the provisioning record is removed from its claim %s/%s", name, ref.Namespace, ref.Name)
	}
	return nil
}

// Recorded reports whether the PV is not for the engine yet, because its finalizer has to
// wait for the claim's record; see MayRelease. A released PV is: Kubernetes has read that its
// claim is gone, which the cache need not show yet.
func (p *Provisioner) Recorded(pv *v1.PersistentVolume) bool {
	claim := p.claimOf(pv)
	return pv.Status.Phase != v1.VolumeReleased && claim != nil && record.Makes(p.Keys, claim, p.Planner.RecordedName(claim), pv)
}
