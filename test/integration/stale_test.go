package integration

import (
	"fmt"
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
