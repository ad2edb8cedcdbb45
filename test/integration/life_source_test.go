package integration

import (
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// Who holds a source, and who does not. See clone_test.go for what the owner of a
// source is told.

// unprotect takes the protection off a source.
func unprotect(claim *v1.PersistentVolumeClaim) {
	var left []string
	for _, finalizer := range claim.Finalizers {
		if finalizer != cloningProtection {
			left = append(left, finalizer)
		}
	}
	claim.Finalizers = left
}

func TestAProtectionThatIsStrippedIsPutBack(t *testing.T) {
	t.Parallel()
	env, _ := withSource(t, "--timeout=2m")
	gate := gateClones(env)
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	await(t, gate.Entered(), "the driver is called")
	for range 3 {
		env.Update("src", unprotect)
		env.Eventually("the source is protected again", func() error {
			if err := unmarked(env, "src"); err == nil {
				return fmt.Errorf("its finalizers are %v", env.Get("src").Finalizers)
			}
			return nil
		})
	}
	env.Delete("src")
	env.WaitEvent("src", "CloneSourceHeld")
	env.Steadily("the source is held", 500*time.Millisecond, func() error {
		if env.Get("copy").Status.Phase == v1.ClaimBound {
			return fmt.Errorf("the clone is bound already: this proves nothing")
		}
		return nil
	})
	gate.Release()
	env.WaitBound("copy")
	env.WaitGone("src")
	if n := env.CountEvents("src", "CloneSourceHeld"); n != 1 {
		t.Errorf("the source was told %d times why it is held, want once", n)
	}
}

func TestASourceOfManyClonesThatDoNotBeginGoesAtOnce(t *testing.T) {
	t.Parallel()
	env, p := withSource(t, noBackOff, noBackOffMax, longRemovalDelay)
	env.Create(env.Claim("used"))
	env.WaitBound("used")
	env.CreatePod(env.Pod("app", kit.OnNode("a"), kit.Mounts("used")))
	env.CreateClass(env.Class + "-other")
	for i := range someShortLived {
		name := fmt.Sprintf("-%02d", i)
		env.Create(
			env.Claim("waiting"+name, kit.CloneOf("used")),
			env.Claim("small"+name, kit.CloneOf("src"), kit.Size("1Mi")),
			env.Claim("class"+name, kit.CloneOf("src"), kit.Class(env.Class+"-other")))
	}
	env.Eventually("all clones were judged", func() error {
		for i := range someShortLived {
			for _, name := range []string{"waiting", "small", "class"} {
				if err := judged(p, env, fmt.Sprintf("%s-%02d", name, i), 1); err != nil {
					return err
				}
			}
		}
		return nil
	})
	for _, source := range []string{"src", "used"} {
		if err := unmarked(env, source); err != nil {
			t.Error(err)
		}
	}
	env.DeletePod("app") // whose claim Kubernetes itself keeps, and who wakes the clones
	gate := gateClones(env)
	defer gate.Release()
	gone := when(t, env, "src", isGone)
	deleted := time.Now()
	env.Delete("src")
	after := await(t, gone, "the source is gone").Sub(deleted)
	t.Logf("the source of %d clones was gone %s after its deletion", 2*someShortLived, after.Round(time.Millisecond))
	gate.Release()
	for i := range someShortLived {
		env.WaitBound(fmt.Sprintf("waiting-%02d", i))
	}
	leave(env, "used")
}
