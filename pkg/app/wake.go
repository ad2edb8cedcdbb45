package app

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
)

// forgetDeletedPVs drops what is remembered of PVs that are deleted.
func (h *house) forgetDeletedPVs() error {
	_, err := h.caches.OwnPVs.AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: func(obj any) {
		if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = last.Obj
		}
		if pv, ok := obj.(*v1.PersistentVolume); ok {
			h.provisioner.Gone(pv)
			h.freed(pv)
			h.recorder.Forget(pv.UID)
		}
	}})
	if err != nil {
		return fmt.Errorf("watching for deleted PVs: %w", err)
	}
	return nil
}

// wakeDetached has the engine look at a PV again, which it may not delete while it is
// attached, as soon as it is not.
func (h *house) wakeDetached(pvs *informers.Facade) error {
	if h.caches.Attachments == nil {
		return nil
	}
	_, err := h.caches.Attachments.AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: func(obj any) {
		if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = last.Obj
		}
		attachment, ok := obj.(*storagev1.VolumeAttachment)
		if !ok || attachment.Spec.Source.PersistentVolumeName == nil {
			return
		}
		if pv := h.caches.PV(*attachment.Spec.Source.PersistentVolumeName); pv != nil && pv.Status.Phase == v1.VolumeReleased {
			pvs.Wake(pv)
		}
	}})
	if err != nil {
		return fmt.Errorf("watching for volumes that are detached: %w", err)
	}
	return nil
}

// wakeReleased has the engine look at the PV of a claim when the claim's record is removed.
func (h *house) wakeReleased(pvs *informers.Facade, recorded func(*v1.PersistentVolumeClaim) bool) error {
	released := func(oldObj, newObj any) {
		old, ok := oldObj.(*v1.PersistentVolumeClaim)
		if claim, exists := newObj.(*v1.PersistentVolumeClaim); !ok || !recorded(old) || exists && claim.UID == old.UID && recorded(claim) {
			return
		}
		if pv := h.caches.PV(h.planner.RecordedName(old)); pv != nil {
			pvs.Wake(pv)
		}
	}
	_, err := h.caches.OwnClaims.AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: released,
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			released(obj, nil)
		},
	})
	if err != nil {
		return fmt.Errorf("watching for claims whose record is removed: %w", err)
	}
	return nil
}
