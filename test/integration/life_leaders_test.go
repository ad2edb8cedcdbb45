package integration

import (
	"errors"
	"fmt"
	"slices"
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
	for name, c := range map[string]struct {
		hold   func(faults.Selector) *faults.Gate
		doomed []string
	}{
		// A driver that begins such a call when the claim and its volume are gone makes it
		// again, and nobody is left who knows.
		"the driver has not begun": {faults.Selector.Gate, nil},
		"the driver has worked":    {faults.Selector.GateReply, []string{"gone", "gone-too"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := kit.New(t)
			leader, standby := twoProvisioners(env, append(shortLease(), "--timeout=2m", "--retry-interval-max=500ms")...)
			bindSource()(t, env)
			env.WriteFile("src", "file", []byte("content of the source"))
			claims := append([]string{"bound", "left"}, c.doomed...)
			gate := c.hold(env.Faults.On("CreateVolume").When(ofClones).Next(len(claims)))
			for _, claim := range claims {
				env.Create(env.Claim(claim, kit.CloneOf("src")))
			}
			await(t, gate.EnteredBy(len(claims)), "the driver is called for all")
			// "left" is in work at the second one when the first comes back.
			left := env.Faults.On("CreateVolume").When(callFor(env, "left")).Next(1).GateReply()
			overlap(t, env, leader, standby, func() {
				env.WaitBound(append([]string{"bound"}, c.doomed...)...)
				await(t, left.Entered(), "the second has called for the last one")
				env.Delete(c.doomed...)
				env.WaitGone(c.doomed...)
				env.Eventually("their volumes are gone", func() error { return volumes(env, 3) })
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

// awaitCalls waits until CreateVolume was called for each claim. On a busy machine one claim's call
// may be repeated before another's is sent, so a count of calls does not show that.
func awaitCalls(env *kit.Env, claims ...string) {
	for _, claim := range claims {
		isFor := callFor(env, claim)
		env.Eventually("the driver is called for "+claim, func() error {
			if slices.ContainsFunc(env.Faults.Calls("CreateVolume"), func(c faults.Call) bool { return isFor(c.Request) }) {
				return nil
			}
			return errors.New("it is not")
		})
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

// Claims that were the first leader's to begin when it hung, and that are gone with
// their volumes when it comes back: it calls for none of them.
func TestALeaderThatComesBackCallsForNoClaimOfThePast(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	g := env.Gateway()
	leader, standby := twoProvisioners(env, append(shortLease(), "--retry-interval-max=500ms", "--timeout=2m")...)
	const many = 20 // one of them would be faster than the news of the lease
	gate := g.On("patch", claimsResource).Next(many).GateReply()
	var claims []string
	for i := range many {
		claims = append(claims, fmt.Sprintf("data-%d", i))
		env.Create(env.Claim(claims[i]))
	}
	await(t, gate.EnteredBy(many), "the records are written, which the leader does not know")
	overlap(t, env, leader, standby, func() {
		env.WaitBound(claims...)
		env.Delete(claims...)
		env.WaitGone(claims...)
		env.Eventually("their volumes are gone", func() error { return volumes(env, 0) })
		env.Faults.On("CreateVolume").GateReply() // whoever calls is not there for the answer
		gate.Release()
	})
	for name, n := range callsByName(env) {
		if n > 1 {
			t.Errorf("there are %d calls for volume %q", n, name)
		}
	}
	if err := volumes(env, 0); err != nil {
		t.Error(err)
	}
}
