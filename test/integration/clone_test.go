package integration

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// longest is how long a test waits for a moment that should come at once.
const longest = 10 * time.Minute

// when reports the moment at which a claim of the test's namespace is first seen
// to be so, by a watch that begins now. A claim that is gone is nil.
func when(t *testing.T, env *kit.Env, name string, so func(*v1.PersistentVolumeClaim) bool) <-chan time.Time {
	t.Helper()
	ctx, cancel := context.WithTimeout(env.Ctx, 2*longest)
	moment := make(chan time.Time, 1)
	err := kit.Follow(ctx, env.Admin.CoreV1().PersistentVolumeClaims(env.Namespace), "metadata.name="+name, func(event watch.Event) bool {
		claim, ok := event.Object.(*v1.PersistentVolumeClaim)
		if !ok {
			return true
		}
		if event.Type == watch.Deleted {
			claim = nil
		}
		if !so(claim) {
			return true
		}
		moment <- time.Now()
		cancel()
		return false
	})
	if err != nil {
		cancel()
		t.Fatalf("following claim %q: %v", name, err)
	}
	return moment
}

func isBound(claim *v1.PersistentVolumeClaim) bool {
	return claim != nil && claim.Status.Phase == v1.ClaimBound && claim.DeletionTimestamp == nil
}

func isGone(claim *v1.PersistentVolumeClaim) bool { return claim == nil }

// await waits for what when or a gate reports.
func await[T any](t *testing.T, moment <-chan T, what string) T {
	t.Helper()
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case m := <-moment:
		return m
	case <-timer.C:
		t.Fatalf("waited %s for this: %s", longest, what)
		panic("unreachable")
	}
}

// longRemovalDelay is for tests that show that something does not wait for the delayed removal of a
// source's finalizer: the delay is longer than any wait of a test.
const longRemovalDelay = "--source-protection-removal-delay=10m"

// leave deletes sources that nobody clones any more: they must go without
// waiting for a sweep. It also spares the test that wait.
func leave(env *kit.Env, sources ...string) {
	var pvs []*v1.PersistentVolume
	for _, source := range sources {
		if env.Get(source).Spec.VolumeName != "" {
			pvs = append(pvs, env.PV(source))
		}
	}
	env.Delete(sources...)
	env.WaitGone(sources...)
	for _, pv := range pvs {
		if pv.Spec.PersistentVolumeReclaimPolicy == v1.PersistentVolumeReclaimDelete {
			env.WaitPVGone(pv.Name)
		}
	}
}

// gateClones holds every clone back at the driver.
func gateClones(env *kit.Env) *faults.Gate {
	return env.Faults.On("CreateVolume").When(ofClones).Gate()
}

func sameContent(t *testing.T, env *kit.Env, claim, other string) {
	t.Helper()
	if got, want := env.Checksum(claim), env.Checksum(other); got != want {
		t.Errorf("checksum of claim %q is %s, of %q %s", claim, got, other, want)
	}
}

func TestACloneHasTheContentOfItsSource(t *testing.T) {
	t.Parallel()
	for name, clone := range map[string]kit.ClaimOption{
		"named by dataSource":    kit.CloneOf("src"),
		"named by dataSourceRef": kit.DataSourceRef(v1.TypedObjectReference{Kind: "PersistentVolumeClaim", Name: "src"}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := kit.New(t)
			env.StartProvisioner()
			env.Create(env.Claim("src", kit.Size("5Gi")))
			env.WaitBound("src")
			env.WriteFile("src", "data/file", []byte("the very content"))

			env.Create(env.Claim("copy", kit.Size("5Gi"), clone))
			env.WaitBound("copy")
			compare(t, []field{
				{"content source", requestFor(t, env, "copy").GetVolumeContentSource().GetVolume().GetVolumeId(), env.PV("src").Spec.CSI.VolumeHandle},
				{"content", string(env.ReadFile("copy", "data/file")), "the very content"},
				{"claimRef.uid", env.PV("copy").Spec.ClaimRef.UID, env.Get("copy").UID},
			})
			sameContent(t, env, "copy", "src")
			pv := env.PV("copy").Name
			env.Eventually("the events of success are there, and no others", func() error {
				return heard(env, "copy",
					told{"Normal", "Provisioning", fmt.Sprintf("External provisioner is provisioning volume for claim %q", env.Namespace+"/copy")},
					told{"Normal", "ProvisioningSucceeded", "Successfully provisioned volume " + pv})
			})
		})
	}
}

func TestTheProtectionOfASourceIsSweptOff(t *testing.T) {
	t.Parallel()
	env, _ := withSource(t)
	wasProtected := false
	free := when(t, env, "src", func(claim *v1.PersistentVolumeClaim) bool {
		protected := slices.Contains(claim.Finalizers, cloningProtection)
		wasProtected = wasProtected || protected
		return wasProtected && !protected
	})
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitBound("copy")
	bound := time.Now()
	t.Logf("the source was free %s after its clone was bound", await(t, free, "the source is free").Sub(bound).Round(time.Millisecond))
	for _, claim := range []string{"src", "copy"} {
		env.Eventually("nothing is left on the claim", func() error { return unmarked(env, claim) })
	}
}

func TestACloneCanBeCloned(t *testing.T) {
	t.Parallel()
	env, _ := withSource(t)
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitBound("copy")
	env.Create(env.Claim("copy-of-copy", kit.CloneOf("copy")))
	env.WaitBound("copy-of-copy")
	compare(t, []field{
		{"content source", requestFor(t, env, "copy-of-copy").GetVolumeContentSource().GetVolume().GetVolumeId(), env.PV("copy").Spec.CSI.VolumeHandle},
	})
	sameContent(t, env, "copy-of-copy", "src")
	leave(env, "src", "copy")
}

func TestABlockVolumeCanBeCloned(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner()
	env.Create(env.Claim("src", kit.Block(), kit.Size("1Mi")))
	env.WaitBound("src")
	env.WriteFile("src", "", []byte("the first bytes of a device"))
	env.Create(env.Claim("copy", kit.Block(), kit.Size("1Mi"), kit.CloneOf("src")))
	env.WaitBound("copy")
	pv, capabilities := env.PV("copy"), requestFor(t, env, "copy").GetVolumeCapabilities()
	compare(t, []field{
		{"volume mode", *pv.Spec.VolumeMode, v1.PersistentVolumeBlock},
		{"file system", pv.Spec.CSI.FSType, ""},
		{"block access is asked for", capabilities[0].GetBlock() != nil, true},
	})
	sameContent(t, env, "copy", "src")
	leave(env, "src")
}

func TestACloneAndItsSourceAreIndependent(t *testing.T) {
	t.Parallel()
	env, _ := withSource(t)
	env.Create(env.Claim("copy", kit.CloneOf("src")), env.Claim("twin", kit.CloneOf("src")))
	env.WaitBound("copy", "twin")
	before := env.Checksum("twin")

	env.WriteFile("copy", "file", []byte("changed in the clone"))
	env.WriteFile("src", "new", []byte("written to the source"))
	compare(t, []field{
		{"file of the source", string(env.ReadFile("src", "file")), "content of the source"},
		{"file of the clone", string(env.ReadFile("copy", "file")), "changed in the clone"},
		{"checksum of the other clone", env.Checksum("twin"), before},
	})

	copied := env.Checksum("copy")
	source := env.PV("src")
	leave(env, "src")
	env.WaitPVGone(source.Name)
	for _, name := range []string{"copy", "twin"} {
		pv := env.PV(name)
		compare(t, []field{
			{"phase of the PV of " + name, pv.Status.Phase, v1.VolumeBound},
			{"owners of the PV of " + name, len(pv.OwnerReferences), 0},
		})
		env.Eventually("nothing is left on the clone", func() error { return unmarked(env, name) })
	}
	compare(t, []field{
		{"checksum of the clone", env.Checksum("copy"), copied},
		{"checksum of the other clone", env.Checksum("twin"), before},
	})
	// And the other way round: deleting a clone spares its twin.
	env.Delete("twin")
	env.WaitGone("twin")
	compare(t, []field{{"checksum of the clone", env.Checksum("copy"), copied}})
}

func TestASourceIsProtectedWhileItsCloneIsMade(t *testing.T) {
	t.Parallel()
	env, _ := withSource(t, "--timeout=2m")
	gate := gateClones(env)
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	await(t, gate.Entered(), "the driver is called")
	if finalizers := env.Get("src").Finalizers; !slices.Contains(finalizers, cloningProtection) {
		t.Errorf("finalizers of the source are %v while the driver is called, want %s among them", finalizers, cloningProtection)
	}
	record := env.DriverName + "/provisioning"
	if finalizers := env.Get("copy").Finalizers; !slices.Contains(finalizers, record) {
		t.Errorf("finalizers of the clone are %v while the driver is called, want %s among them", finalizers, record)
	}
	gate.Release()
	env.WaitBound("copy")
	env.Eventually("the clone is off record", func() error { return unmarked(env, "copy") })
	env.Eventually("the source is free", func() error { return unmarked(env, "src") })
}

func TestASourceThatIsDeletedMeanwhileWaitsForItsClones(t *testing.T) {
	t.Parallel()
	env, _ := withSource(t, "--timeout=2m", longRemovalDelay)
	content := env.Checksum("src")
	gate := gateClones(env)
	env.Create(env.Claim("copy", kit.CloneOf("src")), env.Claim("second", kit.CloneOf("src")))
	await(t, gate.EnteredBy(2), "the driver is called for both")
	env.Delete("src")
	gone := when(t, env, "src", isGone)
	held := told{"Normal", "CloneSourceHeld",
		`deletion of source PVC "src" waits for clones being made of it (first: "copy"); nothing to do`}
	env.Eventually("the source tells why it stays", func() error {
		return heardInAnyOrder(env, "src", append(success(env, "src"), held)...)
	})
	// One that comes too late is refused.
	env.Create(env.Claim("late", kit.CloneOf("src")))
	env.Eventually("the late one is refused", func() error {
		return heard(env, "late", told{"Warning", "CloneSourceDeleting",
			`cannot clone source PVC "src": it is being deleted; create the claim again with another source`})
	})
	if src := env.Get("src"); src.DeletionTimestamp == nil || !slices.Contains(src.Finalizers, cloningProtection) {
		t.Errorf("the source is not held: %v", src.Finalizers)
	}

	bound := when(t, env, "second", isBound)
	gate.Release()
	env.WaitBound("copy", "second")
	through := await(t, bound, "the last clone is bound")
	delay := await(t, gone, "the source is gone").Sub(through)
	t.Logf("the source was gone %s after its last clone was bound", delay.Round(time.Millisecond))
	for _, name := range []string{"copy", "second"} {
		if got := env.Checksum(name); got != content {
			t.Errorf("checksum of clone %q is %s, of the source it was %s", name, got, content)
		}
	}
	if n := env.CountEvents("src", "CloneSourceHeld"); n != 1 {
		t.Errorf("the source was told %d times why it stays, want once", n)
	}
}

// heardOnce returns an error unless the provisioner sent the event for the claim,
// once, whatever else it sent: events of one second are in no order.
func heardOnce(env *kit.Env, claim string, want told) error {
	n := 0
	for _, event := range said(env, claim) {
		if want == (told{event.Type, event.Reason, event.Message}) {
			n += int(max(event.Count, 1))
		}
	}
	if n != 1 {
		return fmt.Errorf("claim %q was told %d times: %v", claim, n, want)
	}
	return nil
}

func TestTheCloneOfACloneInTheMakingWaitsForIt(t *testing.T) {
	t.Parallel()
	env, _ := withSource(t, "--timeout=2m", noBackOff, noBackOffMax)
	gate := gateClones(env)
	env.Create(env.Claim("copy", kit.CloneOf("src")), env.Claim("copy-of-copy", kit.CloneOf("copy")))
	await(t, gate.Entered(), "the driver is called")
	env.Eventually("the second clone waits", func() error {
		return heard(env, "copy-of-copy", told{"Normal", "CloneSourceNotBound",
			`clone waits until source PVC "copy" is bound (it is Pending); it then starts by itself`})
	})
	gate.Release()
	bound := when(t, env, "copy", isBound)
	env.WaitBound("copy-of-copy")
	t.Logf("delay of the second CreateVolume: %s after its source was bound",
		callsFor(env, "copy-of-copy")[0].Start.Sub(await(t, bound, "the first clone is bound")).Round(time.Millisecond))
	if got, want := requestFor(t, env, "copy-of-copy").GetVolumeContentSource(), env.PV("copy").Spec.CSI.VolumeHandle; got.GetVolume().GetVolumeId() != want {
		t.Errorf("content source is %v, want %q", got, want)
	}
	sameContent(t, env, "copy-of-copy", "src")
	leave(env, "src", "copy")
}
