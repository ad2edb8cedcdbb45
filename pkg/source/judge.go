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
	// CanRestore: the driver reports CREATE_DELETE_SNAPSHOT.
	CanRestore bool
	// Source claim; nil if there is none of that name, or none is asked for.
	Source *v1.PersistentVolumeClaim
	// SourcePV is the PV that the source is bound to; nil if it is not known.
	SourcePV *v1.PersistentVolume
	// Snapshot to restore; nil if there is none of that name, or none is asked for.
	Snapshot *VolumeSnapshot
	// Content that the snapshot is bound to; nil if it is not known.
	Content *SnapshotContent
	// NoSnapshots: the API server serves no VolumeSnapshots.
	NoSnapshots bool
	// KeepMode: a snapshot is restored in the volumeMode that it was taken in
	// (--prevent-volume-mode-conversion), unless an administrator allows another.
	KeepMode bool
	// Recorded: this process has put the work on record, or vouched for the record
	// that it found, so what would only forbid to begin does not stop it (rules 4
	// and 5, and a grant that goes). A record that nobody vouches for is none.
	Recorded bool
	// Found: the claim carries a record, for which nobody has vouched yet.
	Found bool
	// LetGo: this process has taken the claim off record, for nothing exists: nobody has
	// begun with it.
	LetGo bool
	// Strict: rules 5 and 6 hold (--clone-policy=strict).
	Strict bool
	// OtherNamespaces: the source may be in another namespace
	// (--feature-gates=CrossNamespaceVolumeDataSource=true), given a grant.
	OtherNamespaces bool
	// Grants are the ReferenceGrants of the source's namespace.
	Grants []Grant
}

// Volume is what CreateVolume has to copy.
type Volume struct {
	// Handle of the source volume, as the driver named it.
	Handle string
	// Bytes is the real capacity of the source volume, or the least size of a volume that
	// a snapshot is restored to.
	Bytes int64
	// Snapshot: Handle is that of a snapshot.
	Snapshot bool
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
		return judgeRestore(f, ref)
	default:
		return nil, verdict.Ignored(verdict.Provisioning,
			"Assuming an external populator will provision the volume")
	}
}

// VolumeOf returns the source volume as far as it is known, whatever the rules say
// of it: to repeat a request, not to begin one. nil if there is none.
func VolumeOf(f Facts) *Volume {
	if Of(f.Claim).Kind == Snapshot {
		return snapshotVolumeOf(f)
	}
	if f.SourcePV == nil || f.SourcePV.Spec.CSI == nil || f.SourcePV.Spec.CSI.Driver != f.Driver {
		return nil
	}
	return &Volume{Handle: f.SourcePV.Spec.CSI.VolumeHandle, Bytes: capacity(f)}
}

func snapshotVolumeOf(f Facts) *Volume {
	if f.Snapshot == nil || f.Content == nil || f.Content.Driver != f.Driver || f.Content.Handle == "" || !f.Content.belongsTo(f.Snapshot) {
		return nil
	}
	volume := &Volume{Handle: f.Content.Handle, Snapshot: true}
	if f.Snapshot.RestoreSize != nil {
		volume.Bytes, _ = Bytes(*f.Snapshot.RestoreSize)
	}
	return volume
}
