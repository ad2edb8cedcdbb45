package journal

import (
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Entry is a volume that may exist at the driver without a PersistentVolume, and what is needed
// to ask for it again. It holds references to Secrets, never their contents.
type Entry struct {
	// Claim that the volume is for. The uid is required.
	Claim Claim
	// Class is the claim's StorageClass when the driver was first called.
	Class Class
	// VolumeName is the name in CreateVolume and of the PersistentVolume.
	VolumeName string
	// RequiredBytes and LimitBytes are the capacity range of CreateVolume; 0 for no limit.
	RequiredBytes, LimitBytes int64
	// Source that is copied; nil for a blank volume.
	Source *Source
	// Places is how the preferred topology of CreateVolume begins, as topology.Format writes
	// it; "" for none.
	Places string
	// Secret for CreateVolume as namespace/name; "" for none.
	Secret string
	// PVSecrets are the Secrets that the PersistentVolume names, as namespace/name by the
	// StorageClass parameter that names them.
	PVSecrets map[string]string
	// ReclaimPolicy of the PersistentVolume.
	ReclaimPolicy v1.PersistentVolumeReclaimPolicy
	// MountOptions, AccessModes and VolumeMode of the PersistentVolume; "" stands for the
	// volume mode Filesystem.
	MountOptions []string
	AccessModes  []v1.PersistentVolumeAccessMode
	VolumeMode   v1.PersistentVolumeMode
	// AttributesClass is the name of the VolumeAttributesClass; "" for none.
	AttributesClass string
	// Since is when the entry was made, with a resolution of seconds.
	Since time.Time
	// LastAnswer is the driver's last answer, without secrets; it may be missing or older
	// than the last call. What exceeds 512 bytes is cut off.
	LastAnswer string
	// Abridged lists what the entry lacks because it would have been too large.
	Abridged Abridged
	// Doubt is why the entry may be a copy, from a backup, or very old; "" if it is not. Its
	// volume may belong to another cluster: it must never be deleted for the entry's sake.
	Doubt string
}

// Claim identifies a PersistentVolumeClaim.
type Claim struct {
	Namespace, Name string
	UID             types.UID
	// Created is the claim's creationTimestamp.
	Created time.Time
}

// Class is a StorageClass as it was when the entry was made.
type Class struct {
	Name string    `json:"-"`
	UID  types.UID `json:"uid,omitempty"`
	// Provisioner is the driver's name, or that of the in-tree plugin that it took over.
	Provisioner string `json:"provisioner,omitempty"`
	// Parameters are used only if no class of this uid exists any more.
	Parameters map[string]string `json:"parameters,omitempty"`
	// ParametersHash differs from that of a class with other parameters. It is there even if
	// Parameters is not.
	ParametersHash string `json:"parametersHash,omitempty"`
}

// Source is the volume or snapshot that a volume is a copy of.
type Source struct {
	// Kind is PersistentVolumeClaim or VolumeSnapshot.
	Kind      string    `json:"kind,omitempty"`
	Namespace string    `json:"namespace,omitempty"`
	Name      string    `json:"name,omitempty"`
	UID       types.UID `json:"uid,omitempty"`
	// Handle by which the driver knows the source.
	Handle string `json:"handle,omitempty"`
}

// Abridged lists what an entry lacks, so that it stays below the size limit.
type Abridged struct {
	Parameters   bool `json:"parameters,omitempty"`
	MountOptions bool `json:"mountOptions,omitempty"`
	Places       bool `json:"places,omitempty"`
}
