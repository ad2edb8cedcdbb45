package app

import (
	"context"
	"errors"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/claimwriter"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/options"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/planner"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/protection"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
)

// protectors shows the protection of both kinds of sources to intake.
type protectors struct {
	claims *protection.Controller
	// snapshots is nil if VolumeSnapshots are not watched.
	snapshots *protection.Controller
}

// protect makes the controllers that protect sources.
func (h *house) protect(o *options.Options, clients clients, writer *claimwriter.Writer, recorded func(*v1.PersistentVolumeClaim) bool) protectors {
	controller := func(kind source.Kind, queue string, sources protection.Sources, sweep time.Duration) *protection.Controller {
		return protection.New(protection.Config{
			Sources: sources, Queue: queue, Caches: h.caches, SourceOf: sourceOf(kind, recorded), SweepEvery: sweep, RemovalDelay: o.SourceProtectionRemovalDelay,
			Needs: h.planner.MayHoldSource, Here: h.hereOf(kind), Recorder: h.recorder, Clock: clock.RealClock{},
		})
	}
	driver := h.driver.Name
	p := protectors{claims: controller(source.Claim, "cloningprotection", protection.Claims(writer, h.caches, driver, h.plugin), max(o.SourceProtectionRemovalDelay, time.Second))}
	if h.caches.Snapshots != nil {
		p.snapshots = controller(source.Snapshot, "snapshotprotection", protection.Snapshots(clients.dynamic, h.caches, h.planner, driver), o.SnapshotOrphanSweepInterval)
	}
	return p
}

// counts returns how many sources are protected, by their kind.
func (p protectors) counts() map[string]func() int {
	counts := map[string]func() int{"PersistentVolumeClaim": p.claims.Protecting}
	if p.snapshots != nil {
		counts["VolumeSnapshot"] = p.snapshots.Protecting
	}
	return counts
}

// sourceOf returns a function that names the source of a kind from which a claim on
// record is filled.
func sourceOf(kind source.Kind, recorded func(*v1.PersistentVolumeClaim) bool) func(*v1.PersistentVolumeClaim) (namespace, name string, found bool) {
	return func(claim *v1.PersistentVolumeClaim) (namespace, name string, found bool) {
		ref := source.Of(claim)
		return ref.Namespace, ref.Name, ref.Kind == kind && recorded(claim)
	}
}

// Hold implements intake.Protector.
func (p protectors) Hold(ctx context.Context, claim types.UID, plan planner.Plan) error {
	switch {
	case plan.Source != nil:
		return p.claims.Hold(ctx, claim, plan.Source)
	case p.snapshots != nil:
		return p.snapshots.Hold(ctx, claim, plan.Snapshot)
	}
	return apierrors.NewForbidden(informers.VolumeSnapshots().GroupResource(), plan.Snapshot.GetName(), errors.New("they may not be listed and watched"))
}

// Unhold implements intake.Protector.
func (p protectors) Unhold(claim types.UID) {
	p.claims.Unhold(claim)
	if p.snapshots != nil {
		p.snapshots.Unhold(claim)
	}
}

// Reconsider implements intake.Protector.
func (p protectors) Reconsider(ref source.Ref) {
	switch {
	case ref.Kind == source.Claim:
		p.claims.Reconsider(ref.Namespace, ref.Name)
	case ref.Kind == source.Snapshot && p.snapshots != nil:
		p.snapshots.Reconsider(ref.Namespace, ref.Name)
	}
}
