package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// All tests of this file have a back-off that nobody lives to see: what starts
// was woken.

// firstCall returns when the driver was first called for a claim.
func firstCall(env *kit.Env, claim string) time.Time { return callsFor(env, claim)[0].Start }

// logDelays logs how long after a moment the driver was first called for claims.
func logDelays(t *testing.T, env *kit.Env, since time.Time, after string, claims ...string) {
	t.Helper()
	var delays []time.Duration
	for _, claim := range claims {
		delays = append(delays, firstCall(env, claim).Sub(since).Round(time.Millisecond))
	}
	slices.Sort(delays)
	if len(delays) == 1 {
		t.Logf("delay of the first CreateVolume: %s after %s", delays[0], after)
		return
	}
	t.Logf("delays of the first CreateVolume of %d claims: %s to %s after %s", len(delays), delays[0], delays[len(delays)-1], after)
}

func waitingFor(source string) told {
	return told{"Normal", "CloneSourceNotFound", fmt.Sprintf(
		`clone waits for source PVC %q, which does not exist; it starts by itself when that PVC is there and bound`, source)}
}

func TestClonesStartWhenTheirSourceAppears(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner(noBackOff, noBackOffMax)
	var clones []string
	for i := range 10 {
		clones = append(clones, fmt.Sprintf("copy-%d", i))
		env.Create(env.Claim(clones[i], kit.CloneOf("src")))
	}
	for _, clone := range clones {
		env.Eventually("the clone waits", func() error { return heard(env, clone, waitingFor("src")) })
	}

	bound := when(t, env, "src", isBound)
	env.Create(env.Claim("src"))
	created := time.Now()
	env.WaitBound(clones...)
	logDelays(t, env, created, "the source was created", clones...)
	logDelays(t, env, await(t, bound, "the source is bound"), "the source was bound", clones...)
	for _, clone := range clones {
		requestFor(t, env, clone) // one call each
		for _, event := range said(env, clone) {
			if event.Type != "Normal" || event.Count > 1 {
				t.Errorf("event of clone %q: %d x %s %s: %s", clone, event.Count, event.Type, event.Reason, event.Message)
			}
		}
	}
	leave(env, "src")
}

func TestACloneStartsWhenItsSourceIsBound(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.WaitForFirstConsumer())
	env.CreateClass(env.Class + "-now")
	env.StartProvisioner(noBackOff, noBackOffMax)
	env.Create(env.Claim("src"), env.Claim("copy", kit.Class(env.Class+"-now"), kit.CloneOf("src")))
	env.Eventually("the clone waits", func() error {
		return heard(env, "copy", told{"Normal", "CloneSourceNotBound",
			`clone waits until source PVC "src" is bound (it is Pending); it then starts by itself`})
	})
	bound := when(t, env, "src", isBound)
	env.Update("src", kit.SelectedNode("node-1"))
	env.WaitBound("src", "copy")
	logDelays(t, env, await(t, bound, "the source is bound"), "the source was bound", "copy")
	leave(env, "src")
}

func TestAClaimStartsWhenItsClassAppears(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner(noBackOff, noBackOffMax)
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	// Given to the driver by hand: so it is when a class was deleted meanwhile.
	class := kit.Class(env.Class + "-later")
	env.Create(env.Claim("blank", class, given(env)), env.Claim("copy", class, given(env), kit.CloneOf("src")))
	for _, claim := range []string{"blank", "copy"} {
		env.Eventually("the claim waits", func() error {
			return heard(env, claim, told{"Normal", "StorageClassNotFound", fmt.Sprintf(
				"the claim waits for StorageClass %q, which does not exist; provisioning starts by itself when it is there", env.Class+"-later")})
		})
	}
	env.CreateClass(env.Class + "-later")
	created := time.Now()
	env.WaitBound("blank", "copy")
	logDelays(t, env, created, "the class was created", "blank", "copy")
	leave(env, "src")
}

func TestACloneStartsWhenThePVOfItsSourceAppears(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner(noBackOff, noBackOffMax)
	env.Create(staticClaim(env, "src"), env.Claim("copy", kit.CloneOf("src")))
	env.Eventually("the clone waits", func() error {
		return heard(env, "copy", told{"Normal", "CloneSourceNotBound",
			`clone waits until source PVC "src" is bound (it is Pending); it then starts by itself`})
	})
	bound := when(t, env, "src", isBound)
	handle := volumeByHand(t, env)
	createPV(t, env, staticPV(env, "src", csiVolume(env.DriverName, handle)))
	env.WaitBound("src", "copy")
	logDelays(t, env, await(t, bound, "the source is bound"), "the source was bound", "copy")
	if got := requestFor(t, env, "copy").GetVolumeContentSource().GetVolume().GetVolumeId(); got != handle {
		t.Errorf("content source is %q, want %q", got, handle)
	}
	leave(env, "src")
}

func TestAChainOfClonesMadeInReverseOrderBinds(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner(noBackOff, noBackOffMax)
	chain := []string{"copy-3", "copy-2", "copy-1", "src"}
	for i, name := range chain[:3] {
		env.Create(env.Claim(name, kit.CloneOf(chain[i+1])))
		env.Eventually("the clone waits", func() error { return heard(env, name, waitingFor(chain[i+1])) })
	}
	bound := when(t, env, "src", isBound)
	env.Create(env.Claim("src"))
	env.WaitBound(chain...)
	since, after := await(t, bound, "the source is bound"), "the source was bound"
	for _, name := range []string{"copy-1", "copy-2", "copy-3"} {
		logDelays(t, env, since, after+" ("+name+")", name)
	}
	for i, name := range chain[:3] {
		want := env.PV(chain[i+1]).Spec.CSI.VolumeHandle
		if got := requestFor(t, env, name).GetVolumeContentSource().GetVolume().GetVolumeId(); got != want {
			t.Errorf("content source of %q is %q, want %q", name, got, want)
		}
	}
	leave(env, "src", "copy-1", "copy-2")
}

func TestAWaitingCloneIsWokenAfterARestart(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	p := env.StartProvisioner(noBackOff, noBackOffMax)
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.Eventually("the clone waits", func() error { return heard(env, "copy", waitingFor("src")) })
	if code := p.Stop(); code != 0 {
		t.Errorf("exit code is %d, want 0", code)
	}
	env.StartProvisioner(noBackOff, noBackOffMax)
	env.Create(env.Claim("src"))
	env.WaitBound("src", "copy")
	leave(env, "src")
}
