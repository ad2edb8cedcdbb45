package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// protectedPV says whether the PV carries the finalizer of deletion.
func protectedPV(t *testing.T, env *kit.Env, name string) bool {
	t.Helper()
	pv, err := env.Admin.CoreV1().PersistentVolumes().Get(env.Ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Contains(pv.Finalizers, wellknown.PVFinalizer)
}

// A PV that a person has made for a volume of the driver is treated like one of ours:
// protected while it is bound, let go when it is to be retained, and deleted with its
// volume.
func TestAPVThatAPersonMadeIsDeletedWithItsVolume(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner()
	conn, err := grpc.NewClient("unix://"+env.Driver.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}()
	made, err := csi.NewControllerClient(conn).CreateVolume(env.Ctx, &csi.CreateVolumeRequest{
		Name: env.Namespace + "-by-hand", CapacityRange: &csi.CapacityRange{RequiredBytes: 1 << 30},
		VolumeCapabilities: []*csi.VolumeCapability{{
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	name, handle := env.Namespace+"-by-hand", made.GetVolume().GetVolumeId()
	pvs := env.Admin.CoreV1().PersistentVolumes()
	policy := func(policy v1.PersistentVolumeReclaimPolicy) {
		env.Eventually("the policy is changed", func() error {
			pv, err := pvs.Get(env.Ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			pv.Spec.PersistentVolumeReclaimPolicy = policy
			_, err = pvs.Update(env.Ctx, pv, metav1.UpdateOptions{})
			return err
		})
	}
	protection := func(want bool) {
		env.Eventually(fmt.Sprintf("the PV is protected: %t", want), func() error {
			if got := protectedPV(t, env, name); got != want {
				return fmt.Errorf("it is %t", got)
			}
			return nil
		})
	}
	if _, err := pvs.Create(env.Ctx, &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1.PersistentVolumeSpec{
			Capacity:                      v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")},
			AccessModes:                   []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
			PersistentVolumeReclaimPolicy: v1.PersistentVolumeReclaimDelete,
			StorageClassName:              env.Class,
			PersistentVolumeSource:        v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{Driver: env.DriverName, VolumeHandle: handle}},
		},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	claim := env.Claim("data")
	claim.Spec.VolumeName = name
	env.Create(claim)
	env.WaitBound("data")
	protection(true)
	policy(v1.PersistentVolumeReclaimRetain)
	protection(false)
	policy(v1.PersistentVolumeReclaimDelete)
	protection(true)
	if n := len(env.Faults.Calls("CreateVolume")); n != 1 {
		t.Errorf("the driver was asked for %d volumes, want the one by hand", n)
	}
	env.Delete("data")
	env.WaitPVGone(name)
	calls := env.Faults.Calls("DeleteVolume")
	if len(calls) != 1 || calls[0].Request.(*csi.DeleteVolumeRequest).GetVolumeId() != handle {
		t.Errorf("DeleteVolume was called %v, want once for %q", calls, handle)
	}
}

// A PV that is deleted before its claim waits for that, and its volume with it.
func TestAPVThatIsDeletedBeforeItsClaimWaitsForThat(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner()
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	pv := env.PV("data").Name
	if err := env.Admin.CoreV1().PersistentVolumes().Delete(env.Ctx, pv, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	env.Steadily("the volume is kept", time.Second, func() error {
		if n := len(env.Faults.Calls("DeleteVolume")); n > 0 {
			return fmt.Errorf("the driver was asked %d times to delete it", n)
		}
		if !protectedPV(t, env, pv) {
			return fmt.Errorf("the PV has lost its finalizer")
		}
		return nil
	})
	env.Delete("data")
	env.WaitGone("data")
	env.WaitPVGone(pv)
	if n := len(env.Faults.Calls("DeleteVolume")); n != 1 {
		t.Errorf("the driver was asked %d times to delete the volume", n)
	}
}
