package integration

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// The driver broke the contract, its volume could not be deleted, and it was called
// again; it answers that call late, and others meanwhile with ABORTED. Only what comes
// of it tells whether a volume exists: the handle that is known already does not.
func TestACallThatIsOpenIsAwaitedAlthoughAHandleIsKnown(t *testing.T) {
	t.Parallel()
	env, _ := withSource(t)
	env.Faults.On("CreateVolume").When(ofClones).Next(1).MutateReply(faults.Reply(func(resp *csi.CreateVolumeResponse) {
		resp.Volume.ContentSource = nil
	}))
	env.Faults.On("DeleteVolume").Next(1).Fail(codes.Internal, "not now")
	gate := env.Faults.On("CreateVolume").When(ofClones).Next(1).HangUntilReleased()
	busy := env.Faults.On("CreateVolume").When(ofClones).Fail(codes.Aborted, "a call is at work on it")
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	<-gate.Entered()
	gone := when(t, env, "copy", isGone)
	env.Delete("copy")
	env.Eventually("the driver is asked again, or the claim is given up", func() error {
		select {
		case <-gone:
			t.Error("the claim was given up while the driver was at work for it")
			return nil
		default:
		}
		if calls := len(cloneCalls(env)); calls < 3 {
			return fmt.Errorf("there were %d calls", calls)
		}
		return nil
	})
	busy.Remove()
	gate.Release()
	env.WaitGone("copy")
	env.Eventually("only the source's volume is left", func() error { return volumes(env, 1) })
}

// A leader that was frozen wakes up among timers that are all due, while another one
// has long finished its work.
func TestAFrozenLeaderStartsNothingWhenItWakesUp(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	// No call is about to be sent when the leader is frozen, and all are due when another one
	// leads: the lease takes as long.
	leader, standby := twoProvisioners(env, append(shortLease(), "--retry-interval-start=4s", "--retry-interval-max=4s")...)
	busy := env.Faults.On("CreateVolume").Fail(codes.Aborted, "busy")
	const count = 30
	var names []string
	for i := range count {
		names = append(names, fmt.Sprintf("doomed-%d", i))
		env.Create(env.Claim(names[i]))
	}
	env.Eventually("every claim was called for", func() error {
		called := map[string]bool{}
		for _, call := range env.Faults.Calls("CreateVolume") {
			called[call.Request.(*csi.CreateVolumeRequest).GetName()] = true
		}
		if len(called) < count {
			return fmt.Errorf("%d of %d were", len(called), count)
		}
		return nil
	})
	if err := env.Faults.WaitIdle(env.Ctx); err != nil {
		t.Fatal(err)
	}
	leader.Signal(syscall.SIGSTOP)
	busy.Remove()
	env.Delete(names...)
	waitLeading(env, standby)
	env.WaitGone(names...)
	env.Eventually("no volume is left", func() error { return volumes(env, 0) })
	before := len(env.Faults.Calls("CreateVolume"))
	late := env.Faults.On("CreateVolume").HangUntilReleased()
	leader.Signal(syscall.SIGCONT)
	leader.Wait()
	late.Release()
	if err := env.Faults.WaitIdle(env.Ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d calls by the leader that was frozen", len(env.Faults.Calls("CreateVolume"))-before)
	if err := volumes(env, 0); err != nil {
		t.Error(err)
	}
}
