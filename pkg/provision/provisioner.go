package provision

import (
	"context"
	"errors"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/migration"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/planner"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Config is what a Provisioner needs. Fields whose comment does not say otherwise are required.
type Config struct {
	Client  kubernetes.Interface
	Caches  *informers.Set
	Driver  *csidriver.Driver
	Ledger  *ledger.Ledger
	Planner *planner.Planner
	// Migration is the in-tree plugin that the driver replaces; nil for none.
	Migration *migration.Plugin
	// Keys of the record on claims.
	Keys wellknown.Record
	// Identity names this process in the volume's attributes.
	Identity string
	// PublishReadOnly is --controller-publish-readonly.
	PublishReadOnly bool
	// Keeps reports whether this process deletes a PV's volume; nil if it deletes all.
	Keeps func(*v1.PersistentVolume) bool
	// Figures counts what was done; nil counts nothing.
	Figures *observe.Figures
	// Recorder sends events.
	Recorder *observe.Recorder
	// Finished is called after each turn that the engine took, for the claim
	// with that name and uid: what is known of it may have changed.
	Finished func(namespace, name string, uid types.UID)
	// VolumesChanged is called after a volume of a class was created or deleted, or certainly
	// cannot be created, with the terms from where it can, or could, be used, none for
	// everywhere: free capacity may have changed. May be nil.
	VolumesChanged func(class string, terms []topology.Term)
}

// Provisioner makes and deletes volumes. It implements the engine's Provisioner,
// Qualifier, BlockProvisioner and DeletionGuard.
type Provisioner struct {
	Config
	deleted deletions
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

// saveTimeout bounds the saving of a PV, which continues when the process is asked to stop,
// because the volume exists.
const saveTimeout = 10 * time.Second

// SupportsBlock leaves it to the driver to refuse block volumes.
func (p *Provisioner) SupportsBlock(context.Context) bool { return true }

// ShouldProvision reports whether the engine may work on the claim: this process has admitted it
// or verified its record, it is not deleted, and no other worker has its lock.
func (p *Provisioner) ShouldProvision(_ context.Context, claim *v1.PersistentVolumeClaim) bool {
	if !p.Planner.Admitted(claim) || claim.DeletionTimestamp != nil || p.Planner.IsForOtherNode(claim) || !p.Ledger.Own(claim.UID) {
		return false
	}
	state, _ := p.Ledger.State(claim.UID)
	return state != ledger.Saved && state != ledger.Closed && p.Ledger.Ask(claim.UID)
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
	pv, err := p.attempt(ctx, turn, claim)
	var skipped skippedError
	if errors.As(err, &skipped) {
		end(nil)
	} else {
		end(err)
	}
	final := turn.State() == ledger.Clean
	turn.Done()
	p.Finished(claim.Namespace, claim.Name, claim.UID)
	switch {
	case skipped.reason != "":
		return nil, controller.ProvisioningNoChange, &controller.IgnoredError{Reason: skipped.reason}
	case err != nil && final:
		return nil, controller.ProvisioningFinished, withoutStatus(err)
	case err != nil:
		return nil, controller.ProvisioningNoChange, withoutStatus(err)
	}
	return pv, controller.ProvisioningFinished, nil
}
