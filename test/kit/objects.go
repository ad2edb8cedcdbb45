package kit

import (
	"fmt"
	"path"
	"strings"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// Claims are named as "claim" for one in the test's namespace and as
// "namespace/claim" for others.

// Create creates claims, in this order.
func (e *Env) Create(claims ...*v1.PersistentVolumeClaim) {
	e.t.Helper()
	for _, claim := range claims {
		_, err := e.Admin.CoreV1().PersistentVolumeClaims(claim.Namespace).Create(e.Ctx, claim, metav1.CreateOptions{})
		if err != nil {
			e.t.Fatalf("creating claim %s/%s: %v", claim.Namespace, claim.Name, err)
		}
	}
}

// Get returns a claim as it is now.
func (e *Env) Get(name string) *v1.PersistentVolumeClaim {
	e.t.Helper()
	claim, err := e.get(name)
	if err != nil {
		e.t.Fatal(err)
	}
	return claim
}

func (e *Env) get(name string) (*v1.PersistentVolumeClaim, error) {
	namespace, name := e.split(name)
	claim, err := e.Admin.CoreV1().PersistentVolumeClaims(namespace).Get(e.Ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading claim %s/%s: %w", namespace, name, err)
	}
	return claim, nil
}

// split returns namespace and name of "claim" or "namespace/claim".
func (e *Env) split(name string) (string, string) {
	if namespace, rest, found := strings.Cut(name, "/"); found {
		return namespace, rest
	}
	return e.Namespace, name
}

// Update changes a live claim and saves it, again if somebody else was faster.
func (e *Env) Update(name string, change func(*v1.PersistentVolumeClaim)) *v1.PersistentVolumeClaim {
	e.t.Helper()
	var saved *v1.PersistentVolumeClaim
	err := e.rewrite(name, change, func(claim *v1.PersistentVolumeClaim) (err error) {
		saved, err = e.Admin.CoreV1().PersistentVolumeClaims(claim.Namespace).Update(e.Ctx, claim, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		e.t.Fatalf("changing claim %q: %v", name, err)
	}
	return saved
}

// UpdateStatus is Update for a claim's status: conditions, for instance. Changes
// to its spec are not saved.
func (e *Env) UpdateStatus(name string, change func(*v1.PersistentVolumeClaim)) {
	e.t.Helper()
	err := e.rewrite(name, change, func(claim *v1.PersistentVolumeClaim) error {
		_, err := e.Admin.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(e.Ctx, claim, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		e.t.Fatalf("changing the status of claim %q: %v", name, err)
	}
}

// rewrite reads, changes and saves a claim until nobody comes in between.
func (e *Env) rewrite(name string, change func(*v1.PersistentVolumeClaim), save func(*v1.PersistentVolumeClaim) error) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		claim, err := e.get(name)
		if err != nil {
			return err
		}
		change(claim)
		return save(claim)
	})
}

// Delete asks for the deletion of claims; WaitGone waits for it.
func (e *Env) Delete(names ...string) {
	e.t.Helper()
	for _, name := range names {
		namespace, name := e.split(name)
		err := e.Admin.CoreV1().PersistentVolumeClaims(namespace).Delete(e.Ctx, name, metav1.DeleteOptions{})
		if err != nil {
			e.t.Fatalf("deleting claim %s/%s: %v", namespace, name, err)
		}
	}
}

// WaitBound waits until claims are bound.
func (e *Env) WaitBound(names ...string) {
	e.t.Helper()
	for _, name := range names {
		e.Eventually(fmt.Sprintf("claim %q is bound", name), func() error {
			claim, err := e.get(name)
			if err != nil {
				return err
			}
			if claim.Status.Phase != v1.ClaimBound {
				return fmt.Errorf("it is %s", claim.Status.Phase)
			}
			return nil
		})
	}
}

// WaitGone waits until claims do not exist any more.
func (e *Env) WaitGone(names ...string) {
	e.t.Helper()
	for _, name := range names {
		e.Eventually(fmt.Sprintf("claim %q is gone", name), func() error {
			claim, err := e.get(name)
			if apierrors.IsNotFound(err) {
				return nil
			}
			if err != nil {
				return err
			}
			return fmt.Errorf("it is still there, finalizers %v", claim.Finalizers)
		})
	}
}

// PV returns the PersistentVolume a claim is bound to.
func (e *Env) PV(claim string) *v1.PersistentVolume {
	e.t.Helper()
	name := e.Get(claim).Spec.VolumeName
	if name == "" {
		e.t.Fatalf("claim %q has no PV yet; use WaitBound first", claim)
	}
	pv, err := e.Admin.CoreV1().PersistentVolumes().Get(e.Ctx, name, metav1.GetOptions{})
	if err != nil {
		e.t.Fatalf("reading PV %q of claim %q: %v", name, claim, err)
	}
	return pv
}

// PVs returns the PVs of the test's driver. Those of the in-tree plugin that it took
// over (see EBS) have a CSI source beside their own, for whoever looks for their volume.
func (e *Env) PVs() []v1.PersistentVolume {
	e.t.Helper()
	pvs, err := e.pvs()
	if err != nil {
		e.t.Fatal(err)
	}
	return pvs
}

func (e *Env) pvs() ([]v1.PersistentVolume, error) {
	list, err := e.Admin.CoreV1().PersistentVolumes().List(e.Ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing PVs: %w", err)
	}
	var ours []v1.PersistentVolume
	for _, pv := range list.Items {
		if handle := e.handleOf(&pv); handle != "" {
			if pv.Spec.CSI == nil {
				pv.Spec.CSI = &v1.CSIPersistentVolumeSource{Driver: e.DriverName, VolumeHandle: handle}
			}
			ours = append(ours, pv)
		}
	}
	return ours, nil
}

// EBS and EBSInTree are the name of a CSI driver and of the in-tree plugin that it took
// over. Written out, and the little that is needed of the translation too, not taken
// from what the product uses.
const (
	EBS       = "ebs.csi.aws.com"
	EBSInTree = "kubernetes.io/aws-ebs"
)

// handleOf returns the handle of the PV's volume, "" if that is not of the test's driver.
func (e *Env) handleOf(pv *v1.PersistentVolume) string {
	switch {
	case pv.Spec.CSI != nil && pv.Spec.CSI.Driver == e.DriverName:
		return pv.Spec.CSI.VolumeHandle
	case pv.Spec.AWSElasticBlockStore != nil && e.DriverName == EBS:
		// As it is, or as aws://zone/volume.
		return path.Base(pv.Spec.AWSElasticBlockStore.VolumeID)
	}
	return ""
}

// WaitPVGone waits until a PV does not exist any more.
func (e *Env) WaitPVGone(name string) {
	e.t.Helper()
	e.Eventually(fmt.Sprintf("PV %q is gone", name), func() error {
		pv, err := e.Admin.CoreV1().PersistentVolumes().Get(e.Ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return fmt.Errorf("it is still there, %s, finalizers %v", pv.Status.Phase, pv.Finalizers)
	})
}
