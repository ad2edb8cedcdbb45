package provision

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
)

// remove deletes a volume that has no PV, unless something else uses it; then
// kept says what. No live volume is ever deleted: a live look finds no PV of
// that name with the volume (one with another volume has taken the name, and nobody
// would look for this one again), no PV has the handle, and no other claim on record has the name
// (design, "Every direct DeleteVolume").
func (p *Provisioner) remove(ctx context.Context, claim *v1.PersistentVolumeClaim, name, handle string) (kept string, err error) {
	live, err := p.Client.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil && live.Spec.CSI != nil && live.Spec.CSI.Driver == p.Driver.Name && live.Spec.CSI.VolumeHandle == handle:
		return fmt.Sprintf("PV %q exists", name), nil
	case err != nil && !apierrors.IsNotFound(err):
		return "", fmt.Errorf("looking for PV %q before its volume is deleted: %w", name, err)
	}
	for _, pv := range p.Caches.PVsOfHandle(handle) {
		return fmt.Sprintf("PV %q uses volume %q", pv.Name, handle), nil
	}
	for _, other := range p.Caches.ClaimsOfVolumeName(name) {
		if other.UID != claim.UID {
			return fmt.Sprintf("claim %s/%s is being provisioned under the same volume name %q", other.Namespace, other.Name, name), nil
		}
	}
	if err := p.Driver.DeleteVolume(ctx, handle); err != nil {
		return "", csidriver.Explain(p.Driver.Name, "DeleteVolume", handle, err)
	}
	return "", nil
}
