package source

import (
	"slices"
	"strconv"

	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// judgeRestore asks the rules about a claim that is restored from a VolumeSnapshot, in
// the order in which a person would mend them. (Kubernetes, "Restore from a volume
// snapshot"; those of the incumbent, without a class in common and whoever uses the
// volume that the snapshot was taken of.)
func judgeRestore(f Facts, ref Ref) (*Volume, verdict.Verdict) {
	rules := []func(Facts, Ref) verdict.Verdict{
		restoreCapability, otherNamespace, snapshotExists, snapshotNotDeleting, snapshotReady,
		contentOfSnapshot, contentOfDriver, restoreBigEnough, sameModeAsSnapshot,
	}
	for _, rule := range rules {
		if v := rule(f, ref); !v.Ready() {
			return nil, v
		}
	}
	return VolumeOf(f), verdict.Verdict{}
}

func restoreCapability(f Facts, _ Ref) verdict.Verdict {
	if f.CanRestore {
		return verdict.Verdict{}
	}
	return verdict.Refused(verdict.RestoreNotSupported,
		"driver %q cannot restore snapshots (no CREATE_DELETE_SNAPSHOT capability); create the claim again without spec.dataSource and copy the data, or use a driver that has snapshots", f.Driver)
}

func snapshotExists(f Facts, ref Ref) verdict.Verdict {
	switch {
	case f.Snapshot != nil:
		return verdict.Verdict{}
	case f.NoSnapshots:
		return verdict.Waiting(verdict.SnapshotNotFound,
			"restore waits for VolumeSnapshot %q, and this cluster has no VolumeSnapshots at all: the CRDs of snapshot.storage.k8s.io/v1 are not installed; it starts by itself when they are, and the snapshot is there and ready", ref.Shown)
	}
	return verdict.Waiting(verdict.SnapshotNotFound,
		"restore waits for VolumeSnapshot %q, which does not exist; it starts by itself when that snapshot is there and ready", ref.Shown)
}

// snapshotNotDeleting is rule 4 for snapshots, see sourceNotDeleting.
func snapshotNotDeleting(f Facts, ref Ref) verdict.Verdict {
	deleted := f.Snapshot.DeletionTimestamp
	isProtected := slices.Contains(f.Snapshot.Finalizers, wellknown.SnapshotProtection)
	if f.Recorded || deleted == nil || !f.LetGo && isProtected && begunBefore(f, deleted.Time) {
		return verdict.Verdict{}
	}
	return verdict.Refused(verdict.SnapshotDeleting,
		"cannot restore VolumeSnapshot %q: it is being deleted; create the claim again with another snapshot", ref.Shown)
}

func snapshotReady(f Facts, ref Ref) verdict.Verdict {
	trouble := ""
	if f.Snapshot.Trouble != "" {
		trouble = "; the snapshotter says: " + f.Snapshot.Trouble
	}
	switch {
	case f.Snapshot.Content == "":
		return verdict.Waiting(verdict.SnapshotNotReady,
			"restore waits until VolumeSnapshot %q is bound to a VolumeSnapshotContent; it then starts by itself%s", ref.Shown, trouble)
	case !f.Snapshot.Ready:
		return verdict.Waiting(verdict.SnapshotNotReady,
			"restore waits until VolumeSnapshot %q is ready (status.readyToUse is not true yet); it then starts by itself%s", ref.Shown, trouble)
	case f.Content == nil:
		return verdict.Waiting(verdict.SnapshotContentMissing,
			"restore waits for VolumeSnapshotContent %q of VolumeSnapshot %q, which does not exist; it starts by itself soon after that is there", f.Snapshot.Content, ref.Shown)
	case f.Content.Handle == "" && f.Content.belongsTo(f.Snapshot):
		return verdict.Waiting(verdict.SnapshotContentMissing,
			"restore waits until VolumeSnapshotContent %q of VolumeSnapshot %q names the snapshot in the storage (status.snapshotHandle); it starts by itself soon after that", f.Content.Name, ref.Shown)
	}
	return verdict.Verdict{}
}

func contentOfSnapshot(f Facts, ref Ref) verdict.Verdict {
	if f.Content.belongsTo(f.Snapshot) {
		return verdict.Verdict{}
	}
	of := f.Content.Of
	return verdict.Refused(verdict.SnapshotUnusable,
		"cannot restore VolumeSnapshot %q: its VolumeSnapshotContent %q belongs to another snapshot (%s/%s, uid %s); create the claim again with another snapshot", ref.Shown, f.Content.Name, of.Namespace, of.Name, of.UID)
}

func contentOfDriver(f Facts, ref Ref) verdict.Verdict {
	if f.Content.Driver == f.Driver {
		return verdict.Verdict{}
	}
	return verdict.Refused(verdict.SnapshotUnusable,
		"cannot restore VolumeSnapshot %q: driver %q holds it, this claim's class belongs to driver %q; use a class of the snapshot's driver", ref.Shown, f.Content.Driver, f.Driver)
}

func restoreBigEnough(f Facts, ref Ref) verdict.Verdict {
	if f.Snapshot.RestoreSize == nil {
		return verdict.Verdict{}
	}
	needed, asked := *f.Snapshot.RestoreSize, f.Claim.Spec.Resources.Requests[v1.ResourceStorage]
	switch _, fits := Bytes(needed); {
	case !fits:
		return verdict.Refused(verdict.SnapshotUnusable,
			"cannot restore VolumeSnapshot %q: its status.restoreSize is %s, which no volume can have (8Ei or more); create the claim again with another snapshot", ref.Shown, Written(needed))
	case enough(asked, needed):
		return verdict.Verdict{}
	}
	return verdict.Refused(verdict.RestoreTooSmall,
		"restore needs at least %s: VolumeSnapshot %q has that restoreSize, this claim asks for %s; create the claim again with spec.resources.requests.storage: %s",
		Written(needed), ref.Shown, Written(asked), Written(needed))
}

// sameModeAsSnapshot: the volume may be of another mode than the one that the snapshot
// was taken of only if an administrator has allowed it (Kubernetes, "Convert the volume
// mode of a snapshot").
func sameModeAsSnapshot(f Facts, ref Ref) verdict.Verdict {
	was, asked := f.Content.Mode, f.Claim.Spec.VolumeMode
	if !f.KeepMode || was == nil || asked == nil || *was == *asked {
		return verdict.Verdict{}
	}
	found := "it is absent"
	if text := f.Content.AllowModeChange; text != nil {
		if allowed, err := strconv.ParseBool(*text); err == nil && allowed {
			return verdict.Verdict{}
		}
		found = "it is " + strconv.Quote(*text)
	}
	return verdict.Refused(verdict.RestoreModeMismatch,
		"restore needs volumeMode %s: VolumeSnapshot %q was taken of such a volume, this claim asks for %s; create the claim again with spec.volumeMode: %s, or have an administrator set annotation %s=\"true\" on VolumeSnapshotContent %q (%s)",
		*was, ref.Shown, *asked, *was, wellknown.AllowModeChange, f.Content.Name, found)
}
