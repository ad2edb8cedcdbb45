package verdict

import "slices"

// Reason is the reason of an event: CamelCase, stable, documented API.
type Reason string

// Reasons of a claim that waits, is refused, or is told how things go. What
// each means and what to do about it stands in Catalogue.
const (
	CloneSourceNotFound    Reason = "CloneSourceNotFound"
	CloneSourceNotBound    Reason = "CloneSourceNotBound"
	ClassNotFound          Reason = "StorageClassNotFound"
	CloneNotGranted        Reason = "CloneNotGranted"
	CloneSourceInUse       Reason = "CloneSourceInUse"
	CloneSourceUseUnknown  Reason = "CloneSourceUseUnknown"
	CloneSourceUnchecked   Reason = "CloneSourceUnchecked"
	VolumeNameInUse        Reason = "VolumeNameInUse"
	CloneNamespace         Reason = "CloneAcrossNamespacesDisabled"
	CloneClassMismatch     Reason = "CloneStorageClassMismatch"
	CloneNotSupported      Reason = "CloneNotSupported"
	CloneSourceUnusable    Reason = "CloneSourceUnusable"
	CloneSourceDeleting    Reason = "CloneSourceDeleting"
	CloneModeMismatch      Reason = "CloneVolumeModeMismatch"
	CloneTooSmall          Reason = "CloneTooSmall"
	CloneOfItself          Reason = "CloneOfItself"
	SelectorNotSupported   Reason = "SelectorNotSupported"
	InvalidSize            Reason = "InvalidSize"
	InvalidAccessMode      Reason = "InvalidAccessMode"
	InvalidClass           Reason = "InvalidStorageClass"
	ClassOfAnotherDriver   Reason = "StorageClassOfAnotherDriver"
	SecretNotFound         Reason = "SecretNotFound"
	SecretNotReadable      Reason = "SecretNotReadable"
	SecretNameInvalid      Reason = "SecretNameInvalid"
	AttributesNotFound     Reason = "VolumeAttributesClassNotFound"
	AttributesNotReadable  Reason = "VolumeAttributesClassNotReadable"
	AttributesDisabled     Reason = "VolumeAttributesClassesDisabled"
	AttributesOfAnother    Reason = "VolumeAttributesClassOfAnotherDriver"
	RestoreNotSupported    Reason = "RestoreNotSupported"
	SnapshotNotFound       Reason = "SnapshotNotFound"
	SnapshotNotReady       Reason = "SnapshotNotReady"
	SnapshotContentMissing Reason = "SnapshotContentNotReady"
	SnapshotNotReadable    Reason = "SnapshotNotReadable"
	SnapshotDeleting       Reason = "SnapshotDeleting"
	SnapshotUnusable       Reason = "SnapshotUnusable"
	SnapshotUnprotected    Reason = "SnapshotNotProtected"
	SnapshotHeld           Reason = "SnapshotHeld"
	RestoreTooSmall        Reason = "RestoreTooSmall"
	RestoreModeMismatch    Reason = "RestoreVolumeModeMismatch"
	DriverLacks            Reason = "DriverCapabilityMissing"
	VolumeNameTaken        Reason = "VolumeNameTaken"
	NodeNotFound           Reason = "SelectedNodeNotFound"
	NodeNotAllowed         Reason = "SelectedNodeNotAllowed"
	NodeWithoutDriver      Reason = "SelectedNodeWithoutDriver"
	NodeWithoutTopology    Reason = "SelectedNodeWithoutTopology"
	NoTopology             Reason = "NoTopology"
	SourceOutOfReach       Reason = "CloneSourceOutOfReach"
	NotTaken               Reason = "NotTakenByAnyNode"
	NotForNodes            Reason = "ImmediateBindingDisabled"
	RecordOfAnother        Reason = "RecordOfAnotherProvisioner"
	RecordNotWritten       Reason = "RecordNotWritten"
	SourceNotProtected     Reason = "CloneSourceNotProtected"
	SourceHeld             Reason = "CloneSourceHeld"
	CleaningUp             Reason = "CleaningUp"
	CleanUpBlocked         Reason = "CleanUpBlocked"
	VolumeKept             Reason = "VolumeKept"
	VolumeRetained         Reason = "VolumeRetained"
	Provisioning           Reason = "Provisioning"
	ProvisioningFailed     Reason = "ProvisioningFailed"
	ProvisioningDone       Reason = "ProvisioningSucceeded"
	VolumeFailedDelete     Reason = "VolumeFailedDelete"
	DeletedWithoutSecret   Reason = "DeletionSecretNotFound"
)

// Type is the type of a Kubernetes event.
type Type string

// The two types of Kubernetes events.
const (
	Normal  Type = "Normal"
	Warning Type = "Warning"
)

// Entry explains one reason.
type Entry struct {
	// Reason as it stands in the event.
	Reason Reason
	// Type of the event.
	Type Type
	// Object that the event is about.
	Object string
	// Meaning for the person who reads the event.
	Meaning string
	// Do is what that person can do; "nothing" where it ends by itself.
	Do string
}

// TypeOf returns the type of event that goes with a reason; Warning for one
// that is not in the catalogue.
func TypeOf(r Reason) Type {
	for _, e := range Catalogue() {
		if e.Reason == r {
			return e.Type
		}
	}
	return Warning
}

// HoldsUp says whether a claim that is told the reason cannot go on. The others tell of
// progress, or are about other objects.
func HoldsUp(r Reason) bool {
	goesOn := []Reason{CloneSourceUseUnknown, SnapshotUnprotected, CleaningUp, VolumeKept, VolumeRetained, Provisioning, ProvisioningFailed, ProvisioningDone}
	if r == "" || slices.Contains(goesOn, r) {
		return false
	}
	return slices.ContainsFunc(Catalogue(), func(e Entry) bool { return e.Reason == r && e.Object == claim })
}

// claim is what a reason is about that tells of a claim that is to have a volume.
const claim = "claim"

// Catalogue lists every reason that the provisioner uses in an event, in the
// order of docs/events.md, which is generated from it.
func Catalogue() []Entry {
	const pv = "PersistentVolume"
	return []Entry{
		{CloneSourceNotFound, Normal, claim, "The PVC that the claim names as its source does not exist.", "Create the source in the same namespace; the clone then starts by itself."},
		{CloneSourceNotBound, Normal, claim, "The source exists but is not bound, or its PV does not point back at it yet.", "Nothing if the source is being provisioned; else find out why it is not bound. The clone starts by itself."},
		{CloneNotGranted, Normal, claim, "The source is in another namespace, and no ReferenceGrant there allows the claim's namespace to use it.", "Have a ReferenceGrant created in the source's namespace; the clone then starts by itself."},
		{CloneSourceInUse, Normal, claim, "A running pod mounts the source, or its PV is attached to a node (only with `--clone-policy=strict`).", "End the pod, or wait; the clone then starts by itself. To clone volumes in use, run the provisioner with `--clone-policy=compatible`."},
		{CloneSourceUseUnknown, Normal, claim, "The clone was begun although nobody could look whether its source is in use: the provisioner may not list pods.", "Nothing if the source was not in use. To have clones wait, grant the provisioner list and watch on pods."},
		{CloneSourceUnchecked, Warning, claim, "The API server did not answer the question whether the source is in use, so the clone was not started.", "Read the error in the event. It is tried again by itself."},
		{ClassNotFound, Normal, claim, "The StorageClass of the claim does not exist.", "Create the class; provisioning then starts by itself."},
		{VolumeNameInUse, Normal, claim, "A volume of the same name is being made for another claim (short `--volume-name-uuid-length`).", "Wait; it is judged again when that claim is through. Use a longer `--volume-name-uuid-length`."},
		{CloneNamespace, Warning, claim, "The source is in another namespace, and the provisioner runs without the feature gate CrossNamespaceVolumeDataSource.", "Name a source in the claim's namespace, or have the gate switched on."},
		{CloneClassMismatch, Warning, claim, "Source and clone differ in StorageClass (only with `--clone-policy=strict`).", "Create the claim again with the class of the source. To clone across classes, run the provisioner with `--clone-policy=compatible`."},
		{CloneNotSupported, Warning, claim, "The driver does not report the CLONE_VOLUME capability.", "Create the claim again without a source and copy the data, or use a driver that clones."},
		{CloneSourceUnusable, Warning, claim, "The source's volume is not a CSI volume of the driver that shall clone it, or reports a capacity that no volume can have, or PV and PVC do not belong together.", "Name a source that was provisioned by the same driver."},
		{CloneSourceDeleting, Warning, claim, "The source is being deleted.", "Delete the claim and name another source."},
		{CloneModeMismatch, Warning, claim, "Source and clone differ in volumeMode.", "Create the claim again with the volumeMode of the source."},
		{CloneTooSmall, Warning, claim, "The claim asks for less than its source has.", "Create the claim again with at least the size of the source."},
		{CloneOfItself, Warning, claim, "The claim names itself as its source.", "Create the claim again with another source."},
		{SelectorNotSupported, Warning, claim, "A claim with spec.selector cannot be provisioned dynamically.", "Create the claim again without the selector."},
		{InvalidSize, Warning, claim, "The claim asks for no size, or for one that no volume can have.", "Create the claim again with a positive size below 8Ei."},
		{InvalidAccessMode, Warning, claim, "An access mode of the claim has no counterpart in CSI.", "Create the claim again with other access modes."},
		{InvalidClass, Warning, claim, "The StorageClass has parameters that contradict each other or are unknown, or is one of an in-tree plugin and cannot be translated for the driver.", "Correct the class; the claim is then judged again by itself."},
		{ClassOfAnotherDriver, Warning, claim, "The claim's StorageClass was made again for another driver.", "Create the claim again, or restore the class."},
		{SecretNotFound, Normal, claim, "The Secret that the StorageClass names for creating the volume does not exist.", "Create the Secret; provisioning then starts by itself within 15 seconds."},
		{SecretNotReadable, Warning, claim, "The Secret that the StorageClass names for creating the volume could not be read.", "Read the error in the event: most likely a rule of RBAC is missing (deploy/kubernetes/rbac-secrets.yaml). It is tried again by itself."},
		{SecretNameInvalid, Warning, claim, "The StorageClass names a Secret by name or annotations of the claim, and for this claim that makes no name of a Secret.", "Correct the annotation named in the event; the claim is then judged again by itself."},
		{AttributesNotFound, Normal, claim, "The VolumeAttributesClass of the claim does not exist.", "Create it; provisioning then starts by itself."},
		{AttributesNotReadable, Warning, claim, "The VolumeAttributesClass of the claim could not be read.", "Read the error in the event: most likely a rule of RBAC is missing. It is tried again by itself."},
		{AttributesDisabled, Warning, claim, "The claim asks for a VolumeAttributesClass, and the provisioner runs with `--feature-gates=VolumeAttributesClass=false`, or the API server has no such classes in storage.k8s.io/v1.", "Create the claim again without spec.volumeAttributesClassName, or have the gate switched on."},
		{AttributesOfAnother, Warning, claim, "The VolumeAttributesClass of the claim belongs to another driver.", "Create the claim again with a VolumeAttributesClass of the driver, or with none."},
		{SnapshotNotFound, Normal, claim, "The VolumeSnapshot that the claim names does not exist, or the cluster has no VolumeSnapshots at all.", "Create the snapshot in the same namespace, or have the CRDs installed; the restore then starts by itself."},
		{SnapshotNotReady, Normal, claim, "The VolumeSnapshot exists but cannot be restored yet.", "Nothing if the snapshot is being taken; else read what its status says. The restore starts by itself."},
		{SnapshotContentMissing, Normal, claim, "The VolumeSnapshotContent that the VolumeSnapshot is bound to does not exist, or does not name the snapshot in the storage.", "Find out who deleted or made the content. The restore starts by itself within 15 seconds after that is mended."},
		{SnapshotNotReadable, Warning, claim, "The VolumeSnapshot or its VolumeSnapshotContent could not be read.", "Read the error in the event: most likely a rule of RBAC is missing. It is tried again by itself."},
		{RestoreNotSupported, Warning, claim, "The driver does not report the CREATE_DELETE_SNAPSHOT capability.", "Use a driver that has snapshots."},
		{SnapshotDeleting, Warning, claim, "The VolumeSnapshot is being deleted.", "Delete the claim and name another snapshot."},
		{SnapshotUnusable, Warning, claim, "The VolumeSnapshot belongs to another driver, or is not what its VolumeSnapshotContent belongs to, or has a size that no volume can have.", "Name a snapshot that was taken by the same driver."},
		{RestoreTooSmall, Warning, claim, "The claim asks for less than the snapshot needs.", "Create the claim again with at least the restoreSize of the snapshot."},
		{RestoreModeMismatch, Warning, claim, "The claim asks for another volumeMode than that of the volume that the snapshot was taken of (only with `--prevent-volume-mode-conversion`).", "Create the claim again with that volumeMode, or have an administrator allow the conversion by the annotation named in the event."},
		{SnapshotUnprotected, Normal, claim, "The restore was begun although its VolumeSnapshot could not be protected from deletion: the provisioner may not update VolumeSnapshots.", "Do not delete the snapshot before the claim is bound. Grant the provisioner update on volumesnapshots."},
		{SnapshotHeld, Normal, "VolumeSnapshot", "The VolumeSnapshot is being deleted while it is being restored.", "Nothing: it goes when the last restore is through."},
		{DriverLacks, Warning, claim, "The driver does not report a capability that provisioning needs.", "Check that the right driver runs behind the socket."},
		{VolumeNameTaken, Warning, claim, "A PV with the name of this claim's volume exists and belongs to another claim.", "Use a longer --volume-name-uuid-length, or remove the PV named in the event."},
		{NodeNotFound, Normal, claim, "The node that the scheduler has chosen for the claim is gone.", "Nothing: the scheduler chooses again."},
		{NodeNotAllowed, Normal, claim, "The node that the scheduler has chosen is where the StorageClass allows no volume (allowedTopologies).", "Nothing: the scheduler chooses again. If it finds no node, see the events of the pod."},
		{NodeWithoutDriver, Normal, claim, "The driver is not registered on the node that the scheduler has chosen.", "See why the driver's node plugin does not run there; provisioning starts by itself when it does."},
		{NodeWithoutTopology, Normal, claim, "Where the node is that the scheduler has chosen is not known: the driver tells no topology keys there, or the node lacks a label.", "See what the driver's node plugin answers to NodeGetInfo; provisioning starts by itself when the place is known."},
		{NoTopology, Normal, claim, "The driver has topology, and no node is known on which it runs.", "See whether the driver's node plugin runs; provisioning starts by itself when it has registered."},
		{SourceOutOfReach, Normal, claim, "The driver cannot clone to where the node is that the scheduler has chosen, and the source cannot be reached from there.", "Nothing: the scheduler chooses again. To help it, let the pod run where the source is (a node selector), or clone with a class that binds immediately."},
		{NotTaken, Normal, claim, "One provisioner runs on each node (`--node-deployment`), and for a while none of them could take the claim, which binds immediately: no node has room, or those that have are not where the volume is allowed or its source can be reached.", "Make room on a node; provisioning starts by itself when one can take the claim."},
		{NotForNodes, Warning, claim, "One provisioner runs on each node, and they leave claims alone that bind immediately (`--node-deployment-immediate-binding=false`).", "Use a StorageClass with volumeBindingMode WaitForFirstConsumer, or have the flag changed."},
		{RecordOfAnother, Warning, claim, "Another provisioner of the driver has begun with the claim and is gone: its node does not exist any more, or it worked without `--node-deployment`. A volume may exist that only it can find.", "Bring the node, or the provisioner, back; else follow docs/node-deployment.md."},
		{RecordNotWritten, Warning, claim, "The API server refused to put the work on record on the claim, so it was not started.", "Read the error in the event: RBAC, quota or an admission webhook. It is tried again by itself."},
		{SourceNotProtected, Warning, claim, "The source could not be protected, so the clone was not started.", "Read the error in the event. It is tried again by itself."},
		{SourceHeld, Normal, "source claim", "The source is being deleted while clones of it are being made.", "Nothing: it goes when the last of them is through."},
		{CleaningUp, Normal, claim, "The claim was deleted, or bound to another PV, while its volume may exist. The driver is asked for the volume; what it has gets its PV, and the reclaim policy decides.", "Nothing."},
		{CleanUpBlocked, Warning, claim, "The volume of a deleted claim cannot be cleaned up now.", "See docs/troubleshooting.md for the way out. It is tried again by itself."},
		{VolumeKept, Warning, claim, "A volume was kept without a PV of its own: another PV has it, or no PV can be saved for it and its reclaim policy is Retain. If the claim is deleted, its StorageClass has the event, too.", "Check the PV named in the event; or create a PV for the volume, or delete it in the storage backend."},
		{VolumeRetained, Normal, claim, "The claim was deleted, or bound to another PV, while its volume was made, and the reclaim policy is Retain: the volume stays, and has a PV. If the claim is deleted, its StorageClass has the event, too.", "Nothing; or delete the PV and the volume when its content is not needed."},
		{Provisioning, Normal, claim, "Provisioning has begun, or is left to an external populator.", "Nothing."},
		{ProvisioningFailed, Warning, claim, "An attempt failed; the text says why.", "Read the text. It is tried again by itself."},
		{ProvisioningDone, Normal, claim, "The volume exists and its PV is saved.", "Nothing."},
		{VolumeFailedDelete, Warning, pv, "The volume of a released PV could not be deleted.", "Read the text. It is tried again by itself."},
		{DeletedWithoutSecret, Warning, pv, "The Secret that the deletion of the volume needs does not exist; the driver was asked without it.", "Nothing if the volume is gone; else create the Secret again, and it is tried again by itself."},
	}
}
