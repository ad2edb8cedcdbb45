package integration

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// Records that a person has written: they begin nothing that the rules do not allow,
// and hold nobody's source. See TestSourcesInOtherNamespaces for rule 2 across
// namespaces.

// forged makes a claim carry a record from the beginning, in the form of ours.
func forged(env *kit.Env) kit.ClaimOption {
	return kit.Finalizer(env.DriverName + "/provisioning")
}

// forgery is a world in which claim "copy" breaks a rule.
type forgery struct {
	// prepare makes the source, and whatever breaks the rule.
	prepare func(t *testing.T, env *kit.Env)
	options func(env *kit.Env) []kit.ClaimOption
	// reason is what an honest claim would be told.
	reason string
	// held: somebody else keeps the source.
	held bool
}

func forgeries() map[string]forgery {
	bind := func(t *testing.T, env *kit.Env) { bindSource()(t, env) }
	none := func(*kit.Env) []kit.ClaimOption { return nil }
	return map[string]forgery{
		"rule 2, no source":     {prepare: func(*testing.T, *kit.Env) {}, options: none, reason: "CloneSourceNotFound"},
		"rule 3, not bound":     {prepare: unboundSource, options: none, reason: "CloneSourceNotBound"},
		"rule 3, not of ours":   {prepare: foreignSource, options: none, reason: "CloneSourceUnusable"},
		"rule 4, being deleted": {prepare: goingSource, options: none, reason: "CloneSourceDeleting", held: true},
		"rule 5, other class":   {prepare: bind, options: classOfItsOwn, reason: "CloneStorageClassMismatch"},
		"rule 6, in use":        {prepare: usedSource, options: none, reason: "CloneSourceInUse"},
		"rule 7, other mode":    {prepare: bind, options: always(kit.Block()), reason: "CloneVolumeModeMismatch"},
		"rule 8, too small":     {prepare: bind, options: always(kit.Size("1Mi")), reason: "CloneTooSmall"},
	}
}

func unboundSource(_ *testing.T, env *kit.Env) {
	class := env.CreateClass(env.Class+"-wait", func(class *storagev1.StorageClass) {
		mode := storagev1.VolumeBindingWaitForFirstConsumer
		class.VolumeBindingMode = &mode
	})
	env.Create(env.Claim("src", kit.Class(class.Name)))
}

func foreignSource(t *testing.T, env *kit.Env) {
	bindByHandNew(t, env, "src", csiVolume(otherDriver, "volume-1"))
}

func goingSource(t *testing.T, env *kit.Env) {
	bindSource(kit.Finalizer(keeper))(t, env)
	env.Delete("src")
}

func usedSource(t *testing.T, env *kit.Env) {
	bindSource()(t, env)
	env.CreatePod(env.Pod("app", kit.OnNode("a"), kit.Mounts("src")))
	pod, err := env.Admin.CoreV1().Pods(env.Namespace).Get(env.Ctx, "app", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secondAfter(t, env, pod.CreationTimestamp) // a pod of the same second may have come later
}

func classOfItsOwn(env *kit.Env) []kit.ClaimOption {
	return []kit.ClaimOption{kit.Class(env.CreateClass(env.Class + "-other").Name)}
}

func TestAForgedRecordSkipsNoRule(t *testing.T) {
	t.Parallel()
	common := kit.New(t)
	common.StartProvisioner("--extra-create-metadata", "--retry-interval-max=500ms", longRemovalDelay)
	for name, f := range forgeries() {
		t.Run(name, func(t *testing.T) {
			env := common.Beside(t)
			t.Parallel()
			f.prepare(t, env)
			env.Create(env.Claim("copy", append(f.options(env), forged(env), kit.CloneOf("src"))...))
			env.Eventually("the rule is told", func() error {
				for _, event := range said(env, "copy") {
					if event.Reason == f.reason || event.Reason == "ProvisioningFailed" {
						return nil
					}
				}
				return fmt.Errorf("it has heard %v", said(env, "copy"))
			})
			env.Steadily("nothing is made, and no source is held", 1500*time.Millisecond, func() error {
				return errors.Join(noCalls(env, "copy"), notProtected(env))
			})
			// The source can go at once, as can the claim. One in use Kubernetes keeps.
			used := f.reason == "CloneSourceInUse"
			if hasSource := slices.Contains(claimsOf(env), "src"); hasSource && !used {
				leaveForged(t, env, f.held)
			}
			if err := noCalls(env, "copy"); err != nil {
				t.Error(err)
			}
			env.Delete("copy")
			env.WaitGone("copy")
			if used {
				env.DeletePod("app")
				leaveForged(t, env, f.held)
			} else if calls := cloneCallsIn(env); len(calls) > 0 {
				t.Errorf("copies were made: %v", calls)
			}
		})
	}
}

// cloneCallsIn returns the requests for copies in the test's namespace.
func cloneCallsIn(env *kit.Env) []any {
	var found []any
	for _, call := range cloneCalls(env) {
		if inNamespace(env.Namespace)(call.Request) {
			found = append(found, call.Request)
		}
	}
	return found
}

func noCalls(env *kit.Env, claim string) error {
	if calls := callsFor(env, claim); len(calls) > 0 {
		return fmt.Errorf("the driver was called: %v", calls[0].Request)
	}
	return nil
}

// notProtected returns an error if a claim of the test is protected as a source.
func notProtected(env *kit.Env) error {
	for _, name := range claimsOf(env) {
		for _, finalizer := range env.Get(name).Finalizers {
			if finalizer == cloningProtection {
				return fmt.Errorf("claim %q is protected as a source", name)
			}
		}
	}
	return nil
}

// leaveForged deletes the source, which must go at once.
func leaveForged(t *testing.T, env *kit.Env, held bool) {
	t.Helper()
	if held {
		env.Update("src", func(claim *v1.PersistentVolumeClaim) {
			claim.Finalizers = slices.DeleteFunc(claim.Finalizers, func(f string) bool { return f == keeper })
		})
	} else {
		env.Delete("src")
	}
	env.WaitGone("src")
}
