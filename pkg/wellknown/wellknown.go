package wellknown

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// Annotations on claims and volumes that belong to Kubernetes.
const (
	// StorageProvisioner names the driver that shall provision a claim. Written
	// by the PV controller, read by us.
	StorageProvisioner = "volume.kubernetes.io/storage-provisioner"
	// BetaStorageProvisioner is its older name, read only if the newer is absent.
	BetaStorageProvisioner = "volume.beta.kubernetes.io/storage-provisioner"
	// BetaStorageClass names the class of a claim and beats spec.storageClassName.
	// Written by users.
	BetaStorageClass = "volume.beta.kubernetes.io/storage-class"
	// SelectedNode is the node that a delayed-binding claim shall be usable from.
	// Written by the scheduler.
	SelectedNode = "volume.kubernetes.io/selected-node"
	// MigratedTo names the CSI driver that took over an in-tree plugin.
	MigratedTo = "pv.kubernetes.io/migrated-to"
	// ProvisionedBy stands on a PV and names the driver that made its volume.
	// Written by us at creation, read by the engine before deletion.
	ProvisionedBy = "pv.kubernetes.io/provisioned-by"
	// DeletionSecretName and DeletionSecretNamespace stand on every PV that we
	// make and name the secret for DeleteVolume; both empty when there is none.
	DeletionSecretName = "volume.kubernetes.io/provisioner-deletion-secret-name"
	// DeletionSecretNamespace: see DeletionSecretName.
	DeletionSecretNamespace = "volume.kubernetes.io/provisioner-deletion-secret-namespace"
	// ModifySecretName and ModifySecretNamespace stand on a PV whose class names a
	// secret for ControllerModifyVolume. Written by us at creation, read by the resizer.
	ModifySecretName = "volume.kubernetes.io/controller-modify-secret-name"
	// ModifySecretNamespace: see ModifySecretName.
	ModifySecretNamespace = "volume.kubernetes.io/controller-modify-secret-namespace"
	// AllowModeChange stands on a VolumeSnapshotContent and says that its snapshot may
	// be restored in another volumeMode. Written by administrators.
	AllowModeChange = "snapshot.storage.kubernetes.io/allow-volume-mode-change"
)

// Finalizers.
const (
	// PVFinalizer keeps a PV until its volume is deleted. Written by us at
	// creation and by the engine, removed by the engine.
	PVFinalizer = "external-provisioner.volume.kubernetes.io/finalizer"
	// CloningProtection keeps a source PVC while clones of it are being made.
	// It is the incumbent's name, so that either provisioner cleans up after the
	// other. Written and removed by package protection.
	CloningProtection = "provisioner.storage.kubernetes.io/cloning-protection"
	// SnapshotProtection keeps a VolumeSnapshot while it is being restored. It is the
	// incumbent's name, too. Written and removed by package protection.
	SnapshotProtection = "provisioner.storage.kubernetes.io/volumesnapshot-as-source-protection"
)

// Labels of CSIStorageCapacity objects, by which a provisioner knows its own. Written and
// read by package capacity; the incumbent's.
const (
	// CapacityDriver is the driver's name.
	CapacityDriver = "csi.storage.k8s.io/drivername"
	// CapacityManagedBy says which provisioner of the driver it is.
	CapacityManagedBy = "csi.storage.k8s.io/managed-by"
)

// Keys of StorageClass parameters and of volume attributes.
const (
	// ParameterPrefix is reserved for parameters that are meant for the sidecar
	// and never reach the driver.
	ParameterPrefix = "csi.storage.k8s.io/"
	// ParameterFSType asks for a file system.
	ParameterFSType = ParameterPrefix + "fstype"
	// ParameterClaimName, -ClaimNamespace and -PVName reach the driver with
	// --extra-create-metadata.
	ParameterClaimName = ParameterPrefix + "pvc/name"
	// ParameterClaimNamespace: see ParameterClaimName.
	ParameterClaimNamespace = ParameterPrefix + "pvc/namespace"
	// ParameterPVName: see ParameterClaimName.
	ParameterPVName = ParameterPrefix + "pv/name"
	// ProvisionerIdentity is the volume attribute that names the process which
	// made a volume.
	ProvisionerIdentity = "storage.kubernetes.io/csiProvisionerIdentity"
)

// Record holds the keys that put a driver's unfinished work on record on a claim
// (design, "The record").
type Record struct {
	// Finalizer says that the driver may hold a volume for this claim.
	Finalizer string
	// VolumeName pins the name of the volume, and of its PV.
	VolumeName string
	// RequiredBytes pins how many bytes CreateVolume is asked for.
	RequiredBytes string
	// ContentSource pins what the volume is a copy of; absent for a blank one.
	ContentSource string
	// Secret pins the Secret with which CreateVolume is called; absent if there is none.
	Secret string
	// Topology pins the places that CreateVolume is asked to prefer; absent if there are
	// none.
	Topology string
	// ReclaimPolicy pins the reclaim policy that the StorageClass had.
	ReclaimPolicy string
}

// RecordOf returns the keys of the driver with that name. A driver's name may
// hold capitals, a finalizer may not (Kubernetes, qualified names).
func RecordOf(driver string) Record {
	prefix := strings.ToLower(driver) + "/"
	return Record{
		Finalizer:     prefix + "provisioning",
		VolumeName:    prefix + "volume-name",
		RequiredBytes: prefix + "required-bytes",
		ContentSource: prefix + "content-source",
		Secret:        prefix + "provisioner-secret",
		Topology:      prefix + "topology",
		ReclaimPolicy: prefix + "reclaim-policy",
	}
}

// OnNode returns the keys of the provisioner of one node: its finalizer names it, by a
// hash, because a node's name may be longer than that of a finalizer. The annotations
// stay the same, for only one provisioner at a time may have a claim on record.
func (r Record) OnNode(node string) Record {
	sum := sha256.Sum256([]byte(node))
	r.Finalizer = r.Central() + "-" + hex.EncodeToString(sum[:8])
	return r
}

// Central returns the Finalizer of a provisioner that works for all nodes; it is this
// Record's own unless that is one of a node.
func (r Record) Central() string {
	prefix, _, _ := strings.Cut(r.Finalizer, "/")
	return prefix + "/provisioning"
}

// Is says whether a finalizer puts the driver's work on record, whichever node's it is.
func (r Record) Is(finalizer string) bool {
	central := r.Central()
	return finalizer == central || strings.HasPrefix(finalizer, central+"-")
}

// Other returns the first among the finalizers that puts the driver's work on record and is
// not this Record's own; "" if there is none.
func (r Record) Other(finalizers []string) string {
	i := slices.IndexFunc(finalizers, func(f string) bool { return f != r.Finalizer && r.Is(f) })
	if i < 0 {
		return ""
	}
	return finalizers[i]
}
