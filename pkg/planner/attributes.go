package planner

import (
	"context"
	"fmt"
	"sync"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/request"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

// fetchedClasses are VolumeAttributesClasses that were read one by one, because RBAC allows get
// but not watch: the manifests of csi-provisioner grant no more.
type fetchedClasses struct {
	mu      sync.Mutex
	classes map[string]*storagev1.VolumeAttributesClass
}

func (f *fetchedClasses) get(name string) *storagev1.VolumeAttributesClass {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.classes[name]
}

func (f *fetchedClasses) put(name string, class *storagev1.VolumeAttributesClass) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.classes == nil {
		f.classes = map[string]*storagev1.VolumeAttributesClass{}
	}
	f.classes[name] = class
	if class == nil {
		delete(f.classes, name)
	}
}

// attributesClassName returns the name of the claim's VolumeAttributesClass, "" if it has none.
func (p *Planner) attributesClassName(claim *v1.PersistentVolumeClaim) string {
	if claim.Spec.VolumeAttributesClassName == nil {
		return ""
	}
	return *claim.Spec.VolumeAttributesClassName
}

// FetchUncached reads the objects that Plan needs and the caches do not have: the claim's
// VolumeAttributesClass if those are not watched, and the content of its VolumeSnapshot. The
// verdict is not Ready if that fails.
func (p *Planner) FetchUncached(ctx context.Context, claim *v1.PersistentVolumeClaim) verdict.Verdict {
	if v := p.fetchAttributes(ctx, claim); !v.Ready() {
		return v
	}
	return p.fetchSnapshot(ctx, claim)
}

func (p *Planner) fetchAttributes(ctx context.Context, claim *v1.PersistentVolumeClaim) verdict.Verdict {
	name := p.attributesClassName(claim)
	if name == "" || !p.AttributesClasses || p.Caches.AttributesClasses != nil || !p.Driver.CanModify() {
		return verdict.Verdict{}
	}
	class, err := p.Client.StorageV1().VolumeAttributesClasses().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		p.fetched.put(name, nil)
	case err != nil:
		return verdict.Refused(verdict.AttributesNotReadable,
			"provisioning was not started (tried again by itself): reading VolumeAttributesClass %q (get, or better list and watch, on volumeattributesclasses must be granted): %v", name, err)
	default:
		p.fetched.put(name, class)
	}
	return verdict.Verdict{}
}

// attributes returns the claim's VolumeAttributesClass, nil if the claim names none.
func (p *Planner) attributes(claim *v1.PersistentVolumeClaim, before func(waitlist.Object)) (*storagev1.VolumeAttributesClass, verdict.Verdict) {
	name := p.attributesClassName(claim)
	if name == "" {
		return nil, verdict.Verdict{}
	}
	before(waitlist.AttributesClass(name))
	class := p.Caches.AttributesClass(name)
	if p.Caches.AttributesClasses == nil {
		class = p.fetched.get(name)
	}
	v := request.JudgeAttributes(request.Attributes{
		Name: name, Class: class, Driver: p.Driver.Name, Modifies: p.Driver.CanModify(), Heeded: p.AttributesClasses,
	})
	if !v.Ready() {
		return nil, v
	}
	return class, v
}

// lacksAttributes returns what is missing in a request whose VolumeAttributesClass no longer
// exists; "" if nothing is.
func lacksAttributes(name string, v verdict.Verdict) string {
	if v.Ready() {
		return ""
	}
	return fmt.Sprintf("VolumeAttributesClass %q", name)
}
