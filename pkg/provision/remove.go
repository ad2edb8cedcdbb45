package provision

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/planner"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/volume"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// keptError is the result of remove if the volume must not be deleted.
type keptError struct{ reason string }

// Error implements error.
func (e keptError) Error() string { return e.reason }

// remove deletes a volume for which no PV can be saved. The error is a keptError if it must not be.
// A volume is deleted only if its reclaim policy is Delete, the API server has no PV of its
// name that could be its own, no PV has its handle, and no other claim on record that wants
// a volume has its name (docs/reliability.md, "The reclaim policy").
func (p *Provisioner) remove(ctx context.Context, in volume.Input, with planner.Credentials) error {
	if in.ReclaimPolicy != v1.PersistentVolumeReclaimDelete {
		return keptError{fmt.Sprintf("its reclaim policy is %s", in.ReclaimPolicy)}
	}
	claim, name, handle := in.Claim, in.Request.GetName(), in.Handle()
	live, err := p.Client.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil && p.mayUse(live, handle):
		return keptError{fmt.Sprintf("PV %q exists", name)}
	case err != nil && !apierrors.IsNotFound(err):
		return fmt.Errorf("looking for PV %q before its volume is deleted: %w", name, err)
	}
	for _, pv := range p.Caches.PVsPerhapsOfHandle(handle) {
		return keptError{fmt.Sprintf("PV %q uses volume %q", pv.Name, handle)}
	}
	if other := p.nameUser(claim, name); other != "" {
		return keptError{other}
	}
	if err := p.Driver.DeleteVolume(ctx, handle, with.Values); err != nil {
		return with.Explain(err)
	}
	p.changed(source.ClassName(claim), nil)
	return nil
}

// nameUser says which other claim on record wants a volume of that name; "" if none does.
// One that is not wanted cleans up, too: each would keep the volume for the other.
func (p *Provisioner) nameUser(claim *v1.PersistentVolumeClaim, name string) string {
	for _, other := range p.Caches.ClaimsOfVolumeName(name) {
		if other.UID != claim.UID && other.DeletionTimestamp == nil && other.Spec.VolumeName == "" {
			return fmt.Sprintf("claim %s/%s is being provisioned under the same volume name %q", other.Namespace, other.Name, name)
		}
	}
	return ""
}

// mayUse reports whether a PV with the volume's name may have the volume: not if it has another
// volume, or belongs to another driver, because then it only has the name. A provisioned PV that is
// not a CSI volume may have it: translated back, it may have another handle than the driver gave.
func (p *Provisioner) mayUse(pv *v1.PersistentVolume, handle string) bool {
	if pv.Spec.CSI == nil && pv.Annotations[wellknown.ProvisionedBy] != "" {
		return true
	}
	if pv = p.Migration.Seen(pv); pv.Spec.CSI == nil {
		return false
	}
	return pv.Spec.CSI.Driver == p.Driver.Name && pv.Spec.CSI.VolumeHandle == handle
}
