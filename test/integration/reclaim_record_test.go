package integration

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

const (
	retain = v1.PersistentVolumeReclaimRetain
	remove = v1.PersistentVolumeReclaimDelete
)

// withPolicy makes a class one with the policy.
func withPolicy(policy v1.PersistentVolumeReclaimPolicy) func(*storagev1.StorageClass) {
	return func(class *storagev1.StorageClass) { class.ReclaimPolicy = &policy }
}

// stays waits until the PV of a claim that is gone is Released, and checks that its volume
// is not deleted.
func stays(t *testing.T, env *kit.Env, pv string) {
	t.Helper()
	env.Eventually("the PV is released", func() error {
		live, err := env.Admin.CoreV1().PersistentVolumes().Get(env.Ctx, pv, metav1.GetOptions{})
		if err == nil && (live.Status.Phase != v1.VolumeReleased || live.Spec.PersistentVolumeReclaimPolicy != retain) {
			err = fmt.Errorf("it is %s, %s", live.Status.Phase, live.Spec.PersistentVolumeReclaimPolicy)
		}
		return err
	})
	env.Steadily("its volume stays", 2*time.Second, func() error {
		if noVolume(env, pv) == nil {
			return errors.New("it is gone")
		}
		return nil
	})
}

func TestReclaimPolicyOnRecordCanOnlyBecomeStricter(t *testing.T) {
	t.Parallel()
	recreate := func(policy v1.PersistentVolumeReclaimPolicy) func(*testing.T, *kit.Env) {
		return func(t *testing.T, env *kit.Env) {
			dropClass(t, env, env.Class)
			env.CreateClass(env.Class, withPolicy(policy))
		}
	}
	write := func(policy v1.PersistentVolumeReclaimPolicy) func(*testing.T, *kit.Env) {
		return func(_ *testing.T, env *kit.Env) {
			env.Update("data", kit.Annotation(env.DriverName+"/reclaim-policy", string(policy)))
		}
	}
	for name, c := range map[string]struct {
		class     v1.PersistentVolumeReclaimPolicy
		meanwhile func(*testing.T, *kit.Env)
		stays     bool
	}{
		"class recreated with Delete":            {retain, recreate(remove), true},
		"class recreated with Retain":            {remove, recreate(retain), true},
		"class recreated as it was":              {remove, recreate(remove), false},
		"Delete written on a Retain class claim": {retain, write(remove), true},
		"Retain written on a Delete class claim": {remove, write(retain), true},
		"nonsense on a Delete class claim":       {remove, write("delete"), false},
		"nothing on a Retain class claim":        {retain, write(""), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := kit.New(t, kit.ReclaimPolicy(c.class))
			args := []string{alone, "--timeout=1s", "--retry-interval-max=500ms"}
			p := env.StartProvisioner(args...)
			rule := env.Faults.On("CreateVolume").LoseReply()
			env.Create(env.Claim("data"))
			env.WaitEvent("data", "ProvisioningFailed")
			pv := "pvc-" + string(env.Get("data").UID)
			p.Kill()
			rule.Remove()
			c.meanwhile(t, env)
			env.Delete("data")
			env.StartProvisioner(args...)
			env.WaitGone("data")
			if c.stays {
				stays(t, env, pv)
				return
			}
			env.Eventually("the volume is deleted", func() error { return noVolume(env, pv) })
		})
	}
}

// An uninstall deletes class and claims together.
func TestReclaimPolicyOfAClassThatIsGoneIsThatWhichWasRead(t *testing.T) {
	t.Parallel()
	for _, policy := range []v1.PersistentVolumeReclaimPolicy{retain, remove} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			env := kit.New(t, kit.ReclaimPolicy(policy))
			env.StartProvisioner("--timeout=1s", "--retry-interval-max=500ms")
			rule := env.Faults.On("CreateVolume").LoseReply()
			env.Create(env.Claim("data"))
			env.WaitEvent("data", "ProvisioningFailed")
			pv := "pvc-" + string(env.Get("data").UID)
			dropClass(t, env, env.Class)
			env.Delete("data")
			rule.Remove()
			env.WaitGone("data")
			if policy == retain {
				stays(t, env, pv)
				return
			}
			env.Eventually("the volume is deleted", func() error { return noVolume(env, pv) })
		})
	}
}

// The record would make a process ask the driver for the volume again: without its PV that
// would be a volume which nobody is to delete, and which would then be deleted.
func TestNoRecordOutlivesItsPV(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	p := env.StartProvisioner(alone)
	record := env.DriverName + "/provisioning"
	allow := ourWrites(env, "data", fmt.Sprintf("!object.metadata.finalizers.exists(f, f == %q)", record)).install(t, env)
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	pv := env.PV("data")
	pvs := env.Admin.CoreV1().PersistentVolumes()
	patch := func(what string) {
		if _, err := pvs.Patch(env.Ctx, pv.Name, types.MergePatchType, []byte(what), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// The administrator wants volume and data out of the cluster, and loses patience with
	// what protects the PV of a claim.
	patch(`{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}`)
	env.Delete("data")
	if err := pvs.Delete(env.Ctx, pv.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	patch(fmt.Sprintf(`{"metadata":{"finalizers":[%q]}}`, wellknown.PVFinalizer))
	stands := func() error {
		live, err := pvs.Get(env.Ctx, pv.Name, metav1.GetOptions{})
		switch {
		case err != nil:
			return err
		case !slices.Contains(env.Get("data").Finalizers, record):
			return errors.New("the claim is off record")
		case !slices.Contains(live.Finalizers, wellknown.PVFinalizer):
			return fmt.Errorf("the PV has finalizers %q", live.Finalizers)
		}
		return nil
	}
	env.Steadily("the PV stays with the record", 3*time.Second, stands)
	p.Kill()
	env.StartProvisioner(alone)
	env.Steadily("the PV stays with the record after a restart", 3*time.Second, stands)
	allow()
	env.WaitGone("data")
	env.Eventually("the PV goes after the record", func() error {
		if _, err := pvs.Get(env.Ctx, pv.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return errors.Join(errors.New("it is there"), err)
		}
		return nil
	})
	env.Steadily("the volume lives", 2*time.Second, func() error {
		if noVolume(env, pv.Name) == nil {
			return errors.New("it is gone")
		}
		return nil
	})
	if calls := len(callsNamed(env, pv.Name)); calls != 1 || len(env.Faults.Calls("DeleteVolume")) != 0 {
		t.Errorf("%d calls of CreateVolume, want 1, and no DeleteVolume", calls)
	}
	conn, err := env.Driver.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := csi.NewControllerClient(conn).DeleteVolume(env.Ctx, &csi.DeleteVolumeRequest{VolumeId: pv.Spec.CSI.VolumeHandle}); err != nil {
		t.Error(err)
	}
}
