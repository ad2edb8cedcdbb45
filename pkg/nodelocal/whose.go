package nodelocal

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Elsewhere says whether a claim is for the provisioner of another node: that one is
// chosen, or has it on record. Whoever has a claim on record owns the work, whichever node
// is chosen meanwhile, so the others wait until the record is off.
func Elsewhere(claim *v1.PersistentVolumeClaim, node string, keys wellknown.Record) bool {
	if chosen := claim.Annotations[wellknown.SelectedNode]; chosen != "" && chosen != node {
		return true
	}
	return !slices.Contains(claim.Finalizers, keys.Finalizer) && keys.Other(claim.Finalizers) != ""
}

// Open says whether no node is chosen for a claim that is not Elsewhere, so that the nodes
// compete for it. They do not with delayed binding, where the scheduler chooses. compete:
// --node-deployment-immediate-binding; without it the verdict is Refuse. class is nil if
// there is none of that name.
func Open(claim *v1.PersistentVolumeClaim, class *storagev1.StorageClass, keys wellknown.Record, compete bool) (bool, verdict.Verdict) {
	chosen, recorded := claim.Annotations[wellknown.SelectedNode] != "", slices.Contains(claim.Finalizers, keys.Finalizer)
	if chosen || recorded || class != nil && delayed(class) {
		return false, verdict.Verdict{}
	}
	if !compete {
		return true, verdict.Refused(verdict.NotForNodes,
			"the claim binds immediately, and the driver's provisioners, one on each node, leave such claims alone (--node-deployment-immediate-binding=false); use a StorageClass with volumeBindingMode: WaitForFirstConsumer")
	}
	return true, verdict.Verdict{}
}

func delayed(class *storagev1.StorageClass) bool {
	return class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}
