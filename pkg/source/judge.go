package source

import (
	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

// Facts is everything that the verdict on a claim's data source is made from.
type Facts struct {
	// Claim that asks for a volume.
	Claim *v1.PersistentVolumeClaim
	// Driver is the name of the driver that shall make it.
	Driver string
	// CanClone: the driver reports CLONE_VOLUME.
	CanClone bool
	// Source claim; nil if there is none of that name, or none is asked for.
	Source *v1.PersistentVolumeClaim
	// SourcePV is the PV that the source is bound to; nil if it is not known.
	SourcePV *v1.PersistentVolume
	// Recorded: the work is on record, so what would only forbid to begin does
	// not stop it (rule 4).
	Recorded bool
}

// Volume is what CreateVolume has to copy.
type Volume struct {
	// Handle of the source volume, as the driver named it.
	Handle string
	// Bytes is the real capacity of the source volume.
	Bytes int64
}

// Judge says whether the claim's data source can be used now. The volume is nil
// for a blank claim, and whenever the verdict is not Ready.
func Judge(f Facts) (*Volume, verdict.Verdict) {
	if f.Claim.Spec.Selector != nil {
		return nil, verdict.Refused(verdict.SelectorNotSupported,
			"a claim with spec.selector cannot be provisioned; create it again without the selector, or bind it to an existing PV")
	}
	switch ref := Of(f.Claim); ref.Kind {
	case None:
		return nil, verdict.Verdict{}
	case Claim:
		return judgeClone(f, ref)
	case Snapshot:
		return nil, verdict.Refused(verdict.NotSupportedYet,
			"restoring VolumeSnapshot %q is not supported by this version of the provisioner; clone a PVC instead", ref.Name)
	default:
		return nil, verdict.Ignored(verdict.Provisioning,
			"Assuming an external populator will provision the volume")
	}
}

// VolumeOf returns the source volume as far as it is known, whatever the rules say
// of it: to repeat a request, not to begin one. nil if there is none.
func VolumeOf(f Facts) *Volume {
	if f.SourcePV == nil || f.SourcePV.Spec.CSI == nil || f.SourcePV.Spec.CSI.Driver != f.Driver {
		return nil
	}
	return &Volume{Handle: f.SourcePV.Spec.CSI.VolumeHandle, Bytes: capacity(f)}
}

// judgeClone asks the rules in the order in which a person would mend them:
// what the claim says, what the driver can do, what the source is.
func judgeClone(f Facts, ref Ref) (*Volume, verdict.Verdict) {
	rules := []func(Facts, Ref) verdict.Verdict{
		otherNamespace, ofItself, cloneCapability, // rules 2 and 1
		sourceExists, sourceNotDeleting, sourceBound, // rules 2, 4 and 3
		volumeOfDriver, pointAtEachOther, // rule 3
		sameMode, bigEnough, // rules 7 and 8
	}
	for _, rule := range rules {
		if v := rule(f, ref); !v.Ready() {
			return nil, v
		}
	}
	return VolumeOf(f), verdict.Verdict{}
}

func otherNamespace(f Facts, ref Ref) verdict.Verdict {
	if ref.Namespace == f.Claim.Namespace {
		return verdict.Verdict{}
	}
	return verdict.Refused(verdict.NotSupportedYet,
		"cloning PVC %q of namespace %q is not supported by this version of the provisioner; name a source in the claim's own namespace", ref.Name, ref.Namespace)
}

func ofItself(f Facts, ref Ref) verdict.Verdict {
	if ref.Name != f.Claim.Name {
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
		"driver %q cannot clone (no CLONE_VOLUME capability); use a snapshot or a class of another driver", f.Driver)
}

func sourceExists(f Facts, ref Ref) verdict.Verdict {
	if f.Source != nil {
		return verdict.Verdict{}
	}
	return verdict.Waiting(verdict.CloneSourceNotFound,
		"clone waits for source PVC %q, which does not exist; it starts by itself when that PVC is there and bound", ref.Name)
}

// sourceNotDeleting is rule 4. A clone on record goes on: our finalizer keeps
// the source until it is through.
func sourceNotDeleting(f Facts, ref Ref) verdict.Verdict {
	if f.Recorded || f.Source.DeletionTimestamp == nil {
		return verdict.Verdict{}
	}
	return verdict.Refused(verdict.CloneSourceDeleting,
		"cannot clone source PVC %q: it is being deleted; create the claim again with another source", ref.Name)
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
			"cannot clone source PVC %q: it is Lost, its PV %q is gone; create the claim again with another source", ref.Name, f.Source.Spec.VolumeName)
	case f.Source.Status.Phase == v1.ClaimBound && f.Source.Spec.VolumeName == "":
		return verdict.Waiting(verdict.CloneSourceNotBound,
			"clone waits until source PVC %q names its PV (spec.volumeName is empty although it is Bound); it then starts by itself", ref.Name)
	case f.Source.Status.Phase != v1.ClaimBound:
		phase := f.Source.Status.Phase
		if phase == "" {
			phase = v1.ClaimPending
		}
		return verdict.Waiting(verdict.CloneSourceNotBound,
			"clone waits until source PVC %q is bound (it is %s); it then starts by itself", ref.Name, phase)
	case f.SourcePV == nil:
		return verdict.Waiting(verdict.CloneSourceNotBound,
			"clone waits for PV %q of source PVC %q, which does not exist; it starts by itself when that PV is there", f.Source.Spec.VolumeName, ref.Name)
	}
	return verdict.Verdict{}
}

func volumeOfDriver(f Facts, ref Ref) verdict.Verdict {
	switch csi := f.SourcePV.Spec.CSI; {
	case csi == nil:
		return verdict.Refused(verdict.CloneSourceUnusable,
			"cannot clone source PVC %q: its PV %q is not a CSI volume; create the claim again with a source provisioned by driver %q", ref.Name, f.SourcePV.Name, f.Driver)
	case csi.Driver != f.Driver:
		return verdict.Refused(verdict.CloneSourceUnusable,
			"cannot clone source PVC %q: its PV %q belongs to driver %q, this claim's class to driver %q; use a class of the source's driver", ref.Name, f.SourcePV.Name, csi.Driver, f.Driver)
	}
	return verdict.Verdict{}
}

func pointAtEachOther(f Facts, ref Ref) verdict.Verdict {
	switch back := f.SourcePV.Spec.ClaimRef; {
	case back == nil || back.UID == "":
		return verdict.Waiting(verdict.CloneSourceNotBound,
			"clone waits until PV %q is bound to source PVC %q; it then starts by itself", f.SourcePV.Name, ref.Name)
	case back.UID != f.Source.UID || back.Name != f.Source.Name || back.Namespace != f.Source.Namespace:
		return verdict.Refused(verdict.CloneSourceUnusable,
			"cannot clone source PVC %q: its PV %q is bound to another claim (%s/%s, uid %s); create the claim again with another source", ref.Name, f.SourcePV.Name, back.Namespace, back.Name, back.UID)
	case f.SourcePV.Status.Phase != v1.VolumeBound:
		return verdict.Waiting(verdict.CloneSourceNotBound,
			"clone waits until PV %q of source PVC %q is Bound (it is %s); it then starts by itself", f.SourcePV.Name, ref.Name, f.SourcePV.Status.Phase)
	}
	return verdict.Verdict{}
}

func sameMode(f Facts, ref Ref) verdict.Verdict {
	want, got := mode(f.Source), mode(f.Claim)
	if want == got {
		return verdict.Verdict{}
	}
	return verdict.Refused(verdict.CloneModeMismatch,
		"clone needs volumeMode %s: source PVC %q is %s, this claim asks for %s; set spec.volumeMode: %s", want, ref.Name, want, got, want)
}

// bigEnough is rule 8. It compares what the two users asked for; what the
// driver made of it is the business of request.RequiredBytes.
func bigEnough(f Facts, ref Ref) verdict.Verdict {
	asked := f.Claim.Spec.Resources.Requests[v1.ResourceStorage]
	needed := f.Source.Spec.Resources.Requests[v1.ResourceStorage]
	if asked.Cmp(needed) >= 0 {
		return verdict.Verdict{}
	}
	return verdict.Refused(verdict.CloneTooSmall,
		"clone needs at least %s: source PVC %q has %s, this claim asks for %s; raise spec.resources.requests.storage",
		needed.String(), ref.Name, needed.String(), asked.String())
}

// mode: nil means Filesystem (Kubernetes API, PersistentVolumeClaimSpec).
func mode(claim *v1.PersistentVolumeClaim) v1.PersistentVolumeMode {
	if claim.Spec.VolumeMode == nil {
		return v1.PersistentVolumeFilesystem
	}
	return *claim.Spec.VolumeMode
}

// capacity is the larger of what PV and claim report: after an expansion either
// may lag behind.
func capacity(f Facts) int64 {
	pv := f.SourcePV.Spec.Capacity[v1.ResourceStorage]
	claim := f.Source.Status.Capacity[v1.ResourceStorage]
	if pv.Cmp(claim) < 0 {
		pv = claim
	}
	return max(pv.Value(), 0)
}
