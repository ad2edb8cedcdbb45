package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// hasRecord says whether the claim carries the record of the test's driver.
func hasRecord(env *kit.Env, name string) bool {
	return slices.Contains(env.Get(name).Finalizers, env.DriverName+"/provisioning")
}

// recordedBytes returns the bytes that the claim's record pins.
func recordedBytes(env *kit.Env, name string) string {
	return env.Get(name).Annotations[env.DriverName+"/required-bytes"]
}

// expectRecorded waits until the metric for draining says so many.
func expectRecorded(env *kit.Env, p *kit.Provisioner, want int) {
	p.WaitMetric(float64(want), "csi_clone_provisioner_claims_recorded")
}

func TestWhichClaimsAreOnRecord(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]map[string]bool{
		"all":     {"blank": true, "copy": true},
		"sources": {"blank": false, "copy": true},
		"off":     {"blank": false, "copy": false},
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			env, p := withSource(t, "--provisioning-record="+mode, "--timeout=2m", longRemovalDelay)
			gate := env.Faults.On("CreateVolume").Gate()
			env.Create(env.Claim("blank"), env.Claim("copy", kit.CloneOf("src")))
			await(t, gate.EnteredBy(2), "the driver is called for both")
			count := 0
			for name, recorded := range want {
				if got := hasRecord(env, name); got != recorded {
					t.Errorf("claim %q is on record: %t, want %t", name, got, recorded)
				}
				if recorded {
					count++
				}
			}
			expectRecorded(env, p, count)
			if !slices.Contains(env.Get("src").Finalizers, cloningProtection) {
				t.Error("the source is not protected")
			}
			// The source's deletion waits for the clone, on record or not.
			content := env.Checksum("src")
			env.Delete("src")
			env.Steadily("the source is held", time.Second, func() error {
				if !slices.Contains(env.Get("src").Finalizers, cloningProtection) {
					return fmt.Errorf("its finalizers are %v", env.Get("src").Finalizers)
				}
				return nil
			})
			bound := when(t, env, "copy", isBound)
			gone := when(t, env, "src", isGone)
			gate.Release()
			env.WaitBound("blank", "copy")
			delay := await(t, gone, "the source is gone").Sub(await(t, bound, "the clone is bound"))
			t.Logf("the source was gone %s after its clone was bound", delay.Round(time.Millisecond))
			if got := env.Checksum("copy"); got != content {
				t.Errorf("checksum of the clone is %s, of the source it was %s", got, content)
			}
			expectRecorded(env, p, 0)
			if calls := env.Faults.Calls("CreateVolume"); len(calls) != 3 {
				t.Errorf("%d calls of CreateVolume, want one for each claim", len(calls))
			}
		})
	}
}

// Without a record what a claim has begun is known to the process alone.
func TestAClaimWithoutARecordLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(faults.Selector) *faults.Gate{
		"deleted during a call": func(s faults.Selector) *faults.Gate { return s.Gate() },
		"deleted after a call that timed out": func(s faults.Selector) *faults.Gate {
			return s.HangUntilReleased()
		},
		"deleted between reply and save": func(s faults.Selector) *faults.Gate { return s.GateReply() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, p := withSource(t, "--provisioning-record=off", "--timeout=10s")
			gate := fault(env.Faults.On("CreateVolume").When(ofClones).Next(1))
			env.Create(env.Claim("doomed", kit.CloneOf("src")))
			await(t, gate.Entered(), "the driver is called")
			env.Delete("doomed")
			if name != "deleted after a call that timed out" {
				env.WaitGone("doomed") // nothing of ours is on it
			}
			// What hangs is worked off before anybody asks again: nobody could find what a
			// driver begins to make after a later call was answered, and its volume deleted.
			gate.Release()
			env.WaitGone("doomed")
			env.Eventually("only the source's volume is left", func() error {
				if err := env.Faults.WaitIdle(env.Ctx); err != nil {
					return err
				}
				return volumes(env, 1)
			})
			if hasRecord(env, "src") || !p.Running() {
				t.Error("the source is on record, or the provisioner has ended")
			}
			leave(env, "src")
		})
	}
}

func TestAProvisionerThatDrainsFinishesWhatIsOnRecord(t *testing.T) {
	t.Parallel()
	env, p := withSource(t, alone)
	gate := env.Faults.On("CreateVolume").When(ofClones).HangUntilReleased()
	env.Create(env.Claim("copy", kit.CloneOf("src")), env.Claim("doomed", kit.CloneOf("src")))
	awaitCalls(env, "copy", "doomed")
	p.Kill()
	env.Delete("doomed")
	gate.Release()
	p = env.StartProvisioner(alone, "--provisioning-record=off")
	env.WaitBound("copy")
	env.WaitGone("doomed")
	sameContent(t, env, "copy", "src")
	env.Eventually("only two volumes are left", func() error { return volumes(env, 2) })
	expectRecorded(env, p, 0)
	env.Create(env.Claim("later", kit.CloneOf("src")))
	env.WaitBound("later")
	if err := unmarked(env, "later"); err != nil {
		t.Error(err)
	}
	leave(env, "src")
}

// A claim that a process worked on without a record is found by the next one as it
// is: pending, with its source protected.
func TestAClaimWithoutARecordIsTakenUpAfterACrash(t *testing.T) {
	t.Parallel()
	env, p := withSource(t, alone, "--provisioning-record=off")
	content := env.Checksum("src")
	gate := env.Faults.On("CreateVolume").When(ofClones).Next(1).HangUntilReleased()
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	await(t, gate.Entered(), "the driver is called")
	p.Kill()
	aSecondLater(t, env, "copy")
	env.Delete("src")
	gate.Release()
	env.StartProvisioner(alone)
	env.WaitBound("copy")
	env.WaitGone("src")
	if got := env.Checksum("copy"); got != content {
		t.Errorf("checksum of the clone is %s, of the source it was %s", got, content)
	}
	env.Eventually("only the clone's volume is left", func() error { return volumes(env, 1) })
}

// aSecondLater returns when the API server's clock shows a later second than that of
// the claim's creation: its times have no fractions.
func aSecondLater(t *testing.T, env *kit.Env, claim string) {
	t.Helper()
	secondAfter(t, env, env.Get(claim).CreationTimestamp)
}

func secondAfter(t *testing.T, env *kit.Env, created metav1.Time) {
	t.Helper()
	env.Eventually("a second has begun since", func() error {
		object := &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "clock-"}}
		now, err := env.Admin.CoreV1().ConfigMaps(env.Namespace).Create(env.Ctx, object, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		if !created.Before(&now.CreationTimestamp) {
			return fmt.Errorf("it is still %s", now.CreationTimestamp)
		}
		return nil
	})
}

// After a final error nothing exists, and the source may have grown: the bytes on
// record are not asked for any more.
func TestASourceThatHasGrownIsAskedForWithItsNewSize(t *testing.T) {
	t.Parallel()
	env, p := withSource(t, alone)
	asks := func(bytes int64) func(any) bool {
		return faults.Request(func(req *csi.CreateVolumeRequest) bool {
			return req.GetVolumeContentSource() != nil && req.GetCapacityRange().GetRequiredBytes() == bytes
		})
	}
	env.Faults.On("CreateVolume").When(asks(1<<30)).Fail(codes.OutOfRange, "the source is larger")
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitEvent("copy", "ProvisioningFailed")
	if got := recordedBytes(env, "copy"); got != fmt.Sprint(1<<30) {
		t.Errorf("%s bytes are on record", got)
	}
	gate := env.Faults.On("CreateVolume").When(asks(2 << 30)).Next(1).HangUntilReleased()
	pv := env.PV("src")
	pv.Spec.Capacity[v1.ResourceStorage] = resource.MustParse("2Gi")
	if _, err := env.Admin.CoreV1().PersistentVolumes().Update(env.Ctx, pv, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, gate.Entered(), "the driver is asked for the new size")
	if got := recordedBytes(env, "copy"); got != fmt.Sprint(2<<30) {
		t.Errorf("%s bytes are on record while %d are asked for", got, 2<<30)
	}
	// What is asked for now is repeated by whoever comes after us.
	p.Kill()
	gate.Release()
	if err := env.Faults.WaitIdle(env.Ctx); err != nil {
		t.Fatal(err)
	}
	env.StartProvisioner(alone)
	env.WaitBound("copy")
	sameContent(t, env, "copy", "src")
	if err := volumes(env, 2); err != nil {
		t.Error(err)
	}
	leave(env, "src")
}
