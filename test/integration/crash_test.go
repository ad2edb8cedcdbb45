package integration

import (
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// alone: a process that takes over from a killed one need not wait for its lease.
const alone = "--leader-election=false"

func TestAClaimDeletedWhileTheProvisionerIsDeadLeavesNoVolume(t *testing.T) {
	t.Parallel()
	for name, restartDriver := range map[string]bool{
		"the driver lives on":          false,
		"the driver is restarted, too": true,
	} {
		for kind, options := range map[string][]kit.ClaimOption{
			"blank": nil,
			"clone": {kit.CloneOf("src")},
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				env, p := withSource(t, alone)
				gate := env.Faults.On("CreateVolume").Next(1).HangUntilReleased()
				env.Create(env.Claim("doomed", options...))
				<-gate.Entered()
				p.Kill()
				gate.Release() // the driver finishes what nobody waits for
				if err := env.Faults.WaitIdle(env.Ctx); err != nil {
					t.Fatal(err)
				}
				if err := volumes(env, 2); err != nil {
					t.Fatalf("the test needs a volume to lose: %v", err)
				}
				env.Delete("doomed")
				if restartDriver {
					if err := env.Driver.Restart(); err != nil {
						t.Fatal(err)
					}
				}
				env.StartProvisioner(alone)
				env.WaitGone("doomed")
				env.Eventually("only the source's volume is left", func() error { return volumes(env, 1) })
			})
		}
	}
}

func TestACloneBegunBeforeACrashIsFinishedAfterIt(t *testing.T) {
	t.Parallel()
	env, p := withSource(t, alone)
	gate := env.Faults.On("CreateVolume").When(ofClones).Next(1).HangUntilReleased()
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	<-gate.Entered()
	p.Kill()
	env.Delete("src") // its protection survives the process
	gate.Release()
	// Another prefix must not make another volume: the name is on record.
	env.StartProvisioner(alone, "--volume-name-prefix=other")
	env.WaitBound("copy")
	env.WaitGone("src")
	if got, want := env.PV("copy").Name, "pvc-"+string(env.Get("copy").UID); got != want {
		t.Errorf("the PV is %q, want %q", got, want)
	}
	env.Eventually("only the clone's volume is left", func() error { return volumes(env, 1) })
}

func TestAProvisionerKilledBetweenReplyAndSaveLosesNothing(t *testing.T) {
	t.Parallel()
	env, p := withSource(t, alone)
	gate := env.Faults.On("CreateVolume").When(ofClones).Next(1).GateReply()
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	<-gate.Entered()
	p.Kill()
	env.StartProvisioner(alone)
	env.WaitBound("copy")
	if err := volumes(env, 2); err != nil {
		t.Error(err)
	}
}

func TestARecordStrippedWhileACallIsOpenLosesNothing(t *testing.T) {
	t.Parallel()
	env, _ := withSource(t)
	gate := env.Faults.On("CreateVolume").When(ofClones).Next(1).HangUntilReleased()
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	<-gate.Entered()
	env.Update("copy", func(claim *v1.PersistentVolumeClaim) {
		claim.Finalizers = slices.DeleteFunc(claim.Finalizers, func(f string) bool { return strings.HasSuffix(f, "/provisioning") })
	})
	env.Delete("copy")
	env.WaitGone("copy")
	gate.Release()
	env.Eventually("only the source's volume is left", func() error { return volumes(env, 1) })
}
