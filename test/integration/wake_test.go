package integration

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
)

// All tests of this file have a back-off that nobody lives to see: what starts
// was woken.

// firstCall returns when the driver was first called for a claim.
func firstCall(env *kit.Env, claim string) time.Time { return callsFor(env, claim)[0].Start }

// logDelays logs how long after a moment the driver was first called for claims.
func logDelays(t *testing.T, env *kit.Env, since time.Time, after string, claims ...string) {
	t.Helper()
	var delays []time.Duration
	for _, claim := range claims {
		delays = append(delays, firstCall(env, claim).Sub(since).Round(time.Millisecond))
	}
	slices.Sort(delays)
	if len(delays) == 1 {
		t.Logf("delay of the first CreateVolume: %s after %s", delays[0], after)
		return
	}
	t.Logf("delays of the first CreateVolume of %d claims: %s to %s after %s", len(delays), delays[0], delays[len(delays)-1], after)
}

func waitingFor(source string) told {
	return told{"Normal", "CloneSourceNotFound", fmt.Sprintf(
		`clone waits for source PVC %q, which does not exist; it starts by itself when that PVC is there and bound`, source)}
}

func TestClonesStartWhenTheirSourceAppears(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner(noBackOff, noBackOffMax)
	var clones []string
	for i := range 10 {
		clones = append(clones, fmt.Sprintf("copy-%d", i))
		env.Create(env.Claim(clones[i], kit.CloneOf("src")))
	}
	for _, clone := range clones {
		env.Eventually("the clone waits", func() error { return heard(env, clone, waitingFor("src")) })
	}

	bound := when(t, env, "src", isBound)
	env.Create(env.Claim("src"))
	created := time.Now()
	env.WaitBound(clones...)
	logDelays(t, env, created, "the source was created", clones...)
	logDelays(t, env, await(t, bound, "the source is bound"), "the source was bound", clones...)
	for _, clone := range clones {
		requestFor(t, env, clone) // one call each
		for _, event := range said(env, clone) {
			if event.Type != "Normal" || event.Count > 1 {
				t.Errorf("event of clone %q: %d x %s %s: %s", clone, event.Count, event.Type, event.Reason, event.Message)
			}
		}
	}
	leave(env, "src")
}

func TestACloneStartsWhenItsSourceIsBound(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.WaitForFirstConsumer())
	env.CreateClass(env.Class + "-now")
	env.StartProvisioner(noBackOff, noBackOffMax, "--clone-policy=compatible")
	env.Create(env.Claim("src"), env.Claim("copy", kit.Class(env.Class+"-now"), kit.CloneOf("src")))
	env.Eventually("the clone waits", func() error {
		return heard(env, "copy", told{"Normal", "CloneSourceNotBound",
			`clone waits until source PVC "src" is bound (it is Pending); it then starts by itself`})
	})
	bound := when(t, env, "src", isBound)
	env.Update("src", kit.SelectedNode("node-1"))
	env.WaitBound("src", "copy")
	logDelays(t, env, await(t, bound, "the source is bound"), "the source was bound", "copy")
	leave(env, "src")
}

func TestAClaimStartsWhenItsClassAppears(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner(noBackOff, noBackOffMax, "--clone-policy=compatible")
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	// Given to the driver by hand: so it is when a class was deleted meanwhile.
	class := kit.Class(env.Class + "-later")
	env.Create(env.Claim("blank", class, given(env)), env.Claim("copy", class, given(env), kit.CloneOf("src")))
	for _, claim := range []string{"blank", "copy"} {
		env.Eventually("the claim waits", func() error {
			return heard(env, claim, told{"Normal", "StorageClassNotFound", fmt.Sprintf(
				"the claim waits for StorageClass %q, which does not exist; provisioning starts by itself when it is there", env.Class+"-later")})
		})
	}
	env.CreateClass(env.Class + "-later")
	created := time.Now()
	env.WaitBound("blank", "copy")
	logDelays(t, env, created, "the class was created", "blank", "copy")
	leave(env, "src")
}

func TestACloneStartsWhenThePVOfItsSourceAppears(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner(noBackOff, noBackOffMax)
	env.Create(staticClaim(env, "src"), env.Claim("copy", kit.CloneOf("src")))
	env.Eventually("the clone waits", func() error {
		return heard(env, "copy", told{"Normal", "CloneSourceNotBound",
			`clone waits until source PVC "src" is bound (it is Pending); it then starts by itself`})
	})
	bound := when(t, env, "src", isBound)
	handle := volumeByHand(t, env)
	createPV(t, env, staticPV(env, "src", csiVolume(env.DriverName, handle)))
	env.WaitBound("src", "copy")
	logDelays(t, env, await(t, bound, "the source is bound"), "the source was bound", "copy")
	if got := requestFor(t, env, "copy").GetVolumeContentSource().GetVolume().GetVolumeId(); got != handle {
		t.Errorf("content source is %q, want %q", got, handle)
	}
	leave(env, "src")
}

func TestAChainOfClonesMadeInReverseOrderBinds(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner(noBackOff, noBackOffMax)
	chain := []string{"copy-3", "copy-2", "copy-1", "src"}
	for i, name := range chain[:3] {
		env.Create(env.Claim(name, kit.CloneOf(chain[i+1])))
		env.Eventually("the clone waits", func() error { return heard(env, name, waitingFor(chain[i+1])) })
	}
	bound := when(t, env, "src", isBound)
	env.Create(env.Claim("src"))
	env.WaitBound(chain...)
	since, after := await(t, bound, "the source is bound"), "the source was bound"
	for _, name := range []string{"copy-1", "copy-2", "copy-3"} {
		logDelays(t, env, since, after+" ("+name+")", name)
	}
	for i, name := range chain[:3] {
		want := env.PV(chain[i+1]).Spec.CSI.VolumeHandle
		if got := requestFor(t, env, name).GetVolumeContentSource().GetVolume().GetVolumeId(); got != want {
			t.Errorf("content source of %q is %q, want %q", name, got, want)
		}
	}
	leave(env, "src", "copy-1", "copy-2")
}

func TestAWaitingCloneIsWokenAfterARestart(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	p := env.StartProvisioner(noBackOff, noBackOffMax)
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.Eventually("the clone waits", func() error { return heard(env, "copy", waitingFor("src")) })
	if code := p.Stop(); code != 0 {
		t.Errorf("exit code is %d, want 0", code)
	}
	env.StartProvisioner(noBackOff, noBackOffMax)
	env.Create(env.Claim("src"))
	env.WaitBound("src", "copy")
	leave(env, "src")
}

// The steps that the PV controller takes when it binds a source, one by one: it is
// not there, and what it does is done by hand.
func TestACloneWaitsForEveryStepOfTheBindingOfItsSource(t *testing.T) {
	t.Parallel()
	world := kit.StartCluster(t, cluster.Options{ControllerManagerArgs: []string{"--controllers=*,-persistentvolume-binder-controller"}})
	env := kit.New(t, kit.On(world))
	env.StartProvisioner(noBackOff, noBackOffMax)
	pvs, name := env.Admin.CoreV1().PersistentVolumes(), env.Namespace+"-static"
	pv := staticPV(env, "src", csiVolume(env.DriverName, volumeByHand(t, env)))
	waits := func(format string, args ...any) told {
		return told{"Normal", "CloneSourceNotBound", fmt.Sprintf(format, args...)}
	}
	setPhase := func(claim string, phase v1.PersistentVolumeClaimPhase) {
		env.UpdateStatus(claim, func(claim *v1.PersistentVolumeClaim) { claim.Status.Phase = phase })
	}
	changePV := func(save func(context.Context, *v1.PersistentVolume, metav1.UpdateOptions) (*v1.PersistentVolume, error), change func()) {
		change()
		var err error
		if pv, err = save(env.Ctx, pv, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	steps := []struct {
		do   func()
		want told
	}{
		{func() { env.Create(env.Claim("src")) },
			waits("clone waits until source PVC %q is bound (it is Pending); it then starts by itself", "src")},
		{func() { setPhase("src", v1.ClaimBound) },
			waits("clone waits until source PVC %q names its PV (spec.volumeName is empty although it is Bound); it then starts by itself", "src")},
		{func() { env.Update("src", func(claim *v1.PersistentVolumeClaim) { claim.Spec.VolumeName = name }) },
			waits("clone waits for PV %q of source PVC %q, which does not exist; it starts by itself when that PV is there", name, "src")},
		{func() {
			var err error
			if pv, err = pvs.Create(env.Ctx, pv, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}, waits("clone waits until PV %q is bound to source PVC %q; it then starts by itself", name, "src")},
		{func() { changePV(pvs.Update, func() { pv.Spec.ClaimRef.UID = env.Get("src").UID }) },
			waits("clone waits until PV %q of source PVC %q is Bound (it is Pending); it then starts by itself", name, "src")},
	}
	env.Create(env.Claim("copy", given(env), kit.CloneOf("src")))
	heardSoFar := []told{waitingFor("src")}
	env.Eventually("the clone waits", func() error { return heard(env, "copy", heardSoFar...) })
	for _, step := range steps {
		step.do()
		heardSoFar = append(heardSoFar, step.want)
		env.Eventually("the clone tells the next thing it waits for", func() error { return heardInAnyOrder(env, "copy", heardSoFar...) })
	}
	if err := untouched(env); err != nil {
		t.Error(err)
	}
	changePV(pvs.UpdateStatus, func() { pv.Status.Phase = v1.VolumeBound })
	since := time.Now()
	env.WaitEvent("copy", "ProvisioningSucceeded")
	logDelays(t, env, since, "the source's PV was Bound", "copy")

	env.Update("copy", func(claim *v1.PersistentVolumeClaim) { claim.Spec.VolumeName = "pvc-" + string(claim.UID) })
	setPhase("copy", v1.ClaimBound)
	env.Eventually("the clone is off record", func() error { return unmarked(env, "copy") })
	leave(env, "src")
}

// staticPV returns a PV made by hand for a claim; it is not created.
func staticPV(env *kit.Env, claim string, volume v1.PersistentVolumeSource) *v1.PersistentVolume {
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: env.Namespace + "-static"},
		Spec: v1.PersistentVolumeSpec{
			AccessModes:                   []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
			StorageClassName:              env.Class,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")},
			PersistentVolumeReclaimPolicy: v1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource:        volume,
			ClaimRef:                      &v1.ObjectReference{Namespace: env.Namespace, Name: claim},
		},
	}
}

func csiVolume(driver, handle string) v1.PersistentVolumeSource {
	return v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: handle}}
}

func createPV(t *testing.T, env *kit.Env, pv *v1.PersistentVolume) {
	t.Helper()
	if _, err := env.Admin.CoreV1().PersistentVolumes().Create(env.Ctx, pv, metav1.CreateOptions{}); err != nil {
		t.Fatalf("creating PV %q: %v", pv.Name, err)
	}
}

// staticClaim is a claim for the PV of staticPV.
func staticClaim(env *kit.Env, name string) *v1.PersistentVolumeClaim {
	return env.Claim(name, func(claim *v1.PersistentVolumeClaim) {
		claim.Spec.VolumeName = env.Namespace + "-static"
	})
}

// volumeByHand has the driver make a volume that no claim asked for, and returns
// its handle.
func volumeByHand(t *testing.T, env *kit.Env) string {
	t.Helper()
	conn, err := env.Driver.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reply, err := csi.NewControllerClient(conn).CreateVolume(env.Ctx, &csi.CreateVolumeRequest{
		Name:          "by-hand-" + env.Namespace,
		CapacityRange: &csi.CapacityRange{RequiredBytes: 1 << 30},
		VolumeCapabilities: []*csi.VolumeCapability{{
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
		}},
	})
	if err != nil {
		t.Fatalf("making a volume by hand: %v", err)
	}
	return reply.GetVolume().GetVolumeId()
}

// dropPV deletes a PV whatever wants to keep it.
func dropPV(t *testing.T, env *kit.Env, name string) {
	t.Helper()
	pvs := env.Admin.CoreV1().PersistentVolumes()
	if err := pvs.Delete(env.Ctx, name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	pv, err := pvs.Get(env.Ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pv.Finalizers = nil
	if _, err := pvs.Update(env.Ctx, pv, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	env.WaitPVGone(name)
}
