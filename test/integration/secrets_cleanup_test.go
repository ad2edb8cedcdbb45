package integration

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// Claims that are deleted while nobody knows whether their volume exists, and what
// becomes of the Secret in between.

// hung creates claim "data" with a volume of which the provisioner does not hear before
// the faults are reset.
func hung(env *kit.Env, options ...kit.ClaimOption) *faults.Rule {
	rule := env.Faults.On("CreateVolume").LoseReply()
	env.Create(env.Claim("data", options...))
	env.WaitEvent("data", "ProvisioningFailed")
	return rule
}

func pinnedSecret(env *kit.Env, claim string) string {
	return env.Get(claim).Annotations[strings.ToLower(env.DriverName)+"/provisioner-secret"]
}

// lastSecrets returns the secrets of the last CreateVolume.
func lastSecrets(env *kit.Env) map[string]string {
	calls := env.Faults.Calls("CreateVolume")
	if req, ok := calls[len(calls)-1].Request.(*csi.CreateVolumeRequest); ok {
		return req.GetSecrets()
	}
	return nil
}

func checkCleanedUp(t *testing.T, env *kit.Env) {
	t.Helper()
	env.WaitGone("data")
	env.Eventually("no volume is left", func() error { return volumes(env, 0) })
	if got := lastSecrets(env); !maps.Equal(got, credentials()) {
		t.Errorf("the volume was looked for with secrets %v", got)
	}
	for _, got := range secretsOfDeletions(env) {
		if !maps.Equal(got, credentials()) {
			t.Errorf("DeleteVolume has secrets %v", got)
		}
	}
}

func TestACleanUpUsesTheSecretThatTheVolumeWasBegunWith(t *testing.T) {
	t.Parallel()
	byTeam := named("${pvc.annotations['team']}-credentials")
	team := func(name string) kit.ClaimOption { return kit.Annotation("team", name) }
	t.Run("the class is gone", func(t *testing.T) {
		t.Parallel()
		env := secretive(t, byTeam, kit.DriverConfig(wantsCredentials))
		putSecret(t, env, "blue-credentials", credentials())
		env.StartProvisioner()
		hung(env, team("blue"))
		dropClass(t, env, env.Class)
		env.WaitEvent("data", "StorageClassNotFound")
		env.Faults.Reset()
		env.Delete("data")
		checkCleanedUp(t, env)
	})
	t.Run("the class names another one", func(t *testing.T) {
		t.Parallel()
		env := secretive(t, named("old"), kit.DriverConfig(wantsCredentials))
		putSecret(t, env, "old", credentials())
		putSecret(t, env, "new", map[string]string{"user": "nobody"})
		env.StartProvisioner()
		hung(env)
		dropClass(t, env, env.Class)
		env.CreateClass(env.Class, func(class *storagev1.StorageClass) { class.Parameters = named("new") })
		env.Delete("data")
		env.Faults.Reset()
		checkCleanedUp(t, env)
	})
	t.Run("the class names another one, another process cleans up, and a PV proves it", func(t *testing.T) {
		t.Parallel()
		env := secretive(t, named("old"), kit.DriverConfig(wantsCredentials))
		putSecret(t, env, "old", credentials())
		putSecret(t, env, "new", map[string]string{"user": "nobody"})
		p := env.StartProvisioner(alone)
		env.Create(env.Claim("earlier"))
		env.WaitBound("earlier")
		hung(env)
		p.Kill()
		dropClass(t, env, env.Class)
		env.CreateClass(env.Class, func(class *storagev1.StorageClass) { class.Parameters = named("new") })
		env.Delete("data")
		env.Faults.Reset()
		env.StartProvisioner(alone)
		env.WaitGone("data")
		env.Eventually("only the other volume is left", func() error { return volumes(env, 1) })
		if got := lastSecrets(env); !maps.Equal(got, credentials()) {
			t.Errorf("the volume was looked for with secrets %v", got)
		}
	})
	t.Run("the claim names another one, and another process cleans up", func(t *testing.T) {
		t.Parallel()
		env := secretive(t, byTeam, kit.DriverConfig(wantsCredentials))
		putSecret(t, env, "blue-credentials", credentials())
		putSecret(t, env, "red-credentials", map[string]string{"user": "nobody"})
		p := env.StartProvisioner(alone)
		hung(env, team("blue"))
		if got, want := pinnedSecret(env, "data"), env.Namespace+"/blue-credentials"; got != want {
			t.Errorf("the record names Secret %q, want %q", got, want)
		}
		p.Kill()
		env.Update("data", func(claim *v1.PersistentVolumeClaim) { claim.Annotations["team"] = "red" })
		env.Faults.Reset()
		env.Delete("data")
		env.StartProvisioner(alone)
		checkCleanedUp(t, env)
	})
	t.Run("the claim goes on with it, too", func(t *testing.T) {
		t.Parallel()
		env := secretive(t, byTeam, kit.DriverConfig(wantsCredentials))
		putSecret(t, env, "blue-credentials", credentials())
		putSecret(t, env, "red-credentials", map[string]string{"user": "nobody"})
		p := env.StartProvisioner(alone)
		hung(env, team("blue"))
		p.Kill()
		env.Update("data", func(claim *v1.PersistentVolumeClaim) { claim.Annotations["team"] = "red" })
		env.Faults.Reset()
		env.StartProvisioner(alone)
		env.WaitBound("data")
		if got := env.PV("data").Annotations[deletionName]; got != "blue-credentials" {
			t.Errorf("the PV names Secret %q", got)
		}
		env.Eventually("nothing is left of the record", func() error {
			if got := pinnedSecret(env, "data"); got != "" {
				return fmt.Errorf("the claim still names Secret %q", got)
			}
			return nil
		})
	})
	t.Run("a Secret that the class could not have named is not believed", func(t *testing.T) {
		t.Parallel()
		env := secretive(t, byTeam, kit.DriverConfig(wantsCredentials))
		putSecret(t, env, "blue-credentials", credentials())
		putSecret(t, env, "somebody-elses", map[string]string{"user": "root"})
		p := env.StartProvisioner(alone)
		hung(env, team("blue"))
		p.Kill()
		env.Update("data", func(claim *v1.PersistentVolumeClaim) {
			claim.Annotations[strings.ToLower(env.DriverName)+"/provisioner-secret"] = env.Namespace + "/somebody-elses"
		})
		env.Faults.Reset()
		env.Delete("data")
		env.StartProvisioner(alone)
		checkCleanedUp(t, env)
		for _, call := range env.Faults.Calls("CreateVolume") {
			if strings.Contains(fmt.Sprint(call.Request), "root") {
				t.Errorf("the driver was called with a Secret that a user has chosen: %v", call.Request)
			}
		}
	})
}

// As when the namespace is deleted, and the Secret goes with the claim.
func TestACleanUpWhoseSecretIsGone(t *testing.T) {
	t.Parallel()
	for name, process := range map[string]bool{"in the same process": false, "in another process": true} {
		t.Run("the driver can do without, "+name, func(t *testing.T) {
			t.Parallel()
			env := secretive(t, named("credentials"))
			putSecret(t, env, "credentials", credentials())
			p := env.StartProvisioner(alone)
			hung(env)
			if process {
				p.Kill()
			}
			dropSecret(t, env, "credentials")
			env.Delete("data")
			env.Faults.Reset()
			if process {
				env.StartProvisioner(alone)
			}
			env.WaitGone("data")
			env.Eventually("no volume is left", func() error { return volumes(env, 0) })
		})
		t.Run("the driver wants it, "+name, func(t *testing.T) {
			t.Parallel()
			env := secretive(t, named("credentials"), kit.DriverConfig(wantsCredentials))
			putSecret(t, env, "credentials", credentials())
			p := env.StartProvisioner(alone)
			hung(env)
			if process {
				p.Kill()
			}
			dropSecret(t, env, "credentials")
			env.Delete("data")
			env.Faults.Reset()
			if process {
				env.StartProvisioner(alone)
			}
			env.Eventually("the clean-up is blocked, and that is told", func() error {
				event := env.WaitEvent("data", "CleanUpBlocked")
				for _, words := range []string{fmt.Sprintf("Secret %q", env.Namespace+"/credentials"), "does not exist", "Unauthenticated"} {
					if !strings.Contains(event.Message, words) {
						return fmt.Errorf("the event is %q", event.Message)
					}
				}
				return nil
			})
			putSecret(t, env, "credentials", credentials())
			checkCleanedUpAtLast(t, env)
		})
	}
}

// Drivers answer InvalidArgument when they miss their secrets. That is a final error, which
// else would prove that nothing exists; not of a call that had to do without.
func TestARefusalForWantOfASecretProvesNothing(t *testing.T) {
	t.Parallel()
	env := secretive(t, named("credentials"))
	putSecret(t, env, "credentials", credentials())
	env.StartProvisioner(alone)
	rule := hung(env)
	dropSecret(t, env, "credentials")
	env.Delete("data")
	refusal := env.Faults.On("CreateVolume").
		When(faults.Request(func(req *csi.CreateVolumeRequest) bool { return len(req.GetSecrets()) == 0 })).
		Fail(codes.InvalidArgument, "secrets are missing")
	rule.Remove() // before it, the first
	env.Eventually("it was refused more often than it takes to prove that nothing exists", func() error {
		if refusal.Hits() < 4 {
			return fmt.Errorf("%d times", refusal.Hits())
		}
		return onRecord(env, "data")
	})
	if err := volumes(env, 1); err != nil {
		t.Error(err)
	}
	putSecret(t, env, "credentials", credentials())
	checkCleanedUp(t, env)
}

func checkCleanedUpAtLast(t *testing.T, env *kit.Env) {
	t.Helper()
	env.WaitGone("data")
	env.Eventually("no volume is left", func() error { return volumes(env, 0) })
	if got := lastSecrets(env); !maps.Equal(got, credentials()) {
		t.Errorf("the volume was looked for with secrets %v", got)
	}
}
