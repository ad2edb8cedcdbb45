package intake

import (
	"errors"
	"fmt"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/cache"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/migration"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

// register connects the caches with the queue: a claim of ours is looked at
// when it changes, and when an object changes that it waits for. The returned
// function disconnects them.
func (i *Intake) register() (func() error, error) {
	i.expect()
	var undo []func() error
	for _, r := range []struct {
		informer cache.SharedIndexInformer
		changed  func(obj any)
		foreign  func(namespace, name string)
	}{
		{i.Caches.Claims, i.claimChanged, func(namespace, name string) { i.Wake(waitlist.Claim(namespace, name)) }},
		{i.Caches.PVs, i.volumeChanged, func(_, name string) { i.Wake(waitlist.PV(name)) }},
		{i.Caches.Classes, i.classChanged, nil},
		{i.Caches.Attachments, i.attachmentChanged, nil},
		{i.Caches.Grants, i.grantChanged, nil},
		{i.Caches.AttributesClasses, i.attributesClassChanged, nil},
		{i.Caches.Snapshots, i.snapshotChanged, nil},
	} {
		if r.informer == nil {
			continue
		}
		registration, err := r.informer.AddEventHandler(handler{i.handler(r.changed), r.foreign})
		if err != nil {
			return nil, fmt.Errorf("watching for changes: %w", err)
		}
		undo = append(undo, func() error { return r.informer.RemoveEventHandler(registration) })
	}
	return func() error {
		var errs []error
		for _, f := range undo {
			errs = append(errs, f())
		}
		return errors.Join(errs...)
	}, nil
}

// handler is told of objects of other drivers by name alone.
type handler struct {
	cache.ResourceEventHandler
	foreign func(namespace, name string)
}

// OnForeign implements informers.ForeignHandler.
func (h handler) OnForeign(namespace, name string) { h.foreign(namespace, name) }

func (i *Intake) handler(changed func(obj any)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: changed,
		UpdateFunc: func(old, obj any) {
			if replaced(old, obj) {
				i.nameReleased(old)
				changed(old)
			} else if i.nameOf(old) != i.nameOf(obj) {
				i.nameReleased(old)
			}
			changed(obj)
		},
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			i.nameReleased(obj)
			changed(obj)
		},
	}
}

// nameOf returns the volume name that the object keeps from others: that of a claim
// on record; "" of everything else.
func (i *Intake) nameOf(obj any) string {
	if claim, ok := obj.(*v1.PersistentVolumeClaim); ok && i.recorded(claim) {
		return i.Planner.VolumeName(claim)
	}
	return ""
}

// nameReleased wakes who waits for the volume name of a claim that was on record.
func (i *Intake) nameReleased(obj any) {
	if name := i.nameOf(obj); name != "" {
		i.Wake(waitlist.VolumeName(name))
	}
}

// replaced: an object was deleted and made again between two looks.
func replaced(old, obj any) bool {
	before, errBefore := meta.Accessor(old)
	now, errNow := meta.Accessor(obj)
	return errBefore == nil && errNow == nil && before.GetUID() != now.GetUID()
}

// expect notes which claims must be judged before the first look is complete.
func (i *Intake) expect() {
	var none key
	i.mu.Lock()
	i.Caches.EachOwnClaim(func(claim *v1.PersistentVolumeClaim) {
		if i.mine(claim) {
			k := keyOf(claim)
			i.unseen[k] = struct{}{}
			i.queue.Add(k)
		}
	})
	i.mu.Unlock()
	i.seen(none) // there may be none
}

func (i *Intake) claimChanged(obj any) {
	claim, ok := obj.(*v1.PersistentVolumeClaim)
	if !ok {
		return
	}
	if i.mine(claim) {
		i.queue.Add(keyOf(claim))
	}
	i.Wake(waitlist.Claim(claim.Namespace, claim.Name))
}

func (i *Intake) volumeChanged(obj any) {
	if pv, ok := obj.(*v1.PersistentVolume); ok {
		i.Wake(waitlist.PV(pv.Name))
	}
}

func (i *Intake) classChanged(obj any) {
	if class, ok := obj.(*storagev1.StorageClass); ok {
		i.Wake(waitlist.Class(class.Name))
	}
}

func (i *Intake) attributesClassChanged(obj any) {
	if class, ok := obj.(*storagev1.VolumeAttributesClass); ok {
		i.Wake(waitlist.AttributesClass(class.Name))
	}
}

func (i *Intake) attachmentChanged(obj any) {
	if a, ok := obj.(*storagev1.VolumeAttachment); ok && a.Spec.Source.PersistentVolumeName != nil {
		i.Wake(waitlist.AttachmentsOf(*a.Spec.Source.PersistentVolumeName))
	}
}

func (i *Intake) snapshotChanged(obj any) {
	if snapshot, err := meta.Accessor(obj); err == nil {
		i.Wake(waitlist.Snapshot(snapshot.GetNamespace(), snapshot.GetName()))
	}
}

func (i *Intake) grantChanged(obj any) {
	if grant, err := meta.Accessor(obj); err == nil {
		i.Wake(waitlist.GrantsIn(grant.GetNamespace()))
	}
}

// Wake has the claims looked at that wait for the object. It costs as much as there
// are such claims.
func (i *Intake) Wake(object waitlist.Object) {
	for _, k := range i.waiting.WaitingFor(object) {
		i.queue.Add(k)
		// On record already: the engine is in a back-off that need not be waited for,
		// or in a call that began before the change.
		i.wakeEngine(k)
	}
}

// mine: the claim was given to our driver, or carries our record, whatever it
// says now.
func (i *Intake) mine(claim *v1.PersistentVolumeClaim) bool {
	return i.recorded(claim) || i.given(claim)
}

// given: the PV controller gave the claim to our driver.
func (i *Intake) given(claim *v1.PersistentVolumeClaim) bool {
	return migration.Provisioner(claim) == i.Driver || i.Migration.Given(claim)
}

func (i *Intake) recorded(claim *v1.PersistentVolumeClaim) bool {
	return record.On(i.Keys, claim)
}

func keyOf(claim *v1.PersistentVolumeClaim) key {
	return key{claim.Namespace, claim.Name, claim.UID}
}
