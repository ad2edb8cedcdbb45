package app

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/intake"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/nodelocal"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/options"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/places"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/planner"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/provision"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// keysOf returns the keys of the record: where each node has a provisioner, each has its own.
func keysOf(o *options.Options, driver string) wellknown.Record {
	keys := wellknown.RecordOf(driver)
	if o.NodeDeployment.Enabled {
		return keys.OnNode(o.NodeDeployment.Node)
	}
	return keys
}

// onNode makes this process the provisioner of one node: its driver tells where that is.
func (h *house) onNode(ctx context.Context, o *options.Options, client kubernetes.Interface, keys wellknown.Record, planning *planner.Config, provisioning *provision.Config) error {
	n := o.NodeDeployment
	here := nodelocal.Place{Node: n.Node}
	if o.Topology && h.driver.HasTopology() {
		var err error
		if here.Segments, err = h.driver.Segments(ctx); err != nil {
			return err
		}
		if len(here.Segments) == 0 {
			return fmt.Errorf("driver %q has topology (VOLUME_ACCESSIBILITY_CONSTRAINTS), but NodeGetInfo tells none of node %q; mend the driver, or start with --feature-gates=Topology=false if its volumes can be used on all nodes", h.driver.Name, n.Node)
		}
		planning.Places = places.At(n.Node, here.Segments)
	}
	local := nodelocal.Config{
		Here: here, Driver: h.driver.Name, Keys: keys, Caches: h.caches, Writer: h.writer, Recorder: h.recorder,
		Immediate: n.Immediate, Delays: nodelocal.Delays{Base: n.BaseDelay, Max: n.MaxDelay},
		NodeExists: func(ctx context.Context, name string) (bool, error) { return nodeExists(ctx, client, name) },
		Random:     rand.N[time.Duration],
		Clock:      clock.RealClock{},
	}
	if h.driver.CanTellCapacity() {
		local.Room = h.room
	}
	h.local = nodelocal.New(local)
	planning.Node, provisioning.Keeps = n.Node, h.local.Keeps
	provisioning.Identity = nodelocal.Identity(provisioning.Identity, n.Node)
	klog.FromContext(ctx).Info("Working for one node", "node", n.Node, "segments", here.Segments)
	return nil
}

// room asks the driver how much can be made, and how large one volume can be; 0 if it does
// not say.
func (h *house) room(ctx context.Context, req *csi.GetCapacityRequest) (free, most int64, err error) {
	resp, err := h.driver.GetCapacity(ctx, req)
	return resp.GetAvailableCapacity(), resp.GetMaximumVolumeSize().GetValue(), err
}

func nodeExists(ctx context.Context, client kubernetes.Interface, name string) (bool, error) {
	_, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// nodes shows the controller to intake; nil if there is none.
func (h *house) nodes() intake.Nodes {
	if h.local == nil {
		return nil // and not an interface that holds nil
	}
	return h.local
}

// keepsPV reports whether the engine may see a PV: it adds its finalizer to what it sees,
// deletes that, and removes the finalizer, which has to wait for the claim's record.
func (h *house) keepsPV(obj any) bool {
	pv, ok := obj.(*v1.PersistentVolume)
	return !ok || h.provisioner.Mine(pv) && !h.provisioner.Recorded(pv)
}

// freed: the volume of a PV is gone, and there may be room for others.
func (h *house) freed(pv *v1.PersistentVolume) {
	if h.local != nil && h.provisioner.Mine(pv) {
		h.local.Freed()
	}
}

// hereOf says of sources of the kind whether this node looks after them: it does if it
// would delete their volume, or that of which a snapshot was taken. What nobody can tell
// of, all nodes look after.
func (h *house) hereOf(kind source.Kind) func(metav1.Object) bool {
	if h.local == nil {
		return nil
	}
	ofClaim := func(claim *v1.PersistentVolumeClaim) bool {
		if claim == nil {
			return true
		}
		pv := h.caches.PV(claim.Spec.VolumeName)
		return pv == nil || h.local.Keeps(pv)
	}
	return func(object metav1.Object) bool {
		if kind == source.Claim {
			claim, _ := object.(*v1.PersistentVolumeClaim)
			return ofClaim(claim)
		}
		snapshot := h.caches.Snapshot(object.GetNamespace(), object.GetName())
		if snapshot == nil {
			return true
		}
		taken, _, err := unstructured.NestedString(snapshot.Object, "spec", "source", "persistentVolumeClaimName")
		return err != nil || ofClaim(h.caches.Claim(object.GetNamespace(), taken))
	}
}

// localMembers are what runs besides.
func (h *house) localMembers(ctx context.Context) []func() error {
	if h.local == nil {
		return nil
	}
	members := []func() error{func() error { return h.local.Run(ctx) }}
	if h.local.Here.Segments != nil {
		members = append(members, func() error { return h.local.RunMoved(ctx, h.driver.Segments) })
	}
	return members
}
