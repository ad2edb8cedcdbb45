package chaos

import (
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
)

// pvFinalizer is the provisioner's finalizer on PVs, written out: its name is a promise.
const pvFinalizer = "external-provisioner.volume.kubernetes.io/finalizer"

// promise is what must become of one volume that the driver has made.
type promise struct {
	// name of the volume.
	name string
	// retained: the volume must exist, and its PV must have the reclaim policy Retain.
	retained bool
	// mayStay: the volume may exist when its claim is gone. It does if it is retained.
	mayStay bool
	// withoutPV is the reason why the volume may exist without a PV; "" if it may not.
	withoutPV string
	// deleted is when a provisioner had the volume deleted; zero if never.
	deleted time.Time
	// recreated is the handle of the volume of the same name that an administrator has deleted;
	// "" if there is none.
	recreated string
}

// usedPVs returns the names of the PVs that claims are bound to, or will be bound to.
func (s scene) usedPVs() map[string]bool {
	used := map[string]bool{}
	for i := range s.claims {
		used[s.claims[i].Spec.VolumeName] = true
	}
	return used
}

// existing returns the handles that the driver has.
func (s scene) existing() map[string]bool {
	exists := map[string]bool{}
	for _, volume := range s.volumes {
		exists[volume.ID] = true
	}
	return exists
}

// leaks returns the PVs without a claim, the PVs without a volume, and the volumes without a
// PV. What must be retained is the matter of notRetained.
func (s scene) leaks() []string {
	var leaks []string
	used, exists, known := s.usedPVs(), s.existing(), map[string]bool{}
	for _, pv := range s.pvs {
		handle := pv.Spec.CSI.VolumeHandle
		p := s.promises[handle]
		known[handle] = true
		switch {
		case !used[pv.Name] && (!isRetained(pv) || !p.mayStay):
			leaks = append(leaks, fmt.Sprintf("PV %s (%s, %s) with volume %q is left though its claim is gone: finalizers %v",
				pv.Name, pv.Status.Phase, pv.Spec.PersistentVolumeReclaimPolicy, handle, pv.Finalizers))
		case !exists[handle] && !p.retained:
			leaks = append(leaks, fmt.Sprintf("PV %s (%s) has no volume: the driver knows no %q",
				pv.Name, pv.Status.Phase, handle))
		}
	}
	for _, volume := range s.volumes {
		if p := s.promises[volume.ID]; !known[volume.ID] && p.withoutPV == "" && !p.retained {
			leaks = append(leaks, describe(volume))
		}
	}
	slices.Sort(leaks)
	return leaks
}

// notRetained returns what is wrong with volumes that must be retained.
func (s scene) notRetained() []string {
	var wrong []string
	exists, pvs := s.existing(), map[string]*v1.PersistentVolume{}
	for _, pv := range s.pvs {
		pvs[pv.Spec.CSI.VolumeHandle] = pv
	}
	for handle, p := range s.promises {
		who := fmt.Sprintf("volume %q (name %q)", handle, p.name)
		pv := pvs[handle]
		switch {
		case exists[handle] && p.recreated != "" && p.withoutPV == "":
			wrong = append(wrong, fmt.Sprintf("%s was created after an administrator had deleted %q", who, p.recreated))
		case !p.retained:
		case !exists[handle]:
			wrong = append(wrong, fmt.Sprintf("retained %s was deleted: %s", who, p.deletion()))
		case pv == nil && p.withoutPV == "":
			wrong = append(wrong, fmt.Sprintf("retained %s has no PV", who))
		case pv != nil && !isRetained(pv):
			wrong = append(wrong, fmt.Sprintf("retained %s has PV %s with the reclaim policy %s",
				who, pv.Name, pv.Spec.PersistentVolumeReclaimPolicy))
		}
	}
	slices.Sort(wrong)
	return wrong
}

// deletion says when the volume was deleted.
func (p promise) deletion() string {
	if p.deleted.IsZero() {
		return "no call of DeleteVolume for it has succeeded"
	}
	return "DeleteVolume succeeded at " + p.deleted.Format("15:04:05.000")
}

// strandedPVs returns the retained PVs without a claim that are not Released, are being
// deleted, or still have the provisioner's finalizer.
func (s scene) strandedPVs() []string {
	var stranded []string
	used := s.usedPVs()
	for _, pv := range s.pvs {
		if used[pv.Name] || !isRetained(pv) || !s.promises[pv.Spec.CSI.VolumeHandle].mayStay {
			continue
		}
		// Kubernetes clears the uid if the claim was bound to another PV; the PV is then Available.
		unbound := pv.Status.Phase == v1.VolumeAvailable && pv.Spec.ClaimRef != nil && pv.Spec.ClaimRef.UID == ""
		switch {
		case slices.Contains(pv.Finalizers, pvFinalizer):
			stranded = append(stranded, fmt.Sprintf("PV %s (%s) is retained and still has the finalizer %s",
				pv.Name, pv.Status.Phase, pvFinalizer))
		case pv.DeletionTimestamp != nil:
			stranded = append(stranded, fmt.Sprintf("PV %s is deleted, but not gone: finalizers %v", pv.Name, pv.Finalizers))
		case pv.Status.Phase != v1.VolumeReleased && !unbound:
			stranded = append(stranded, fmt.Sprintf("PV %s is retained and %s, not Released", pv.Name, pv.Status.Phase))
		}
	}
	slices.Sort(stranded)
	return stranded
}

func isRetained(pv *v1.PersistentVolume) bool {
	return pv.Spec.PersistentVolumeReclaimPolicy == v1.PersistentVolumeReclaimRetain
}
