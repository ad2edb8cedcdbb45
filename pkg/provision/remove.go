package provision

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// remove deletes a volume that has no PV, unless something else uses it; then
// kept says what. No live volume is ever deleted: a live look finds no PV of that
// name that could be this volume's, no PV has the handle, and no other claim on record
// that wants a volume has the name (design, "Every direct DeleteVolume").
func (p *Provisioner) remove(ctx context.Context, claim *v1.PersistentVolumeClaim, name, handle string, with credentials) (kept string, err error) {
	live, err := p.Client.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil && p.mayUse(live, handle):
		return fmt.Sprintf("PV %q exists", name), nil
	case err != nil && !apierrors.IsNotFound(err):
		return "", fmt.Errorf("looking for PV %q before its volume is deleted: %w", name, err)
	}
	for _, pv := range p.Caches.PVsPerhapsOfHandle(handle) {
		return fmt.Sprintf("PV %q uses volume %q", pv.Name, handle), nil
	}
	for _, other := range p.Caches.ClaimsOfVolumeName(name) {
		// One that is not wanted, either, cleans up itself: each would keep the volume
		// for the other.
		if wanted := other.DeletionTimestamp == nil && other.Spec.VolumeName == ""; wanted && other.UID != claim.UID {
			return fmt.Sprintf("claim %s/%s is being provisioned under the same volume name %q", other.Namespace, other.Name, name), nil
		}
	}
	if err := p.Driver.DeleteVolume(ctx, handle, with.values); err != nil {
		return "", with.explain(csidriver.Explain(p.Driver.Name, "DeleteVolume", handle, err))
	}
	p.changed(source.ClassName(claim), nil)
	return "", nil
}

// mayUse says whether a PV that has the volume's name may have the volume, too: not if
// it has another volume of the driver, or is of another driver. Then it has taken the
// name, and nobody would look for the volume again. Of a PV that is none of CSI but was
// provisioned nobody here can say what its volume is: read back, it may have another
// handle than the driver gave.
func (p *Provisioner) mayUse(pv *v1.PersistentVolume, handle string) bool {
	if pv.Spec.CSI == nil && pv.Annotations[wellknown.ProvisionedBy] != "" {
		return true
	}
	if pv = p.Migration.Seen(pv); pv.Spec.CSI == nil {
		return false
	}
	return pv.Spec.CSI.Driver == p.Driver.Name && pv.Spec.CSI.VolumeHandle == handle
}
