package planner

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/inuse"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/migration"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Config is what a Planner needs. Fields whose comment does not say otherwise are required.
type Config struct {
	Client kubernetes.Interface
	// Dynamic reads VolumeSnapshots and VolumeSnapshotContents.
	Dynamic dynamic.Interface
	Caches  *informers.Set
	Driver  *csidriver.Driver
	Ledger  *ledger.Ledger
	// Migration is the in-tree plugin that the driver replaces; nil for none.
	Migration *migration.Plugin
	// Keys of the record on claims.
	Keys wellknown.Record
	// Naming of new volumes.
	Naming record.Naming
	// DefaultFSType is the file system for classes that name none. May be empty.
	DefaultFSType string
	// ExtraMetadata is --extra-create-metadata.
	ExtraMetadata bool
	// Strict is --clone-policy=strict: a clone needs the StorageClass of its source (rule 5), and
	// waits until the source is not in use (rule 6).
	Strict bool
	// Pods finds the pods that use a source. Required if Strict, else not used.
	Pods *inuse.Pods
	// AttachmentsTell is true if the driver attaches volumes and VolumeAttachments are cached:
	// then every volume in use has an attachment.
	AttachmentsTell bool
	// OtherNamespaces is the feature gate CrossNamespaceVolumeDataSource.
	OtherNamespaces bool
	// KeepMode is --prevent-volume-mode-conversion.
	KeepMode bool
	// Places is where the driver runs; nil if the driver has no topology, or topology is off.
	Places Places
	// Node for which this process alone provisions (--node-deployment); empty for all nodes.
	Node string
	// StrictTopology is --strict-topology, ImmediateTopology --immediate-topology.
	StrictTopology, ImmediateTopology bool
	// AttributesClasses is the feature gate VolumeAttributesClass.
	AttributesClasses bool
}

// Places is where the driver runs.
type Places interface {
	// Of returns what is known of the node.
	Of(node string) topology.Node
	// All returns every place, sorted; it is shared.
	All() []topology.Term
}

// Planner plans how claims are provisioned.
type Planner struct {
	Config
	secrets secretChecks
	fetched fetchedClasses
	reads   snapshotReads
}

// New returns a Planner.
func New(c Config) *Planner { return &Planner{Config: c} }

// Admitted reports whether the claim has a record, or this process works on it without one
// (--provisioning-record).
func (p *Planner) Admitted(claim *v1.PersistentVolumeClaim) bool {
	return record.On(p.Keys, claim) || p.Ledger.Unrecorded(claim.UID)
}

// VolumeName returns the name of the claim's volume and PV: the one that this process has
// asked for, or else RecordedName.
func (p *Planner) VolumeName(claim *v1.PersistentVolumeClaim) string {
	if asked := p.Ledger.Asked(claim.UID); asked != nil {
		return asked.GetName()
	}
	return p.RecordedName(claim)
}

// RecordedName returns the volume name in the claim's record, if the record can be believed,
// or else the name that a new volume gets.
func (p *Planner) RecordedName(claim *v1.PersistentVolumeClaim) string {
	if pinned := record.Pinned(p.Keys, p.Naming, claim).VolumeName; pinned != "" && record.On(p.Keys, claim) {
		return pinned
	}
	return p.Naming.VolumeName(claim.UID)
}
