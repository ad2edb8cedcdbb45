package source

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// judgeClone asks the rules in the order in which a person would mend them:
// what the claim says, what the driver can do, what the source is.
func judgeClone(f Facts, ref Ref) (*Volume, verdict.Verdict) {
	rules := []func(Facts, Ref) verdict.Verdict{
		ofItself, cloneCapability, // rule 1
		otherNamespace, sourceExists, // rule 2: who may not clone it does not learn whether it exists
		sourceNotDeleting, sourceBound, volumeOfDriver, pointAtEachOther, // rules 4 and 3
		sameClass, sameMode, bigEnough, // rules 5, 7 and 8
	}
	for _, rule := range rules {
		if v := rule(f, ref); !v.Ready() {
			return nil, v
		}
	}
	return VolumeOf(f), verdict.Verdict{}
}

func ofItself(f Facts, ref Ref) verdict.Verdict {
	if ref.Name != f.Claim.Name || ref.Namespace != f.Claim.Namespace {
		return verdict.Verdict{}
	}
	return verdict.Refused(verdict.CloneOfItself,
		"claim %q names itself as its source; create it again with the name of another PVC in spec.dataSource", ref.Name)
}

func cloneCapability(f Facts, _ Ref) verdict.Verdict {
	if f.CanClone {
		return verdict.Verdict{}
	}
	return verdict.Refused(verdict.CloneNotSupported,
		"driver %q cannot clone (no CLONE_VOLUME capability); create the claim again without spec.dataSource and copy the data, or use a driver that clones", f.Driver)
}

// otherNamespace is the second half of rule 2 (Kubernetes, "Cross namespace data
// sources").
func otherNamespace(f Facts, ref Ref) verdict.Verdict {
	switch {
	case ref.Namespace == f.Claim.Namespace:
		return verdict.Verdict{}
	case !f.OtherNamespaces:
		return verdict.Refused(verdict.CloneNamespace,
			"%s %q is in another namespace, and this provisioner runs without --feature-gates=CrossNamespaceVolumeDataSource=true; create the claim again with a source in its own namespace", ref.what("source PVC"), ref.Shown)
	case f.Recorded, Granted(f.Grants, f.Claim.Namespace, ref):
		return verdict.Verdict{}
	}
	return verdict.Waiting(verdict.CloneNotGranted,
		"%s waits for permission: no ReferenceGrant in namespace %q lets PersistentVolumeClaims of namespace %q use %s %q; it starts by itself when one does",
		ref.work(), ref.Namespace, f.Claim.Namespace, ref.what("PVC"), ref.Name)
}

func sourceExists(f Facts, ref Ref) verdict.Verdict {
	if f.Source != nil {
		return verdict.Verdict{}
	}
	return verdict.Waiting(verdict.CloneSourceNotFound,
		"clone waits for source PVC %q, which does not exist; it starts by itself when that PVC is there and bound", ref.Shown)
}

// sourceNotDeleting is rule 4. A clone on record goes on: our finalizer keeps
// the source until it is through. So does one that an earlier process may have
// begun: it is older than the deletion, and the source is still protected.
func sourceNotDeleting(f Facts, ref Ref) verdict.Verdict {
	deleted := f.Source.DeletionTimestamp
	isProtected := slices.Contains(f.Source.Finalizers, wellknown.CloningProtection)
	if f.Recorded || deleted == nil || !f.LetGo && isProtected && begunBefore(f, deleted.Time) {
		return verdict.Verdict{}
	}
	return verdict.Refused(verdict.CloneSourceDeleting,
		"cannot clone source PVC %q: it is being deleted; create the claim again with another source", ref.Shown)
}

// begunBefore is asked of a source that was protected, by us or by the incumbent (which
// keeps no record of a clone that it has begun), when it was deleted: the clone was
// there already. The API's times have whole seconds: if both are the same a record tips
// the scales.
func begunBefore(f Facts, deleted time.Time) bool {
	created := f.Claim.CreationTimestamp.Time
	return created.Before(deleted) || f.Found && created.Equal(deleted)
}

func sourceBound(f Facts, ref Ref) verdict.Verdict {
	switch {
	case f.Source.Status.Phase == v1.ClaimLost:
		if f.SourcePV != nil { // the PV controller calls it Lost, too
			if v := pointAtEachOther(f, ref); v.Kind == verdict.Refuse {
				return v
			}
		}
		return verdict.Refused(verdict.CloneSourceUnusable,
			"cannot clone source PVC %q: it is Lost, its PV %q is gone; create the claim again with another source", ref.Shown, f.Source.Spec.VolumeName)
	case f.Source.Status.Phase == v1.ClaimBound && f.Source.Spec.VolumeName == "":
		return verdict.Waiting(verdict.CloneSourceNotBound,
			"clone waits until source PVC %q names its PV (spec.volumeName is empty although it is Bound); it then starts by itself", ref.Shown)
	case f.Source.Status.Phase != v1.ClaimBound:
		phase := f.Source.Status.Phase
		if phase == "" {
			phase = v1.ClaimPending
		}
		return verdict.Waiting(verdict.CloneSourceNotBound,
			"clone waits until source PVC %q is bound (it is %s); it then starts by itself", ref.Shown, phase)
	case f.SourcePV == nil:
		return verdict.Waiting(verdict.CloneSourceNotBound,
			"clone waits for PV %q of source PVC %q, which does not exist; it starts by itself when that PV is there", f.Source.Spec.VolumeName, ref.Shown)
	}
	return verdict.Verdict{}
}

func volumeOfDriver(f Facts, ref Ref) verdict.Verdict {
	switch csi := f.SourcePV.Spec.CSI; {
	case csi == nil:
		return verdict.Refused(verdict.CloneSourceUnusable,
			"cannot clone source PVC %q: its PV %q is not a CSI volume; create the claim again with a source provisioned by driver %q", ref.Shown, f.SourcePV.Name, f.Driver)
	case csi.Driver != f.Driver:
		return verdict.Refused(verdict.CloneSourceUnusable,
			"cannot clone source PVC %q: its PV %q belongs to driver %q, this claim's class to driver %q; use a class of the source's driver", ref.Shown, f.SourcePV.Name, csi.Driver, f.Driver)
	}
	return verdict.Verdict{}
}

func pointAtEachOther(f Facts, ref Ref) verdict.Verdict {
	switch back := f.SourcePV.Spec.ClaimRef; {
	case back == nil || back.UID == "":
		return verdict.Waiting(verdict.CloneSourceNotBound,
			"clone waits until PV %q is bound to source PVC %q; it then starts by itself", f.SourcePV.Name, ref.Shown)
	case back.UID != f.Source.UID || back.Name != f.Source.Name || back.Namespace != f.Source.Namespace:
		return verdict.Refused(verdict.CloneSourceUnusable,
			"cannot clone source PVC %q: its PV %q is bound to another claim (%s/%s, uid %s); create the claim again with another source", ref.Shown, f.SourcePV.Name, back.Namespace, back.Name, back.UID)
	case f.SourcePV.Status.Phase != v1.VolumeBound:
		return verdict.Waiting(verdict.CloneSourceNotBound,
			"clone waits until PV %q of source PVC %q is Bound (it is %s); it then starts by itself", f.SourcePV.Name, ref.Shown, f.SourcePV.Status.Phase)
	}
	return verdict.Verdict{}
}

// sameClass is rule 5: classes are compared by name, the default class has been
// filled in by the API server. What is on record began when they were the same, or
// under another policy.
func sameClass(f Facts, ref Ref) verdict.Verdict {
	want, got := ClassName(f.Source), ClassName(f.Claim)
	switch {
	case !f.Strict, f.Recorded, want == got:
		return verdict.Verdict{}
	case want == "":
		return verdict.Refused(verdict.CloneClassMismatch,
			"clone needs the StorageClass of its source: source PVC %q has none, this claim asks for %q; name another source, or start the provisioner with --clone-policy=compatible, which lifts this rule", ref.Shown, got)
	}
	return verdict.Refused(verdict.CloneClassMismatch,
		"clone needs StorageClass %q: source PVC %q has it, this claim asks for %q; create the claim again with spec.storageClassName: %s (--clone-policy=compatible lifts this rule)", want, ref.Shown, got, want)
}

func sameMode(f Facts, ref Ref) verdict.Verdict {
	want, got := mode(f.Source), mode(f.Claim)
	if want == got {
		return verdict.Verdict{}
	}
	return verdict.Refused(verdict.CloneModeMismatch,
		"clone needs volumeMode %s: source PVC %q is %s, this claim asks for %s; create the claim again with spec.volumeMode: %s", want, ref.Shown, want, got, want)
}

// bigEnough is rule 8. It compares what the two users asked for; what the
// driver made of it is the business of request.RequiredBytes, as long as it can
// be asked for at all.
func bigEnough(f Facts, ref Ref) verdict.Verdict {
	for _, r := range reports(f) {
		if _, fits := Bytes(r.capacity); !fits {
			return verdict.Refused(verdict.CloneSourceUnusable,
				"cannot clone source PVC %q: %s reports a capacity of %s, which no volume can have (8Ei or more); create the claim again with another source",
				ref.Shown, r.by, Written(r.capacity))
		}
	}
	asked := f.Claim.Spec.Resources.Requests[v1.ResourceStorage]
	needed := f.Source.Spec.Resources.Requests[v1.ResourceStorage]
	if enough(asked, needed) {
		return verdict.Verdict{}
	}
	return verdict.Refused(verdict.CloneTooSmall,
		"clone needs at least %s: source PVC %q has %s, this claim asks for %s; create the claim again with spec.resources.requests.storage: %s",
		Written(needed), ref.Shown, Written(needed), Written(asked), Written(needed))
}

// mode: nil means Filesystem (Kubernetes API, PersistentVolumeClaimSpec).
func mode(claim *v1.PersistentVolumeClaim) v1.PersistentVolumeMode {
	if claim.Spec.VolumeMode == nil {
		return v1.PersistentVolumeFilesystem
	}
	return *claim.Spec.VolumeMode
}

// capacity is the largest that is reported of the source volume.
func capacity(f Facts) int64 {
	var most int64
	for _, r := range reports(f) {
		bytes, _ := Bytes(r.capacity)
		most = max(most, bytes)
	}
	return most
}

// ClassName returns the name of the claim's class; the annotation of old beats
// the field (Kubernetes, "volume.beta.kubernetes.io/storage-class").
func ClassName(claim *v1.PersistentVolumeClaim) string {
	if name, found := claim.Annotations[wellknown.BetaStorageClass]; found {
		return name
	}
	if claim.Spec.StorageClassName != nil {
		return *claim.Spec.StorageClassName
	}
	return ""
}
