package integration

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// What csi-provisioner leaves behind: its finalizer on sources, and clones that it had
// begun, which carry nothing.

// replaced returns a world in which "src" and "other" are bound, and no provisioner
// runs any more.
func withoutProvisioner(t *testing.T) *kit.Env {
	t.Helper()
	env, p := withSource(t, alone)
	env.Create(env.Claim("other"))
	env.WaitBound("other")
	for _, claim := range []string{"src", "other"} {
		env.Eventually("the claim is off record", func() error { return unmarked(env, claim) })
	}
	if code := p.Stop(); code != 0 {
		t.Errorf("exit code is %d, want 0", code)
	}
	return env
}

// incumbentProtects does what csi-provisioner does to a source.
func incumbentProtects(env *kit.Env, sources ...string) {
	for _, source := range sources {
		env.Update(source, kit.Finalizer(cloningProtection))
	}
}

// incumbentCalls does what csi-provisioner does at the driver for a clone of "src",
// once the PV controller has given that to the driver.
func incumbentCalls(t *testing.T, env *kit.Env, clone string) {
	t.Helper()
	waitGiven(env, clone, env.DriverName)
	conn, err := env.Driver.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = csi.NewControllerClient(conn).CreateVolume(env.Ctx, &csi.CreateVolumeRequest{
		Name:          "pvc-" + string(env.Get(clone).UID),
		CapacityRange: &csi.CapacityRange{RequiredBytes: 1 << 30},
		VolumeCapabilities: []*csi.VolumeCapability{{
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER},
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
		}},
		VolumeContentSource: &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
			Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: env.PV("src").Spec.CSI.VolumeHandle},
		}},
	})
	if err != nil {
		t.Fatalf("calling the driver for claim %q: %v", clone, err)
	}
}

func TestClonesThatTheIncumbentLeftInFlightAreFinished(t *testing.T) {
	t.Parallel()
	env := withoutProvisioner(t)
	incumbentProtects(env, "src")
	env.Create(env.Claim("begun", kit.CloneOf("src")), env.Claim("not-begun", kit.Ref("src")))
	incumbentCalls(t, env, "begun")
	env.StartProvisioner(alone)
	env.WaitBound("begun", "not-begun")
	if err := volumes(env, 4); err != nil {
		t.Errorf("the volume that was there should be used: %v", err)
	}
	sameContent(t, env, "begun", "src")
	leave(env, "src") // at once
}

// The source is being deleted, and only the incumbent's finalizer keeps it for clones
// that are older than its deletion.
func TestClonesThatTheIncumbentLeftInFlightAreFinishedBeforeTheirSourceGoes(t *testing.T) {
	t.Parallel()
	env := withoutProvisioner(t)
	incumbentProtects(env, "src")
	content := env.Checksum("src")
	env.Create(env.Claim("begun", kit.CloneOf("src")), env.Claim("not-begun", kit.Ref("src")))
	incumbentCalls(t, env, "begun")
	waitGiven(env, "not-begun", env.DriverName)
	aSecondLater(t, env, "not-begun") // a clone of the same second may have come later
	env.Delete("src")
	laterThanDeletionOf(env, "src")
	env.Create(env.Claim("late", kit.CloneOf("src")))
	env.StartProvisioner(alone)
	env.WaitBound("begun", "not-begun")
	env.WaitGone("src")
	for _, clone := range []string{"begun", "not-begun"} {
		if got := env.Checksum(clone); got != content {
			t.Errorf("checksum of clone %q is %s, of the source it was %s", clone, got, content)
		}
	}
	env.Eventually("there are the volumes of the two clones and of the other claim", func() error { return volumes(env, 3) })
	if calls := callsFor(env, "late"); len(calls) > 0 {
		t.Errorf("the driver was called for a clone that is younger than the deletion of its source: %v", calls[0].Request)
	}
}

// laterThanDeletionOf waits until what is created is younger than the deletion of a
// claim, which is known to the second.
func laterThanDeletionOf(env *kit.Env, claim string) {
	deleted := env.Get(claim).DeletionTimestamp.Time
	env.Eventually("another second has begun", func() error {
		if !time.Now().After(deleted.Add(2 * time.Second)) {
			return errors.New("it has not")
		}
		return nil
	})
}

func TestACloneMadeAfterItsSourceWasDeletedIsRefusedAfterAnUpgrade(t *testing.T) {
	t.Parallel()
	env := withoutProvisioner(t)
	incumbentProtects(env, "src")
	env.Delete("src")
	laterThanDeletionOf(env, "src")
	env.Create(env.Claim("late", kit.CloneOf("src")))
	gone := when(t, env, "src", isGone)
	started := time.Now()
	env.StartProvisioner(alone)
	t.Logf("the source was gone %s after the provisioner was started", await(t, gone, "the source is gone").Sub(started).Round(time.Millisecond))
	env.Eventually("the clone is told", func() error {
		if env.CountEvents("late", "CloneSourceDeleting")+env.CountEvents("late", "CloneSourceNotFound") == 0 {
			return errors.New("it has heard nothing")
		}
		return nil
	})
	if calls := cloneCalls(env); len(calls) > 0 {
		t.Errorf("the driver was called: %v", calls)
	}
}

func TestFinalizersThatTheIncumbentLeftOnSourcesAreTakenOff(t *testing.T) {
	t.Parallel()
	env := withoutProvisioner(t)
	// "other" is cloned by a claim that does not begin.
	env.Create(env.Claim("refused", kit.CloneOf("other"), kit.Size("1Mi")), env.Claim("waiting", kit.CloneOf("none")))
	bindByHandNew(t, env, "foreign", csiVolume(otherDriver, "volume-1"))
	incumbentProtects(env, "src", "other", "foreign")
	env.StartProvisioner(alone, longRemovalDelay)
	for _, source := range []string{"src", "other"} {
		env.Eventually("the source is free", func() error { return unmarked(env, source) })
	}
	// One that comes later, and is in the way.
	incumbentProtects(env, "src")
	leave(env, "src")

	env.Delete("foreign")
	env.Steadily("a source of another driver is that driver's", 2*time.Second, func() error {
		if !slices.Contains(env.Get("foreign").Finalizers, cloningProtection) {
			return errors.New("its finalizer is gone")
		}
		return nil
	})
	env.Update("foreign", func(claim *v1.PersistentVolumeClaim) { claim.Finalizers = nil })
	env.WaitGone("foreign")
	for _, claim := range []string{"refused", "waiting"} {
		if calls := callsFor(env, claim); len(calls) > 0 {
			t.Errorf("the driver was called: %v", calls[0].Request)
		}
	}
}

// bindByHandNew creates a claim that is bound to a static PV with a volume.
func bindByHandNew(t *testing.T, env *kit.Env, claim string, volume v1.PersistentVolumeSource) {
	t.Helper()
	pv := staticPV(env, claim, volume)
	pv.Name += "-" + claim
	createPV(t, env, pv)
	env.Create(env.Claim(claim, func(claim *v1.PersistentVolumeClaim) { claim.Spec.VolumeName = pv.Name }))
	env.WaitBound(claim)
}
