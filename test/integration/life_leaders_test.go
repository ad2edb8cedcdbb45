package integration

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// A leader that hangs in the middle of its work, is replaced, and goes on for the
// moment that it takes to notice: two provisioners at one claim.

// overlap stops the leader in the middle of its calls for claims, has the other one
// take over, and do what meanwhile says, and lets the first go on.
func overlap(t *testing.T, env *kit.Env, leader, standby *kit.Provisioner, meanwhile func()) {
	t.Helper()
	leader.Signal(syscall.SIGSTOP)
	waitLeading(env, standby)
	meanwhile()
	leader.Signal(syscall.SIGCONT)
	if code := leader.Wait(); code != 1 {
		t.Errorf("exit code of the first leader is %d, want 1", code)
	}
}

func TestALeaderThatComesBackInTheMiddleOfItsWorkLosesNothing(t *testing.T) {
	t.Parallel()
	for name, hold := range map[string]func(faults.Selector) *faults.Gate{
		"the driver has not begun": faults.Selector.Gate,
		"the driver has worked":    faults.Selector.GateReply,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := kit.New(t)
			leader, standby := twoProvisioners(env, append(shortLease(), "--timeout=2m", "--retry-interval-max=500ms")...)
			bindSource()(t, env)
			env.WriteFile("src", "file", []byte("content of the source"))
			gate := hold(env.Faults.On("CreateVolume").When(ofClones).Next(4))
			claims := []string{"bound", "bound-and-deleted", "deleted", "left"}
			for _, claim := range claims {
				env.Create(env.Claim(claim, kit.CloneOf("src")))
			}
			await(t, gate.EnteredBy(4), "the driver is called for all")
			// "left" is in work at the second one when the first comes back.
			left := env.Faults.On("CreateVolume").When(callFor(env, "left")).Next(1).GateReply()
			overlap(t, env, leader, standby, func() {
				env.WaitBound("bound", "bound-and-deleted")
				await(t, left.Entered(), "the second has called for the last one")
				pv := env.PV("bound-and-deleted").Name
				env.Delete("bound-and-deleted", "deleted")
				env.WaitGone("bound-and-deleted", "deleted")
				env.WaitPVGone(pv)
				gate.Release() // the first gets its answers as soon as it runs
			})
			left.Release()
			env.WaitBound("left")
			env.Eventually("there are the volumes of the claims that are left", func() error { return volumes(env, 3) })
			for _, claim := range []string{"bound", "left"} {
				if got := string(env.ReadFile(claim, "file")); got != "content of the source" {
					t.Errorf("claim %q has content %q", claim, got)
				}
			}
			leave(env, "src")
			env.Steadily("nothing comes back", time.Second, func() error { return volumes(env, 2) })
		})
	}
}

// callFor limits a fault to calls for a claim.
func callFor(env *kit.Env, claim string) func(any) bool {
	name := "pvc-" + string(env.Get(claim).UID)
	return func(req any) bool {
		named, ok := req.(interface{ GetName() string })
		return ok && named.GetName() == name
	}
}

// The first leader hangs with the record on its way: the second writes its own.
func TestALeaderThatComesBackWithARecordWritesNoSecondOne(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	g := env.Gateway()
	leader, standby := twoProvisioners(env, append(shortLease(), "--retry-interval-max=500ms")...)
	bindSource()(t, env)
	env.Eventually("the source is off record", func() error { return unmarked(env, "src") })
	gate := g.On("patch", claimsResource).Named("data").Next(1).GateReply()
	env.Create(env.Claim("data", kit.CloneOf("src")))
	await(t, gate.Entered(), "the record is written, which the leader does not know")
	overlap(t, env, leader, standby, func() {
		env.WaitBound("data")
		env.Eventually("the claim is off record", func() error { return unmarked(env, "data") })
		gate.Release()
	})
	env.Steadily("it stays so", time.Second, func() error {
		if n := len(callsFor(env, "data")); n != 1 {
			return fmt.Errorf("%d calls were made", n)
		}
		return unmarked(env, "data")
	})
	leave(env, "src")
}
