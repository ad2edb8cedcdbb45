package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// RunUnbound removes the engine's finalizer from deleted PVs that no claim ever had, until ctx
// ends. The engine handles Released PVs only, so they would stay forever. Their volume is not
// deleted, because its content is unknown, and an event says so.
func (p *Provisioner) RunUnbound(ctx context.Context) error {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](time.Second, 5*time.Minute))
	look := func(obj any) {
		if pv, ok := obj.(*v1.PersistentVolume); ok && p.Mine(pv) && p.unbound(p.Migration.Seen(pv)) {
			queue.Add(pv.Name)
		}
	}
	registration, err := p.Caches.OwnPVs.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: look, UpdateFunc: func(_, obj any) { look(obj) },
	})
	if err != nil {
		return fmt.Errorf("watching for PVs that no claim had: %w", err)
	}
	stop := context.AfterFunc(ctx, queue.ShutDown)
	defer stop()
	for {
		name, shutdown := queue.Get()
		if shutdown {
			return p.Caches.OwnPVs.RemoveEventHandler(registration)
		}
		if err := p.letGo(ctx, p.Caches.PV(name)); err != nil {
			klog.FromContext(ctx).Info("A PV that no claim had is tried again", "pv", klog.KRef("", name), "err", err)
			queue.AddRateLimited(name)
		} else {
			queue.Forget(name)
		}
		queue.Done(name)
	}
}

// unbound: the PV is being deleted, is waited for because of the engine's finalizer, and
// no claim has had it.
func (p *Provisioner) unbound(pv *v1.PersistentVolume) bool {
	return pv != nil && pv.DeletionTimestamp != nil && pv.Status.Phase == v1.VolumeAvailable &&
		pv.Spec.CSI != nil && pv.Spec.CSI.Driver == p.Driver.Name &&
		slices.Contains(pv.Finalizers, wellknown.PVFinalizer)
}

func (p *Provisioner) letGo(ctx context.Context, pv *v1.PersistentVolume) error {
	if !p.unbound(pv) {
		return nil
	}
	if err := p.MayRelease(ctx, pv.Name); err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": pv.UID, "resourceVersion": pv.ResourceVersion,
		"$deleteFromPrimitiveList/finalizers": []string{wellknown.PVFinalizer},
	}})
	if err != nil {
		return err
	}
	// Before the finalizer is removed: the PV has the only reference to the volume.
	p.Recorder.SayOfPV(pv, verdict.Refused(verdict.VolumeKept,
		"PV %q was deleted although no claim had it; its volume %q was not deleted: if nobody needs it, delete it in the storage", pv.Name, pv.Spec.CSI.VolumeHandle))
	_, err = p.Client.CoreV1().PersistentVolumes().Patch(ctx, pv.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return nil // its new version is looked at
	case err != nil:
		return fmt.Errorf("taking the finalizer off PV %q: %w", pv.Name, err)
	}
	klog.FromContext(ctx).Info("A PV was deleted that no claim had; its volume is kept", "pv", klog.KObj(pv), "volumeID", pv.Spec.CSI.VolumeHandle)
	return nil
}
