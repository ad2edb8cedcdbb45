package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/gateway"
)

// A provisioner whose cache is out of date, or begins anew, or whose API server goes.

const claimsResource = "persistentvolumeclaims"

// behindGateway returns the world of a provisioner behind a gateway, with "src" bound and off
// record.
func behindGateway(t *testing.T, args ...string) (*kit.Env, *gateway.Gateway) {
	t.Helper()
	env := kit.New(t)
	g := env.Gateway()
	env.StartProvisioner(append([]string{alone}, args...)...)
	bindSource()(t, env)
	env.Eventually("the source is off record", func() error { return unmarked(env, "src") })
	return env, g
}

// calledFor returns an error unless the driver was called that often for volumes other
// than the source's.
func calledFor(env *kit.Env, want map[string]int) error {
	for name, n := range callsByName(env) {
		if name != env.PV("src").Name && n != want[name] {
			return fmt.Errorf("there are %d calls for volume %q, want %d", n, name, want[name])
		}
	}
	return nil
}

// The cache still says that the claim is on record and bound, when it is gone with its
// PV and its volume.
func TestAClaimThatIsGoneIsNotProvisionedFromAnOldCache(t *testing.T) {
	t.Parallel()
	env, g := behindGateway(t, "--retry-interval-max=500ms")
	stalled := make(chan *gateway.Stall, 1)
	erases := func(r gateway.Request) bool { return strings.Contains(string(r.Body), "$deleteFromPrimitiveList") }
	g.On("patch", claimsResource).Named("data").When(erases).Next(1).Before(func(gateway.Request) { stalled <- g.Stall(claimsResource) })
	env.Create(env.Claim("data", kit.CloneOf("src")))
	stall := await(t, stalled, "the record is taken off")
	env.Eventually("the record is off", func() error { return unmarked(env, "data") })
	pv := env.PV("data")
	env.Delete("data")
	env.WaitGone("data")
	env.WaitPVGone(pv.Name) // which is told: PVs are seen as they are
	env.Steadily("nobody makes its volume again", 1500*time.Millisecond, func() error {
		return errors.Join(noVolume(env, pv.Name), calledFor(env, map[string]int{pv.Name: 1}))
	})
	stall.Release()
	env.Create(env.Claim("later")) // when this one is through, the past was seen
	env.WaitBound("later")
	if err := errors.Join(noVolume(env, pv.Name), calledFor(env, map[string]int{pv.Name: 1, env.PV("later").Name: 1})); err != nil {
		t.Error(err)
	}
	leave(env, "src")
}

// The cache does not know yet that the claim is bound and being deleted: the record
// waits until it does.
func TestAClaimThatIsBoundAndDeletedUnseenIsReleasedWhenItIsSeen(t *testing.T) {
	t.Parallel()
	env, g := behindGateway(t, "--retry-interval-max=500ms")
	gate := gateClones(env)
	env.Create(env.Claim("data", kit.CloneOf("src")))
	await(t, gate.Entered(), "the driver is called")
	stall := g.Stall(claimsResource)
	gate.Release()
	env.WaitBound("data")
	pv := env.PV("data").Name
	env.Delete("data", "src")
	env.Steadily("the claim is not provisioned again", time.Second, func() error {
		if n := len(callsNamed(env, pv)); n != 1 {
			return fmt.Errorf("there are %d calls", n)
		}
		return onRecord(env, "data")
	})
	stall.Release()
	env.WaitGone("data", "src")
	env.Eventually("no volume is left", func() error { return volumes(env, 0) })
	if n := len(callsNamed(env, pv)); n != 1 {
		t.Errorf("there are %d calls", n)
	}
}

// The record is on its way to a claim that is gone, or has made room for another.
func TestARecordThatComesTooLateIsNotWritten(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]bool{"the claim is gone": false, "another claim has its name": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, g := behindGateway(t, "--retry-interval-max=500ms")
			gate := g.On("patch", claimsResource).Named("data").Next(1).Gate()
			env.Create(env.Claim("data", kit.CloneOf("src")))
			old := "pvc-" + string(env.Get("data").UID)
			await(t, gate.Entered(), "the record is on its way")
			stall := g.Stall(claimsResource)
			env.Delete("data")
			env.WaitGone("data")
			want := map[string]int{}
			if again {
				env.Create(env.Claim("data", kit.CloneOf("src")))
				want["pvc-"+string(env.Get("data").UID)] = 1
			}
			gate.Release()
			env.Eventually("the record was answered", func() error {
				requests := g.Requests("patch", claimsResource)
				if i := slices.IndexFunc(requests, func(r gateway.Request) bool { return r.Name == "data" && r.Answered }); i < 0 {
					return errors.New("it was not")
				} else if status := requests[i].Status; status != 404 && status != 409 {
					t.Errorf("the answer was %d, want NotFound or Conflict", status)
				}
				return nil
			})
			env.Steadily("nothing is made", 500*time.Millisecond, func() error { return noVolume(env, old) })
			stall.Release()
			if again {
				env.WaitBound("data")
			}
			leave(env, "src")
			for name, n := range callsByName(env) {
				if n > 1 || name == old {
					t.Errorf("there are %d calls for volume %q", n, name)
				}
			}
		})
	}
}

// A person takes the record off and deletes the claim; the cache does not know, and
// the volume is made once more: its PV goes, and the volume with it.
func TestAClaimThatAPersonFreedUnseenLeavesNothing(t *testing.T) {
	t.Parallel()
	for outcome, fault := range outcomes() {
		t.Run(outcome, func(t *testing.T) {
			t.Parallel()
			env, g := behindGateway(t, "--retry-interval-max=500ms", "--extra-create-metadata")
			rule := failing(env, fault, kit.CloneOf("src"))
			volume := "pvc-" + string(env.Get("data").UID)
			stall := g.Stall(claimsResource)
			env.Update("data", stripAll)
			env.Delete("data")
			env.WaitGone("data")
			calls := len(callsNamed(env, volume))
			rule.Remove()
			env.Eventually("the driver is called", func() error {
				if n := len(callsNamed(env, volume)); n == calls {
					return errors.New("it is not")
				}
				return nil
			})
			env.Eventually("what is made goes", func() error { return noVolume(env, volume) })
			stall.Release()
			leave(env, "src")
			env.Eventually("no volume is left", func() error { return volumes(env, 0) })
		})
	}
}

// Watches that are told to begin anew have missed deletions, and claims that were made
// again under the same name.
func TestWhatWasMissedIsSeenWhenWatchesBeginAnew(t *testing.T) {
	t.Parallel()
	env, g := behindGateway(t, "--retry-interval-max=500ms", "--timeout=2m")
	env.Create(env.Claim("waiting", kit.CloneOf("none")), env.Claim("refused", kit.CloneOf("src"), kit.Size("1Mi")))
	env.WaitEvent("waiting", "CloneSourceNotFound")
	env.WaitEvent("refused", "CloneTooSmall")
	gate := gateClones(env)
	env.Create(env.Claim("copy", kit.CloneOf("src")), env.Claim("doomed", kit.CloneOf("src")))
	await(t, gate.EnteredBy(2), "the driver is called for both")
	stall := g.Stall(gateway.Any)
	env.Delete("waiting", "refused", "doomed", "src")
	env.WaitGone("waiting", "refused")
	env.Create(env.Claim("none"), env.Claim("waiting", kit.CloneOf("none")), env.Claim("refused", kit.CloneOf("none")))
	if g.Expire(gateway.Any) == 0 {
		t.Error("there was no watch to end")
	}
	stall.Release()
	env.WaitBound("none")
	gate.Release()
	env.WaitBound("copy", "waiting", "refused")
	env.WaitGone("doomed", "src")
	env.Eventually("the volumes of the four claims are left", func() error { return volumes(env, 4) })
	leave(env, "none")
}

func TestAnAPIServerThatGoesInTheMiddleOfAClone(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.On(kit.StartCluster(t, cluster.Options{})))
	env.AllowForbidden() // by an API server that has not read its roles yet
	env.StartProvisioner(alone, "--timeout=2m", "--retry-interval-max=500ms")
	bindSource()(t, env)
	env.WriteFile("src", "file", []byte("content of the source"))
	begun := gateClones(env)
	env.Create(env.Claim("copy", kit.CloneOf("src")), env.Claim("doomed", kit.CloneOf("src")))
	await(t, begun.EnteredBy(2), "the driver is called for both")
	env.Delete("doomed", "src")
	restart := func(meanwhile func()) {
		t.Helper()
		if err := env.Cluster.StopAPIServer(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		meanwhile()
		if err := env.Cluster.StartAPIServer(env.Ctx); err != nil {
			t.Fatal(err)
		}
	}
	restart(func() {}) // during the calls
	restart(func() {   // while the PV is saved
		begun.Release()
		if err := env.Faults.WaitCalls(env.Ctx, "CreateVolume", 3); err != nil {
			t.Fatal(err)
		}
	})
	env.WaitBound("copy")
	env.WaitGone("doomed", "src")
	env.Eventually("the volume of the clone is left", func() error { return volumes(env, 1) })
	if got := string(env.ReadFile("copy", "file")); got != "content of the source" {
		t.Errorf("the clone has content %q", got)
	}
}

// PVs whose creation takes effect, or does not, and nobody is told.
func TestAPVWhoseCreationWasNotAnsweredIsSavedOnce(t *testing.T) {
	t.Parallel()
	const pvs = "persistentvolumes"
	for name, c := range map[string]struct {
		fail func(g *gateway.Gateway)
		// long: longer than one attempt tries.
		long bool
	}{
		"it took effect": {fail: func(g *gateway.Gateway) { g.On("create", pvs).Next(1).LoseReply() }},
		"it took effect, and cannot be compared at first": {fail: func(g *gateway.Gateway) {
			g.On("create", pvs).Next(1).LoseReply()
			g.On("get", pvs).Next(2).Drop()
		}},
		"it did not take effect": {fail: func(g *gateway.Gateway) { g.On("create", pvs).Next(2).Drop() }},
		"the API server is busy": {fail: func(g *gateway.Gateway) {
			g.On("create", pvs).Next(2).Answer(apierrors.NewTooManyRequestsError("busy"))
		}},
		"the API server stumbles": {fail: func(g *gateway.Gateway) {
			g.On("create", pvs).Next(1).Answer(apierrors.NewInternalError(errors.New("stumbled")))
			g.On("create", pvs).Next(1).LoseReply()
		}},
		"for longer than one attempt": {fail: func(g *gateway.Gateway) { g.On("create", pvs).Next(8).Drop() }, long: true},
	} {
		for end, doomed := range map[string]bool{"wanted": false, "deleted": true} {
			t.Run(name+", "+end, func(t *testing.T) {
				t.Parallel()
				env, g := behindGateway(t, "--retry-interval-max=500ms")
				gate := env.Faults.On("CreateVolume").Next(1).GateReply()
				c.fail(g)
				env.Create(env.Claim("data", kit.CloneOf("src")))
				await(t, gate.Entered(), "the driver has worked")
				volume := "pvc-" + string(env.Get("data").UID)
				first := len(g.Requests("create", pvs))
				gate.Release()
				if doomed {
					if err := g.WaitRequests(env.Ctx, "create", pvs, first+1); err != nil {
						t.Fatal(err)
					}
					env.Delete("data")
					env.WaitGone("data")
					env.Eventually("its volume is gone", func() error { return noVolume(env, volume) })
				} else {
					env.WaitBound("data")
					repeated(t, env, volume, map[bool]int{true: 2, false: 1}[c.long])
				}
				leave(env, "src")
			})
		}
	}
}
