package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// ofClones limits a fault to calls that copy another volume.
func ofClones(req any) bool {
	create, ok := req.(*csi.CreateVolumeRequest)
	return ok && create.GetVolumeContentSource() != nil
}

// cloneCalls returns the CreateVolume calls that asked for a copy.
func cloneCalls(env *kit.Env) []faults.Call {
	var calls []faults.Call
	for _, call := range env.Faults.Calls("CreateVolume") {
		if ofClones(call.Request) {
			calls = append(calls, call)
		}
	}
	return calls
}

// withSource returns a test world in which "src" is bound and has content.
func withSource(t *testing.T, args ...string) (*kit.Env, *kit.Provisioner) {
	t.Helper()
	env := kit.New(t)
	p := env.StartProvisioner(args...)
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	env.WriteFile("src", "file", []byte("content of the source"))
	return env, p
}

func TestAnUnknownOutcomeIsAskedForAgainUntilTheVolumeIsThere(t *testing.T) {
	t.Parallel()
	cases := map[string]func(s faults.Selector){
		"the call hangs past its deadline and finishes later": func(s faults.Selector) { s.Hang() },
		"the work is done but the reply is lost":              func(s faults.Selector) { s.LoseReply() },
		"the driver answers Aborted":                          func(s faults.Selector) { s.Fail(codes.Aborted, "busy") },
		"the driver answers Internal after the work":          func(s faults.Selector) { s.LoseReplyAs(codes.Internal, "stumbled") },
	}
	for name, fault := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, _ := withSource(t)
			fault(env.Faults.On("CreateVolume").When(ofClones).Next(2))
			env.Create(env.Claim("copy", kit.CloneOf("src")))
			env.WaitBound("copy")
			if got, want := env.Checksum("copy"), env.Checksum("src"); got != want {
				t.Errorf("checksum of the clone is %s, of the source %s", got, want)
			}
			calls := cloneCalls(env)
			if len(calls) != 3 {
				t.Errorf("%d calls for the clone, want 3", len(calls))
			}
			for _, call := range calls {
				if fmt.Sprint(call.Request) != fmt.Sprint(calls[0].Request) {
					t.Errorf("a later request differs: %v, first was %v", call.Request, calls[0].Request)
				}
			}
		})
	}
}

func TestAFinalErrorIsToldAndTriedAgain(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{codes.ResourceExhausted, codes.OutOfRange, codes.FailedPrecondition, codes.InvalidArgument, codes.Internal} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			env, _ := withSource(t)
			env.Faults.On("CreateVolume").When(ofClones).Next(1).Fail(code, "no room")
			env.Create(env.Claim("copy", kit.CloneOf("src")))
			event := env.WaitEvent("copy", "ProvisioningFailed")
			want := fmt.Sprintf("driver %q answered CreateVolume for volume %q: rpc error: code = %s desc = no room",
				env.DriverName, "pvc-"+string(env.Get("copy").UID), code)
			if event.Message != want || event.Type != v1.EventTypeWarning {
				t.Errorf("event is %s %q, want Warning %q", event.Type, event.Message, want)
			}
			env.WaitBound("copy")
		})
	}
}

func TestAClaimThatFailedForGoodGoesAtOnceWhenItIsDeleted(t *testing.T) {
	t.Parallel()
	env, _ := withSource(t, noBackOff, noBackOffMax)
	env.Faults.On("CreateVolume").When(ofClones).Fail(codes.InvalidArgument, "never")
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitEvent("copy", "ProvisioningFailed")
	before := len(cloneCalls(env))
	env.Delete("copy")
	env.WaitGone("copy")
	// One more may be an attempt: Kubernetes writes a condition to the claim, and a change of the
	// claim is a reason to try again.
	if after := len(cloneCalls(env)); after > before+1 {
		t.Errorf("%d more calls were made for a deleted claim that had left nothing behind", after-before)
	}
	if env.CountEvents("copy", "CleaningUp") > 0 {
		t.Error("a claim was cleaned up that had left nothing behind")
	}
}

func TestAReplyThatBreaksTheContractIsDeletedAndTold(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		mutate func(*csi.CreateVolumeResponse)
		words  string
	}{
		{
			"no content source", func(r *csi.CreateVolumeResponse) { r.Volume.ContentSource = nil },
			`without confirming that it was copied from volume`,
		},
		{
			"another content source", func(r *csi.CreateVolumeResponse) {
				r.Volume.ContentSource.GetVolume().VolumeId = "other"
			},
			`the driver says that it copied volume`,
		},
		{
			"too little capacity", func(r *csi.CreateVolumeResponse) { r.Volume.CapacityBytes = 4096 },
			`with 4096 bytes, but at least 1073741824 were asked for`,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			env, _ := withSource(t)
			env.Faults.On("CreateVolume").When(ofClones).Next(1).MutateReply(faults.Reply(c.mutate))
			env.Create(env.Claim("copy", kit.CloneOf("src")))
			event := env.WaitEvent("copy", "ProvisioningFailed")
			if !strings.Contains(event.Message, c.words) || !strings.HasSuffix(event.Message, "this is a fault of the driver; the volume was deleted, and it is tried again") {
				t.Errorf("event: %s", event.Message)
			}
			env.WaitBound("copy")
			if n := len(env.Faults.Calls("DeleteVolume")); n != 1 {
				t.Errorf("%d DeleteVolume calls, want 1", n)
			}
		})
	}
}

func TestAReplyWithoutAVolumeLosesNothing(t *testing.T) {
	t.Parallel()
	env, _ := withSource(t)
	env.Faults.On("CreateVolume").When(ofClones).Next(1).MutateReply(faults.Reply(func(r *csi.CreateVolumeResponse) { r.Volume = nil }))
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	event := env.WaitEvent("copy", "ProvisioningFailed")
	if want := "the driver's reply to CreateVolume names no volume (volume_id is empty); this is a fault of the driver"; event.Message != want {
		t.Errorf("event is %q, want %q", event.Message, want)
	}
	env.WaitBound("copy")
}

func TestASourceDeletedWhileItsCloneHangsGoesWhenTheCloneIsThrough(t *testing.T) {
	t.Parallel()
	env, _ := withSource(t)
	content := env.Checksum("src")
	gate := env.Faults.On("CreateVolume").When(ofClones).HangUntilReleased()
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	<-gate.Entered()
	env.Delete("src")
	// The first call times out, and so do the ones after it.
	env.WaitEvent("copy", "ProvisioningFailed")
	if src := env.Get("src"); src.DeletionTimestamp == nil || len(src.Finalizers) == 0 {
		t.Errorf("the source should be held while its clone is made: %v", src.ObjectMeta)
	}
	env.Faults.Reset()
	env.WaitBound("copy")
	bound := time.Now()
	env.WaitGone("src")
	t.Logf("the source was gone %s after its clone was bound", time.Since(bound).Round(time.Millisecond))
	if got := env.Checksum("copy"); got != content {
		t.Errorf("checksum of the clone is %s, of the source it was %s", got, content)
	}
}

func TestAClaimDeletedWhileItsCallHangsLeavesNoVolume(t *testing.T) {
	t.Parallel()
	env, _ := withSource(t)
	gate := env.Faults.On("CreateVolume").When(ofClones).Next(1).HangUntilReleased()
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	<-gate.Entered()
	env.Delete("copy")
	gate.Release()
	env.WaitGone("copy")
	env.Eventually("only the source's volume is left", func() error { return volumes(env, 1) })
}

func TestAClaimDeletedBetweenReplyAndSaveLeavesNothing(t *testing.T) {
	t.Parallel()
	env, _ := withSource(t)
	gate := env.Faults.On("CreateVolume").When(ofClones).Next(1).GateReply()
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	<-gate.Entered()
	env.Delete("copy")
	gate.Release()
	env.WaitGone("copy")
	env.Eventually("only the source's volume is left", func() error { return volumes(env, 1) })
}

// volumes returns an error unless the driver has that many.
func volumes(env *kit.Env, want int) error {
	if list := env.Driver.Driver.Volumes(); len(list) != want {
		return fmt.Errorf("the driver has %d volumes, want %d: %v", len(list), want, list)
	}
	return nil
}

func TestAVolumeThatCannotBeDeletedIsToldOnItsPV(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner()
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	pv := env.PV("data").Name
	env.Faults.On("DeleteVolume").Next(2).Fail(codes.FailedPrecondition, "in use")
	env.Delete("data")
	env.WaitPVGone(pv)
	if calls := env.Faults.Calls("DeleteVolume"); len(calls) != 3 {
		t.Errorf("%d DeleteVolume calls, want 3", len(calls))
	}
	if err := volumes(env, 0); err != nil {
		t.Error(errors.Unwrap(err), err)
	}
}
