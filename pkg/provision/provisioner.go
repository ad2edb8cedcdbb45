package provision

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/inuse"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/migration"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Config is what a Provisioner is made of. All fields without a comment that
// says otherwise are needed.
type Config struct {
	Client kubernetes.Interface
	// Dynamic reads snapshots and what they are bound to.
	Dynamic dynamic.Interface
	Caches  *informers.Set
	Driver  *csidriver.Driver
	Ledger  *ledger.Ledger
	// Migration is the in-tree plugin that the driver took over; nil for none.
	Migration *migration.Plugin
	// Keys of the record on claims.
	Keys wellknown.Record
	// Naming of new volumes.
	Naming record.Naming
	// Identity names this process in the volume's attributes.
	Identity string
	// DefaultFSType is the file system when the class names none. May be empty.
	DefaultFSType string
	// ExtraMetadata: --extra-create-metadata.
	ExtraMetadata bool
	// PublishReadOnly: --controller-publish-readonly.
	PublishReadOnly bool
	// Pods looks who uses a source (--clone-policy=strict); nil drops rules 5 and 6
	// (--clone-policy=compatible).
	Pods *inuse.Pods
	// AttachmentsTell: whoever uses a volume of this driver attaches it, and the
	// attachments are in the caches.
	AttachmentsTell bool
	// OtherNamespaces: the feature gate CrossNamespaceVolumeDataSource.
	OtherNamespaces bool
	// KeepMode: --prevent-volume-mode-conversion.
	KeepMode bool
	// Places is where the driver runs; nil if it has no topology, or that does not count.
	Places Places
	// Node for which this process alone provisions (--node-deployment); empty for all nodes.
	Node string
	// Keeps says whether a PV's volume is for this process to delete; nil if all are.
	Keeps func(*v1.PersistentVolume) bool
	// StrictTopology: --strict-topology; ImmediateTopology: --immediate-topology.
	StrictTopology, ImmediateTopology bool
	// AttributesClasses: the feature gate VolumeAttributesClass.
	AttributesClasses bool
	// Figures counts what was done; nil counts nothing.
	Figures *observe.Figures
	// Recorder sends events.
	Recorder *observe.Recorder
	// Finished is called after each turn that the engine took, for the claim
	// with that name and uid: what is known of it may have changed.
	Finished func(namespace, name string, uid types.UID)
	// VolumesChanged is called after a volume of a class was made or deleted, or could not
	// be made for good, with the terms from where it can, or could, be used; none for
	// everywhere: there may be more room, or less. nil if nobody wants to know.
	VolumesChanged func(class string, terms []topology.Term)
}

// Places is where the driver runs.
type Places interface {
	// Of returns what is known of the node.
	Of(node string) topology.Node
	// All returns every place, sorted; it is shared.
	All() []topology.Term
}

// Provisioner makes and deletes volumes. It implements the engine's Provisioner,
// Qualifier, BlockProvisioner and DeletionGuard.
type Provisioner struct {
	Config
	deleted deletions
	looks   looks
	fetched fetched
	shelf   shelf
}

var (
	_ controller.Provisioner      = (*Provisioner)(nil)
	_ controller.Qualifier        = (*Provisioner)(nil)
	_ controller.BlockProvisioner = (*Provisioner)(nil)
	_ controller.DeletionGuard    = (*Provisioner)(nil)
	_ PVDeletions                 = (*Provisioner)(nil)
)

// New returns a Provisioner.
func New(c Config) *Provisioner {
	return &Provisioner{Config: c, deleted: deletions{done: map[types.UID]bool{}, uids: map[string]types.UID{}}}
}

// Strict says whether rules 5 and 6 hold.
func (p *Provisioner) Strict() bool { return p.Pods != nil }

// saveTimeout bounds the saving of a PV that goes on when the process is asked
// to stop: the volume exists, and saying so takes one request.
const saveTimeout = 10 * time.Second

// SupportsBlock leaves it to the driver to refuse block volumes.
func (p *Provisioner) SupportsBlock(context.Context) bool { return true }

// ShouldProvision says whether the engine may work on the claim: it was admitted, by
// this process or with its word, is wanted, and nobody is at it.
func (p *Provisioner) ShouldProvision(_ context.Context, claim *v1.PersistentVolumeClaim) bool {
	if !p.Admitted(claim) || claim.DeletionTimestamp != nil || p.elsewhere(claim) || !p.Ledger.Own(claim.UID) {
		return false
	}
	state, _ := p.Ledger.State(claim.UID)
	return state != ledger.Saved && state != ledger.Closed && p.Ledger.Ask(claim.UID)
}

// Admitted says whether the claim is on record, or this process works on it without
// (--provisioning-record).
func (p *Provisioner) Admitted(claim *v1.PersistentVolumeClaim) bool {
	return record.On(p.Keys, claim) || p.Ledger.Unrecorded(claim.UID)
}

// VolumeName returns the name of the claim's volume: the one that this process has
// asked for, or else that of the record.
func (p *Provisioner) VolumeName(claim *v1.PersistentVolumeClaim) string {
	if asked := p.Ledger.Asked(claim.UID); asked != nil {
		return asked.GetName()
	}
	return p.RecordedName(claim)
}

// RecordedName returns the name of the claim's volume as the claim alone tells it:
// the pinned one if it carries a record that can be believed.
func (p *Provisioner) RecordedName(claim *v1.PersistentVolumeClaim) string {
	if pinned := record.Pinned(p.Keys, p.Naming, claim).VolumeName; pinned != "" && record.On(p.Keys, claim) {
		return pinned
	}
	return p.Naming.VolumeName(claim.UID)
}

// Provision makes one attempt. The error's text is the event that the user
// reads.
func (p *Provisioner) Provision(ctx context.Context, options controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	claim := options.PVC
	ctx = klog.NewContext(ctx, klog.FromContext(ctx).WithValues("claim", klog.KObj(claim)))
	turn, free := p.Ledger.Take(claim.UID)
	if !free {
		return nil, controller.ProvisioningNoChange, &controller.IgnoredError{Reason: "the claim is being released or cleaned up"}
	}
	ctx, end := observe.Span(ctx, "provision", "persistentvolumeclaim", claim)
	pv, ignored, err := p.attempt(ctx, turn, claim)
	end(err)
	final := turn.State() == ledger.Clean
	turn.Done()
	p.Finished(claim.Namespace, claim.Name, claim.UID)
	switch {
	case ignored != "":
		return nil, controller.ProvisioningNoChange, &controller.IgnoredError{Reason: ignored}
	case err != nil && final:
		return nil, controller.ProvisioningFinished, withoutStatus(err)
	case err != nil:
		return nil, controller.ProvisioningNoChange, withoutStatus(err)
	}
	return pv, controller.ProvisioningFinished, nil
}
