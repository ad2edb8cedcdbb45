package integration

import (
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// A volume that is attached is not deleted; when it is detached, its deletion does not
// wait for the end of a back-off, here five minutes.
func TestADetachedVolumeIsDeletedAtOnce(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	publishes(env)
	env.StartProvisioner(noBackOff, noBackOffMax)
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	pv := env.PV("data").Name
	first, second := env.Attach(pv, "a"), env.Attach(pv, "b")
	env.Delete("data")
	waitPVEvent(env, pv, "VolumeFailedDelete", "is still attached to node", "it is deleted when that is gone")
	env.Detach(first)
	waitPVEvent(env, pv, "VolumeFailedDelete", fmt.Sprintf("VolumeAttachment %q", second))
	if n := len(env.Faults.Calls("DeleteVolume")); n != 0 {
		t.Errorf("%d times the driver was asked to delete a volume that is attached", n)
	}
	env.Detach(second)
	detached := time.Now()
	env.WaitPVGone(pv)
	t.Logf("the PV was gone %s after the volume was detached", time.Since(detached).Round(time.Millisecond))
	if n := len(env.Faults.Calls("DeleteVolume")); n != 1 {
		t.Errorf("the driver was asked %d times", n)
	}
}

// A PV that no claim ever had, and which a person deletes, does not stay for ever
// because of our finalizer; and its volume is not deleted, for nobody knows what is on it.
func TestAPVThatNoClaimHadIsLetGo(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner()
	name := env.Namespace + "-spare"
	pvs := env.Admin.CoreV1().PersistentVolumes()
	_, err := pvs.Create(env.Ctx, &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: []string{wellknown.PVFinalizer}},
		Spec: v1.PersistentVolumeSpec{
			Capacity:                      v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")},
			AccessModes:                   []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
			PersistentVolumeReclaimPolicy: v1.PersistentVolumeReclaimDelete,
			StorageClassName:              env.Class,
			PersistentVolumeSource:        v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{Driver: env.DriverName, VolumeHandle: "precious"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	env.Eventually("the PV is Available", func() error {
		pv, err := pvs.Get(env.Ctx, name, metav1.GetOptions{})
		if err == nil && pv.Status.Phase != v1.VolumeAvailable {
			err = fmt.Errorf("it is %s", pv.Status.Phase)
		}
		return err
	})
	if err := pvs.Delete(env.Ctx, name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	waitPVEvent(env, name, "VolumeKept", `its volume "precious" was not deleted`)
	env.WaitPVGone(name)
	if n := len(env.Faults.Calls("DeleteVolume")); n != 0 {
		t.Errorf("the driver was asked %d times to delete the volume", n)
	}
}

// What comes after DeleteVolume may fail, too, and is told.
func TestAPVThatCannotBeRemovedIsTold(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.WithoutRule("persistentvolumes", "delete"))
	env.AllowForbidden()
	env.StartProvisioner()
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	pv := env.PV("data").Name
	env.Delete("data")
	waitPVEvent(env, pv, "VolumeFailedDelete", fmt.Sprintf("the volume of PV %q is deleted, but the PV could not be removed (tried again by itself)", pv), "forbidden")
	// The administrator does it.
	if err := env.Admin.CoreV1().PersistentVolumes().Delete(env.Ctx, pv, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	patch := []byte(`{"metadata":{"finalizers":null}}`)
	if _, err := env.Admin.CoreV1().PersistentVolumes().Patch(env.Ctx, pv, "application/merge-patch+json", patch, metav1.PatchOptions{}); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	env.WaitPVGone(pv)
	if n := len(env.Faults.Calls("DeleteVolume")); n != 1 {
		t.Errorf("the driver was asked %d times", n)
	}
}
