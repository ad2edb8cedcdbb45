package protection

import (
	"context"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/claimwriter"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/migration"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Sources is one kind of objects that claims are filled from.
type Sources interface {
	// Informer of the objects of the kind, or of more than those.
	Informer() cache.SharedIndexInformer
	// Finalizer that protects them.
	Finalizer() string
	// Get returns the object of that name as the cache has it; nil if there is none.
	Get(namespace, name string) metav1.Object
	// Protected returns those that carry the finalizer.
	Protected() []metav1.Object
	// Clones returns the claims on record that are filled from it.
	Clones(namespace, name string) []*v1.PersistentVolumeClaim
	// Ours says whether the driver holds what is to be copied. An error means that it
	// could not be found out.
	Ours(ctx context.Context, source metav1.Object) (bool, error)
	// Known says whether the driver holds what is to be copied, as far as the caches tell.
	Known(source metav1.Object) bool
	// Write puts the finalizer on the live object, or takes it off, and returns what the
	// API server has then.
	Write(ctx context.Context, source metav1.Object, present bool) (metav1.Object, error)
	// Held returns the object as events name it, and says that its deletion waits for a
	// claim, first by name of those that are filled from it.
	Held(source metav1.Object, first string) (v1.ObjectReference, verdict.Verdict)
	// Words are what messages call the protection, and the kind.
	Words() (protection, source string)
	// MayFail: where the rules of RBAC do not let us protect them, it is done without.
	MayFail() bool
}

// claims are the sources of clones.
type claims struct {
	writer *claimwriter.Writer
	caches *informers.Set
	driver string
	plugin *migration.Plugin
}

// Claims returns the claims that clones are made of. plugin is the in-tree plugin that
// the driver took over, nil for none.
func Claims(writer *claimwriter.Writer, caches *informers.Set, driver string, plugin *migration.Plugin) Sources {
	return claims{writer, caches, driver, plugin}
}

func (c claims) Informer() cache.SharedIndexInformer { return c.caches.Claims }

func (claims) Finalizer() string { return wellknown.CloningProtection }

func (claims) Words() (protection, source string) { return "cloning protection", "source PVC" }

func (claims) MayFail() bool { return false }

func (c claims) Get(namespace, name string) metav1.Object {
	claim := c.caches.Claim(namespace, name)
	if claim == nil {
		return nil // and not an interface that holds nil
	}
	return claim
}

func (c claims) Protected() []metav1.Object {
	var list []metav1.Object
	for _, claim := range c.caches.ProtectedSources() {
		list = append(list, claim)
	}
	return list
}

func (c claims) Clones(namespace, name string) []*v1.PersistentVolumeClaim {
	return c.caches.ClonesOf(namespace, name)
}

// Ours: the source's volume is of our driver. When the PV is not known, the
// claim's own annotation decides.
func (c claims) Ours(_ context.Context, object metav1.Object) (bool, error) {
	return c.Known(object), nil
}

func (c claims) Known(object metav1.Object) bool {
	source, ok := object.(*v1.PersistentVolumeClaim)
	if !ok {
		return false
	}
	if pv := c.caches.PV(source.Spec.VolumeName); pv != nil {
		return pv.Spec.CSI != nil && pv.Spec.CSI.Driver == c.driver
	}
	return migration.Provisioner(source) == c.driver || c.plugin.Given(source)
}

func (c claims) Write(ctx context.Context, source metav1.Object, present bool) (metav1.Object, error) {
	patch, err := record.Protect(source, wellknown.CloningProtection, present)
	if err != nil {
		return nil, err
	}
	return c.writer.Patch(ctx, source, patch)
}

func (claims) Held(source metav1.Object, first string) (v1.ObjectReference, verdict.Verdict) {
	about := v1.ObjectReference{
		APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: source.GetNamespace(), Name: source.GetName(),
		UID: source.GetUID(), ResourceVersion: source.GetResourceVersion(),
	}
	return about, verdict.Waiting(verdict.SourceHeld,
		"deletion of source PVC %q waits for clones being made of it (first: %q); nothing to do", source.GetName(), first)
}
