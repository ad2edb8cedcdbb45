package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// Rows of the design's table "Life of a claim" about classes that go while a claim
// is on record, and what the other life tests share.

// outcomes are the two ways in which a first call leaves a claim on record: nobody
// knows whether its volume exists (it does), or nothing exists.
func outcomes() map[string]func(faults.Selector) *faults.Rule {
	return map[string]func(faults.Selector) *faults.Rule{
		"unknown": func(s faults.Selector) *faults.Rule { return s.LoseReply() },
		"clean":   func(s faults.Selector) *faults.Rule { return s.Fail(codes.OutOfRange, "not today") },
	}
}

// kinds are a blank claim and a clone of "src".
func kinds() map[string][]kit.ClaimOption {
	return map[string][]kit.ClaimOption{"blank": nil, "clone": {kit.CloneOf("src")}}
}

// onRecord returns an error unless a claim carries the record.
func onRecord(env *kit.Env, claim string) error {
	if finalizers := env.Get(claim).Finalizers; !slices.Contains(finalizers, strings.ToLower(env.DriverName)+"/provisioning") {
		return fmt.Errorf("claim %q is not on record, its finalizers are %v", claim, finalizers)
	}
	return nil
}

// failing creates claim "data" and returns when the driver's first call for it has
// come to an outcome, as do all later ones until the rule is removed.
func failing(env *kit.Env, outcome func(faults.Selector) *faults.Rule, options ...kit.ClaimOption) *faults.Rule {
	rule := outcome(env.Faults.On("CreateVolume").When(inNamespace(env.Namespace)))
	env.Create(env.Claim("data", options...))
	env.WaitEvent("data", "ProvisioningFailed")
	return rule
}

// quiet waits until the driver is not called any more for a volume, and returns how
// often it was.
func quiet(env *kit.Env, volume string) int {
	calls, since := -1, time.Now()
	env.Eventually("the driver is not called any more", func() error {
		list := callsNamed(env, volume)
		if n := len(list); n != calls || n > 0 && !list[n-1].Done() {
			calls, since = n, time.Now()
		}
		if time.Since(since) < 300*time.Millisecond {
			return fmt.Errorf("it was just called, for the %d. time", calls)
		}
		return nil
	})
	return calls
}

// paused fails the test if the driver is called for the volume of claim "data", or
// the claim is not on record any more.
func paused(env *kit.Env, volume string, calls int, during time.Duration) {
	env.Steadily("the claim stays on record, and nobody calls the driver", during, func() error {
		if n := len(callsNamed(env, volume)); n != calls {
			return fmt.Errorf("there are %d calls, there were %d", n, calls)
		}
		return onRecord(env, "data")
	})
}

// repeated fails the test unless there are so many CreateVolume calls for a volume,
// all of them with the same request.
func repeated(t *testing.T, env *kit.Env, volume string, want int) {
	t.Helper()
	calls := callsNamed(env, volume)
	if len(calls) != want {
		t.Errorf("there are %d CreateVolume calls for volume %q, want %d", len(calls), volume, want)
	}
	for _, call := range calls {
		if !proto.Equal(call.Request, calls[0].Request) {
			t.Errorf("a later request differs: %v, first was %v", call.Request, calls[0].Request)
		}
	}
}

func dropClass(t *testing.T, env *kit.Env, name string) {
	t.Helper()
	if err := env.Admin.StorageV1().StorageClasses().Delete(env.Ctx, name, metav1.DeleteOptions{}); err != nil {
		t.Fatalf("deleting StorageClass %q: %v", name, err)
	}
}

const otherDriver = "other.example"

func ofOtherDriver(class *storagev1.StorageClass) { class.Provisioner = otherDriver }

// waitGiven waits until the PV controller, which looks at a claim when it changes,
// has given it to a driver.
func waitGiven(env *kit.Env, claim, driver string) {
	env.Eventually(fmt.Sprintf("claim %q is given to %s", claim, driver), func() error {
		touch(env, claim)
		if now := env.Get(claim).Annotations["volume.kubernetes.io/storage-provisioner"]; now != driver {
			return fmt.Errorf("it is given to %q", now)
		}
		return nil
	})
}

// What is seen without this table: TestAClassDeletedWhileItsClaimIsOnRecordIsToldAndWaitedFor.
func TestTheSameRequestGoesOnWhenItsClassIsBack(t *testing.T) {
	t.Parallel()
	common := kit.New(t)
	common.StartProvisioner(matrixArgs...)
	taken := map[string]func(t *testing.T, env *kit.Env) told{
		"deleted": func(t *testing.T, env *kit.Env) told {
			dropClass(t, env, env.Class)
			return told{"Normal", "StorageClassNotFound", fmt.Sprintf(
				"the claim waits for StorageClass %q, which does not exist; provisioning starts by itself when it is there", env.Class)}
		},
		"made again for another driver": func(t *testing.T, env *kit.Env) told {
			dropClass(t, env, env.Class)
			env.CreateClass(env.Class, ofOtherDriver)
			waitGiven(env, "data", otherDriver)
			return told{"Warning", "StorageClassOfAnotherDriver", fmt.Sprintf(
				"StorageClass %q belongs to driver %q, the claim was given to driver %q; create the claim again", env.Class, otherDriver, env.DriverName)}
		},
	}
	for outcome, fault := range outcomes() {
		for kind, options := range kinds() {
			for what, take := range taken {
				t.Run(fmt.Sprintf("outcome %s, %s, class %s", outcome, kind, what), func(t *testing.T) {
					env := common.Beside(t)
					t.Parallel()
					bindSource()(t, env)
					rule := failing(env, fault, options...)
					event, volume := take(t, env), "pvc-"+string(env.Get("data").UID)
					env.Eventually("the class is missed", func() error { return heardOnce(env, "data", event) })
					calls := quiet(env, volume)
					rule.Remove()
					paused(env, volume, calls, 500*time.Millisecond)
					if what != "deleted" {
						dropClass(t, env, env.Class)
					}
					env.CreateClass(env.Class)
					waitGiven(env, "data", env.DriverName)
					env.WaitBound("data")
					repeated(t, env, volume, calls+1)
					leave(env, "src")
				})
			}
		}
	}
}

// The process that has made the call repeats it as it was, and needs no class.
func TestAClaimDeletedWhileItsClassIsGoneIsCleanedUp(t *testing.T) {
	t.Parallel()
	common := kit.New(t)
	common.StartProvisioner(matrixArgs...)
	for outcome, fault := range outcomes() {
		for kind, options := range kinds() {
			t.Run(fmt.Sprintf("outcome %s, %s", outcome, kind), func(t *testing.T) {
				env := common.Beside(t)
				t.Parallel()
				bindSource()(t, env)
				rule := failing(env, fault, options...)
				volume := "pvc-" + string(env.Get("data").UID)
				dropClass(t, env, env.Class)
				env.WaitEvent("data", "StorageClassNotFound")
				calls := quiet(env, volume)
				rule.Remove()
				env.Delete("data")
				env.WaitGone("data")
				repeated(t, env, volume, calls+map[string]int{"unknown": 1, "clean": 0}[outcome])
				leave(env, "src")
			})
		}
	}
}

// Another process needs the class to make the request again.
func TestAClaimWhoseClassIsGoneStaysUntilItCanBeCleanedUp(t *testing.T) {
	t.Parallel()
	env, p := withSource(t, alone, "--clone-policy=compatible")
	env.Faults.On("CreateVolume").LoseReply()
	var claims []string
	classOf := func(claim string) string { return env.Class + "-" + claim }
	for kind, options := range kinds() {
		for _, claim := range []string{kind + "-deleted", kind + "-other"} {
			claims = append(claims, claim)
			env.CreateClass(classOf(claim))
			env.Create(env.Claim(claim, append(options, kit.Class(classOf(claim)))...))
			env.WaitEvent(claim, "ProvisioningFailed")
		}
	}
	p.Kill()
	env.Faults.Reset()
	for _, claim := range claims {
		dropClass(t, env, classOf(claim))
		if strings.HasSuffix(claim, "-other") {
			env.CreateClass(classOf(claim), ofOtherDriver)
		}
	}
	env.Delete(append(claims, "src")...)
	p = env.StartProvisioner(alone, "--clone-policy=compatible")
	for _, claim := range claims {
		volume := "pvc-" + string(env.Get(claim).UID)
		event := env.WaitEvent(claim, "CleanUpBlocked")
		for _, words := range []string{fmt.Sprintf("volume %q cannot be cleaned up now (tried again by itself): ", volume), fmt.Sprintf("StorageClass %q", classOf(claim))} {
			if event.Type != "Warning" || !strings.Contains(event.Message, words) {
				t.Errorf("event is %s %q, want a Warning with %q", event.Type, event.Message, words)
			}
		}
		env.Eventually("the log names the volume", func() error {
			for line := range strings.Lines(p.Log()) {
				if strings.Contains(line, env.Namespace+"/"+claim+`"`) && strings.Contains(line, volume) && strings.Contains(line, classOf(claim)) {
					return nil
				}
			}
			return fmt.Errorf("no line of the log has claim %q, its class and volume %q", claim, volume)
		})
	}
	env.Steadily("the claims stay, and nothing is called", time.Second, func() error {
		for _, claim := range claims {
			if err := onRecord(env, claim); err != nil {
				return err
			}
		}
		if calls := slices.Concat(env.Faults.Calls("CreateVolume"), env.Faults.Calls("DeleteVolume")); len(calls) > 0 {
			return fmt.Errorf("the driver was called: %v", calls[0].Request)
		}
		return volumes(env, 1+len(claims))
	})
	for _, claim := range claims {
		if strings.HasSuffix(claim, "-other") {
			dropClass(t, env, classOf(claim))
		}
		env.CreateClass(classOf(claim))
	}
	env.WaitGone(append(claims, "src")...)
	env.Eventually("no volume is left", func() error { return volumes(env, 0) })
}

// The class tells nothing about who wrote the record: the source is kept, without which
// nobody could find out what was made of it.
func TestASourceIsHeldWhileTheClassOfItsCloneIsGone(t *testing.T) {
	t.Parallel()
	env, p := withSource(t, alone)
	content := env.Checksum("src")
	gate := env.Faults.On("CreateVolume").When(ofClones).HangUntilReleased()
	env.Create(env.Claim("copy", kit.CloneOf("src")), env.Claim("doomed", kit.CloneOf("src")))
	awaitCalls(env, "copy", "doomed")
	p.Kill()
	gate.Release()
	dropClass(t, env, env.Class)
	env.StartProvisioner(alone)
	env.WaitEvent("copy", "StorageClassNotFound")
	env.Delete("src", "doomed")
	env.WaitEvent("doomed", "CleanUpBlocked")
	env.Steadily("the source is held", time.Second, func() error {
		if !slices.Contains(env.Get("src").Finalizers, cloningProtection) {
			return fmt.Errorf("its finalizers are %v", env.Get("src").Finalizers)
		}
		return nil
	})
	env.CreateClass(env.Class)
	env.WaitBound("copy")
	env.WaitGone("src", "doomed")
	if got := env.Checksum("copy"); got != content {
		t.Errorf("checksum of the clone is %s, of the source it was %s", got, content)
	}
	env.Eventually("only the clone's volume is left", func() error { return volumes(env, 1) })
}
