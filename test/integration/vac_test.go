package integration

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// VolumeAttributesClasses, "gold" of these tests for short.

func modifies(c *demodriver.Config) { c.Modifies = true }

func golden() map[string]string { return map[string]string{"tier": "gold", "iops": "9000"} }

// inGold asks for the test's own VolumeAttributesClass.
func inGold(claim *v1.PersistentVolumeClaim) {
	name := claim.Namespace + "-gold"
	claim.Spec.VolumeAttributesClassName = &name
}

func putGold(t *testing.T, env *kit.Env, driver string) {
	t.Helper()
	class := &storagev1.VolumeAttributesClass{ObjectMeta: metav1.ObjectMeta{Name: env.Namespace + "-gold"}, DriverName: driver, Parameters: golden()}
	if _, err := env.Admin.StorageV1().VolumeAttributesClasses().Create(env.Ctx, class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// dropGold takes the class away for good: Kubernetes keeps it while claims name it.
func dropGold(t *testing.T, env *kit.Env) {
	t.Helper()
	classes, name := env.Admin.StorageV1().VolumeAttributesClasses(), env.Namespace+"-gold"
	if err := classes.Delete(env.Ctx, name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	class, err := classes.Get(env.Ctx, name, metav1.GetOptions{})
	if err != nil {
		return
	}
	class.Finalizers = nil
	if _, err := classes.Update(env.Ctx, class, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func noGold(env *kit.Env) told {
	return told{"Normal", "VolumeAttributesClassNotFound", fmt.Sprintf(
		"the claim waits for VolumeAttributesClass %q, which does not exist; provisioning starts by itself when it is there", env.Namespace+"-gold")}
}

func checkGold(t *testing.T, env *kit.Env, claim string) {
	t.Helper()
	pv := env.PV(claim)
	if got := pv.Spec.VolumeAttributesClassName; got == nil || *got != env.Namespace+"-gold" {
		t.Errorf("the PV of %q names VolumeAttributesClass %v", claim, got)
	}
	for _, volume := range env.Driver.Driver.Volumes() {
		if volume.ID == pv.Spec.CSI.VolumeHandle && !maps.Equal(volume.MutableParameters, golden()) {
			t.Errorf("the volume of %q has mutable parameters %v", claim, volume.MutableParameters)
		}
	}
	if got := requestFor(t, env, claim).GetMutableParameters(); !maps.Equal(got, golden()) {
		t.Errorf("the driver was asked for mutable parameters %v", got)
	}
}

func TestAVolumeAttributesClassReachesTheDriverAndThePV(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.DriverConfig(modifies))
	putGold(t, env, env.DriverName)
	env.StartProvisioner()
	env.Create(env.Claim("data", inGold), env.Claim("plain"))
	env.WaitBound("data", "plain")
	env.Create(env.Claim("copy", inGold, kit.CloneOf("data")))
	env.WaitBound("copy")
	checkGold(t, env, "data")
	checkGold(t, env, "copy")
	if got := env.PV("plain").Spec.VolumeAttributesClassName; got != nil {
		t.Errorf("a claim without one gets VolumeAttributesClass %q", *got)
	}
}

func TestAClaimWaitsForItsVolumeAttributesClass(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.DriverConfig(modifies))
	env.StartProvisioner(noBackOff, noBackOffMax)
	env.Create(env.Claim("data", inGold), env.Claim("given-up", inGold))
	for _, claim := range []string{"data", "given-up"} {
		env.Eventually("the claim waits", func() error { return heard(env, claim, noGold(env)) })
		if err := unmarked(env, claim); err != nil {
			t.Error(err)
		}
	}
	env.Delete("given-up")
	env.WaitGone("given-up")
	putGold(t, env, env.DriverName)
	created := time.Now()
	env.WaitBound("data")
	logDelays(t, env, created, "the class was created", "data")
	checkGold(t, env, "data")
	env.Eventually("nothing else was told", func() error { return heard(env, "data", append([]told{noGold(env)}, success(env, "data")...)...) })
}

func TestAVolumeAttributesClassThatCannotBeHadIsTold(t *testing.T) {
	t.Parallel()
	t.Run("it is of another driver", func(t *testing.T) {
		t.Parallel()
		env := kit.New(t, kit.DriverConfig(modifies))
		putGold(t, env, otherDriver)
		env.StartProvisioner()
		env.Create(env.Claim("data", inGold))
		want := told{"Warning", "VolumeAttributesClassOfAnotherDriver", fmt.Sprintf(
			"VolumeAttributesClass %q belongs to driver %q, the claim was given to driver %q; create the claim again with another spec.volumeAttributesClassName, or without", env.Namespace+"-gold", otherDriver, env.DriverName)}
		env.Eventually("that is told", func() error { return heard(env, "data", want) })
		dropGold(t, env)
		putGold(t, env, env.DriverName)
		env.WaitBound("data")
		checkGold(t, env, "data")
	})
	t.Run("the driver has none", func(t *testing.T) {
		t.Parallel()
		env := kit.New(t)
		putGold(t, env, env.DriverName)
		env.StartProvisioner()
		env.Create(env.Claim("data", inGold))
		want := told{"Warning", "DriverCapabilityMissing", fmt.Sprintf(
			"the claim asks for VolumeAttributesClass %q, but driver %q has no such classes (no MODIFY_VOLUME capability); create the claim again without spec.volumeAttributesClassName", env.Namespace+"-gold", env.DriverName)}
		env.Eventually("that is told", func() error { return heard(env, "data", want) })
	})
	t.Run("the gate is closed", func(t *testing.T) {
		t.Parallel()
		env := kit.New(t, kit.DriverConfig(modifies))
		p := env.StartProvisioner("--feature-gates=VolumeAttributesClass=false")
		env.Create(env.Claim("data", inGold), env.Claim("plain"))
		want := told{"Warning", "VolumeAttributesClassesDisabled", fmt.Sprintf(
			"the claim asks for VolumeAttributesClass %q, but the feature gate VolumeAttributesClass is switched off here, or the API server has no such classes in storage.k8s.io/v1; create the claim again without spec.volumeAttributesClassName", env.Namespace+"-gold")}
		env.Eventually("that is told", func() error { return heard(env, "data", want) })
		env.WaitBound("plain")
		p.Stop()
		putGold(t, env, env.DriverName)
		env.StartProvisioner()
		env.WaitBound("data")
		checkGold(t, env, "data")
	})
}

// The incumbent's manifests grant nothing for these classes; with "get", which is what
// the incumbent needs, they must work here, too.
func TestVolumeAttributesClassesWithLessRights(t *testing.T) {
	t.Parallel()
	t.Run("get alone", func(t *testing.T) {
		t.Parallel()
		get := rbacv1.PolicyRule{APIGroups: []string{"storage.k8s.io"}, Resources: []string{"volumeattributesclasses"}, Verbs: []string{"get"}}
		env := kit.New(t, kit.DriverConfig(modifies), kit.As(kit.IncumbentRBAC), kit.WithRules(get))
		p := env.StartProvisioner()
		env.Create(env.Claim("data", inGold))
		env.Eventually("the claim waits", func() error { return heard(env, "data", noGold(env)) })
		putGold(t, env, env.DriverName)
		created := time.Now()
		env.WaitBound("data")
		t.Logf("bound %s after the class was created", time.Since(created).Round(time.Millisecond))
		checkGold(t, env, "data")
		if !strings.Contains(p.Log(), "resources: [volumeattributesclasses], verbs: [list, watch]") {
			t.Error("the log does not say which rule is missing")
		}
	})
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		env := kit.New(t, kit.DriverConfig(modifies), kit.As(kit.IncumbentRBAC))
		env.AllowForbidden()
		putGold(t, env, env.DriverName)
		env.StartProvisioner()
		env.Create(env.Claim("data", inGold), env.Claim("plain"))
		env.WaitBound("plain")
		event := env.WaitEvent("data", "VolumeAttributesClassNotReadable")
		if !strings.Contains(event.Message, "volumeattributesclasses must be granted") || !strings.Contains(event.Message, "forbidden") {
			t.Errorf("event is %q", event.Message)
		}
	})
}

func TestACleanUpWhoseVolumeAttributesClassIsGone(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]bool{"in the same process": false, "in another process": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := kit.New(t, kit.DriverConfig(modifies))
			putGold(t, env, env.DriverName)
			p := env.StartProvisioner(alone)
			hung(env, inGold)
			if other {
				p.Kill()
			}
			dropGold(t, env)
			env.Delete("data")
			env.Faults.Reset()
			if other {
				env.StartProvisioner(alone)
			}
			env.WaitGone("data")
			env.Eventually("no volume is left", func() error { return volumes(env, 0) })
		})
	}
}
