package main

import (
	"context"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// givenTo is how the PV controller gives a claim to a driver.
	givenTo = "volume.kubernetes.io/storage-provisioner"
	// provisionedBy is how the PV controller knows whom to leave a PV to.
	provisionedBy = "pv.kubernetes.io/provisioned-by"
)

// provision makes the volume and the PV of a claim.
func (f *floor) provision(ctx context.Context, key string) error {
	obj, found, err := f.store.GetByKey(key)
	if err != nil || !found {
		return err
	}
	claim := obj.(*v1.PersistentVolumeClaim)
	if claim.Annotations[givenTo] != f.driver || claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil {
		return nil
	}
	// The claim changes once more before it names its PV.
	if _, done := f.done.Load(claim.UID); done {
		return nil
	}
	source, err := f.source(claim)
	if err != nil {
		return err
	}
	request := claim.Spec.Resources.Requests[v1.ResourceStorage]
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := f.csi.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name:                "pvc-" + string(claim.UID),
		CapacityRange:       &csi.CapacityRange{RequiredBytes: request.Value()},
		VolumeContentSource: source,
		VolumeCapabilities: []*csi.VolumeCapability{{
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		}},
	})
	if err != nil {
		return fmt.Errorf("calling the driver: %w", err)
	}
	_, err = f.client.CoreV1().PersistentVolumes().Create(ctx, volume(claim, resp.GetVolume(), f.driver), metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("saving the PV: %w", err)
	}
	f.done.Store(claim.UID, true)
	return nil
}

// source returns the volume that a claim is to be a clone of, nil for none. Its
// PV has the volume's name.
func (f *floor) source(claim *v1.PersistentVolumeClaim) (*csi.VolumeContentSource, error) {
	ref := claim.Spec.DataSource
	if ref == nil {
		return nil, nil
	}
	obj, found, err := f.store.GetByKey(claim.Namespace + "/" + ref.Name)
	if err != nil {
		return nil, err
	}
	if !found || obj.(*v1.PersistentVolumeClaim).Spec.VolumeName == "" {
		return nil, fmt.Errorf("source PVC %q has no PV", ref.Name)
	}
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: obj.(*v1.PersistentVolumeClaim).Spec.VolumeName},
	}}, nil
}

// volume returns the PV of a claim's volume.
func volume(claim *v1.PersistentVolumeClaim, made *csi.Volume, driver string) *v1.PersistentVolume {
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        made.GetVolumeId(),
			Annotations: map[string]string{provisionedBy: driver},
		},
		Spec: v1.PersistentVolumeSpec{
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: *resource.NewQuantity(made.GetCapacityBytes(), resource.BinarySI)},
			PersistentVolumeReclaimPolicy: v1.PersistentVolumeReclaimDelete,
			StorageClassName:              *claim.Spec.StorageClassName,
			VolumeMode:                    claim.Spec.VolumeMode,
			ClaimRef: &v1.ObjectReference{
				Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: claim.Namespace, Name: claim.Name,
				UID: claim.UID, ResourceVersion: claim.ResourceVersion,
			},
			PersistentVolumeSource: v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{
				Driver: driver, VolumeHandle: made.GetVolumeId(),
			}},
		},
	}
}

// delete removes the volume and the PV of a claim that is gone.
func (f *floor) delete(ctx context.Context, key string) error {
	obj, found, err := f.store.GetByKey(key)
	if err != nil || !found {
		return err
	}
	pv := obj.(*v1.PersistentVolume)
	if pv.Annotations[provisionedBy] != f.driver || pv.Status.Phase != v1.VolumeReleased || pv.DeletionTimestamp != nil {
		return nil
	}
	if _, done := f.done.Load(pv.UID); done {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := f.csi.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: pv.Spec.CSI.VolumeHandle}); err != nil {
		return fmt.Errorf("calling the driver: %w", err)
	}
	err = f.client.CoreV1().PersistentVolumes().Delete(ctx, pv.Name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting the PV: %w", err)
	}
	f.done.Store(pv.UID, true)
	return nil
}
