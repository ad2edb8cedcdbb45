package provision

import (
	"context"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// EngineClient is the client that the engine gets. It answers the engine's own
// create of a PV without a call, because Provision has saved that PV already;
// so the engine's events and metrics stay right. It sends the engine's events by
// way of the sender, from a constant source, where the engine makes up a random
// one. And it deletes no PV but the one whose volume was deleted, where the engine
// knows only its name; see PVDeletions.
func EngineClient(client kubernetes.Interface, component string, pvs PVDeletions, events EventSender) kubernetes.Interface {
	return engineClient{client, component, pvs, events}
}

// EventSender sends events without blocking the caller. The engine's own queue is bounded and drops
// events while it is full.
type EventSender interface {
	// Send is given an event that is complete. With a count above 1 it is the
	// repeat of an event of that name.
	Send(event *v1.Event)
}

// PVDeletions knows which PVs the engine is deleting.
type PVDeletions interface {
	// Deleting returns the uid of the PV of that name whose deletion was begun.
	Deleting(pv string) (types.UID, bool)
	// NotRemoved is called when the PV of that name could not be deleted, or its
	// finalizer not taken off.
	NotRemoved(pv string, err error)
	// MayRelease is called before the PV of that name is patched, which may take its
	// finalizer off; after an error that is retried.
	MayRelease(ctx context.Context, pv string) error
	// Patched is called after the PV of that name was patched: if its volume is
	// deleted, that was its finalizer.
	Patched(pv string)
}

type engineClient struct {
	kubernetes.Interface
	component string
	pvs       PVDeletions
	events    EventSender
}

func (c engineClient) CoreV1() corev1.CoreV1Interface {
	return engineCore{c.Interface.CoreV1(), c.component, c.pvs, c.events}
}

type engineCore struct {
	corev1.CoreV1Interface
	component string
	pvs       PVDeletions
	events    EventSender
}

func (c engineCore) PersistentVolumes() corev1.PersistentVolumeInterface {
	return savedVolumes{c.CoreV1Interface.PersistentVolumes(), c.pvs}
}

func (c engineCore) Events(namespace string) corev1.EventInterface {
	return queuedEvents{c.CoreV1Interface.Events(namespace), c.component, c.events}
}

type savedVolumes struct {
	corev1.PersistentVolumeInterface
	pvs PVDeletions
}

// Patch is how the engine takes its finalizer off: when the volume is deleted, and when the
// reclaim policy is Retain.
func (v savedVolumes) Patch(ctx context.Context, name string, kind types.PatchType, data []byte, options metav1.PatchOptions, subresources ...string) (*v1.PersistentVolume, error) {
	if err := v.pvs.MayRelease(ctx, name); err != nil {
		return nil, err
	}
	pv, err := v.PersistentVolumeInterface.Patch(ctx, name, kind, data, options, subresources...)
	if err == nil {
		v.pvs.Patched(name)
	} else {
		v.notRemoved(name, err)
	}
	return pv, err
}

// Delete is called by the engine after the provisioner's Delete. It fails if the
// PV of that name is meanwhile another one.
func (v savedVolumes) Delete(ctx context.Context, name string, options metav1.DeleteOptions) error {
	if uid, found := v.pvs.Deleting(name); found {
		options.Preconditions = &metav1.Preconditions{UID: &uid}
	}
	err := v.PersistentVolumeInterface.Delete(ctx, name, options)
	v.notRemoved(name, err)
	return err
}

// notRemoved reports an error that the engine only logs.
func (v savedVolumes) notRemoved(name string, err error) {
	if err != nil && !apierrors.IsNotFound(err) {
		v.pvs.NotRemoved(name, err)
	}
}

// Create is called by the engine for what Provision returned, and that is saved.
func (savedVolumes) Create(_ context.Context, pv *v1.PersistentVolume, _ metav1.CreateOptions) (*v1.PersistentVolume, error) {
	return pv, nil
}

type queuedEvents struct {
	corev1.EventInterface
	component string
	events    EventSender
}

// CreateWithEventNamespace is what client-go's event sink calls for a new event.
func (e queuedEvents) CreateWithEventNamespace(event *v1.Event) (*v1.Event, error) {
	event.Source.Component, event.ReportingController = e.component, e.component
	e.events.Send(event)
	return event, nil
}

// PatchWithEventNamespace is what it calls for an event that was repeated, which
// has the new count and message.
func (e queuedEvents) PatchWithEventNamespace(event *v1.Event, _ []byte) (*v1.Event, error) {
	return e.CreateWithEventNamespace(event)
}
