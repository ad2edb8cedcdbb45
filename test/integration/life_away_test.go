package integration

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// A driver that is away for far longer than a call may take, while claims are on
// record and while one of them is deleted.

// shortCalls makes many timeouts pass in a short time.
const shortCalls = "--timeout=500ms"

// reasons are what a claim may be told while its driver does not answer.
func reasons(wanted bool) []string {
	if wanted {
		return []string{"Provisioning", "ProvisioningFailed", "ProvisioningSucceeded"}
	}
	return []string{"Provisioning", "ProvisioningFailed", "CleaningUp", "CleanUpBlocked"}
}

// boundedEvents returns an error for more events of ours on a claim than so many of
// each reason, whatever their count.
func boundedEvents(env *kit.Env, claim string, wanted bool, most int) error {
	seen := map[string]int{}
	for _, event := range said(env, claim) {
		seen[event.Reason]++
		if !slices.Contains(reasons(wanted), event.Reason) || seen[event.Reason] > most {
			return fmt.Errorf("claim %q has %d events with reason %s: %s", claim, seen[event.Reason], event.Reason, event.Message)
		}
	}
	return nil
}

func TestADriverThatDoesNotAnswerForLongLosesNothing(t *testing.T) {
	t.Parallel()
	env, p := withSource(t, shortCalls, "--retry-interval-start=100ms", "--retry-interval-max=500ms")
	gate := env.Faults.On("CreateVolume").HangUntilReleased()
	for kind, options := range kinds() {
		env.Create(env.Claim(kind, options...), env.Claim(kind+"-doomed", options...))
	}
	await(t, gate.EnteredBy(4), "the driver is called for all")
	for kind := range kinds() {
		env.WaitEvent(kind+"-doomed", "ProvisioningFailed")
		env.Delete(kind + "-doomed")
	}
	for kind := range kinds() {
		env.WaitEvent(kind+"-doomed", "CleanUpBlocked")
	}
	env.Delete("src")
	env.Steadily("all stay on record, and are not told more and more", 10*500*time.Millisecond, func() error {
		for kind := range kinds() {
			for claim, wanted := range map[string]bool{kind: true, kind + "-doomed": false} {
				// The driver may have said Aborted, too.
				if err := errors.Join(onRecord(env, claim), boundedEvents(env, claim, wanted, 2)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	calls := map[string]int{}
	for _, call := range env.Faults.Calls("CreateVolume") {
		calls[fmt.Sprint(call.Request)]++
	}
	t.Logf("%d requests were repeated, these many times: %v", len(calls), slices.Sorted(maps.Values(calls)))
	if len(calls) != 5 { // that for the source was answered
		t.Errorf("there are %d different requests, want one for each claim", len(calls))
	}
	// What hangs is done before anybody is told: who finishes a call after all have
	// heard of its volume makes another one.
	gate.Release()
	if err := env.Faults.WaitIdle(env.Ctx); err != nil {
		t.Fatal(err)
	}
	env.Faults.Reset()
	env.WaitBound("blank", "clone")
	env.WaitGone("blank-doomed", "clone-doomed", "src")
	env.Eventually("the volumes of the two claims are left", func() error { return volumes(env, 2) })
	if strings.Contains(p.Log(), "lost the connection") {
		t.Error("the provisioner has lost its driver: this test is about one that is there")
	}
}

// The driver's process ends, and the provisioner with it: kubelet starts it again,
// and it waits for the driver.
func TestADriverThatIsGoneForLongLosesNothing(t *testing.T) {
	t.Parallel()
	env, p := withSource(t, alone, shortCalls)
	// Of each kind one volume is made, one is not.
	env.Faults.On("CreateVolume").Next(2).LoseReply()
	gate := env.Faults.On("CreateVolume").Gate()
	var claims []string
	for kind, options := range kinds() {
		env.Create(env.Claim(kind+"-a", options...), env.Claim(kind+"-b", options...))
		claims = append(claims, kind+"-a", kind+"-b")
	}
	for _, claim := range claims {
		env.WaitEvent(claim, "ProvisioningFailed")
	}
	if err := env.Driver.Stop(); err != nil {
		t.Fatal(err)
	}
	if code := p.Wait(); code != 1 {
		t.Errorf("exit code of the provisioner is %d, want 1", code)
	}
	gate.Release()
	env.Faults.Reset()
	p = env.LaunchProvisioner(alone, shortCalls)
	env.Delete("src", "blank-a", "clone-b")
	env.Steadily("nothing happens", 4*500*time.Millisecond, func() error {
		for _, claim := range claims {
			if err := errors.Join(onRecord(env, claim), boundedEvents(env, claim, true, 2)); err != nil {
				return err
			}
		}
		if _, body, err := page(env, p, "/readyz"); err == nil && body != "waiting for the CSI driver" {
			return fmt.Errorf("/readyz says %q", body)
		}
		return nil
	})
	if err := env.Driver.Restart(); err != nil {
		t.Fatal(err)
	}
	p.WaitReady()
	env.WaitBound("blank-b", "clone-a")
	env.WaitGone("blank-a", "clone-b", "src")
	env.Eventually("the volumes of the two claims are left", func() error { return volumes(env, 2) })
}

// A clean-up that fails again and again says so once.
func TestACleanUpThatIsBlockedForLongIsToldOnce(t *testing.T) {
	t.Parallel()
	env, p := withSource(t, shortCalls, "--retry-interval-start=100ms", "--retry-interval-max=500ms")
	rule := env.Faults.On("CreateVolume").When(ofClones).LoseReply()
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitEvent("copy", "ProvisioningFailed")
	env.Delete("copy", "src")
	env.WaitEvent("copy", "CleanUpBlocked")
	tries := func() int { return strings.Count(p.Log(), "cleaning up volume") }
	before := tries()
	env.Eventually("it is tried again and again", func() error {
		if n := tries() - before; n < 5 {
			return fmt.Errorf("it was tried %d times more", n)
		}
		return nil
	})
	for reason, most := range map[string]int{"CleaningUp": 1, "CleanUpBlocked": 1} {
		if n := env.CountEvents("copy", reason); n != most {
			t.Errorf("%s was told %d times, want %d", reason, n, most)
		}
	}
	event := env.WaitEvent("src", "CloneSourceHeld")
	if want := `deletion of source PVC "src" waits for clones being made of it (first: "copy"); nothing to do`; event.Message != want {
		t.Errorf("the source is told %q, want %q", event.Message, want)
	}
	// The volume is found, but cannot be deleted: the claim goes, and the PV has the event.
	deleting := env.Faults.On("DeleteVolume").Fail(codes.Internal, "the shelf is locked")
	rule.Remove()
	pv := "pvc-" + string(env.Get("copy").UID)
	env.WaitGone("copy", "src")
	waitPVEvent(env, pv, "VolumeFailedDelete", "the shelf is locked")
	deleting.Remove()
	env.Eventually("no volume is left", func() error { return volumes(env, 0) })
}
