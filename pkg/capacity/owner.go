package capacity

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Get reads an object in the provisioner's namespace, as an owner reference names it.
type Get func(ctx context.Context, reference metav1.OwnerReference) (metav1.Object, error)

// Owner returns a reference, as the controller, to what the objects go with: the pod
// (level 0), the pod's controller (1), the controller of that (2), and so on. Every object
// on the way is read but the last, which its dependant names. nil for a level below 0:
// the objects go with nothing.
func Owner(ctx context.Context, get Get, pod string, level int) (*metav1.OwnerReference, error) {
	if level < 0 {
		return nil, nil
	}
	at := metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: pod}
	for above := 0; ; above++ {
		if above > 0 && above == level {
			break
		}
		object, err := get(ctx, at)
		if err != nil {
			return nil, fmt.Errorf("reading %s %q, with --capacity-ownerref-level=%d: %w", at.Kind, at.Name, level, err)
		}
		if level == 0 {
			at.UID = object.GetUID()
			break
		}
		controller := metav1.GetControllerOf(object)
		if controller == nil {
			return nil, fmt.Errorf("%s %q has no controller among its owners, with --capacity-ownerref-level=%d: give %d at most, or -1 for objects without an owner", at.Kind, at.Name, level, above)
		}
		at = *controller
	}
	return &metav1.OwnerReference{APIVersion: at.APIVersion, Kind: at.Kind, Name: at.Name, UID: at.UID, Controller: new(true)}, nil
}
