package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// From the driver's reply to the PV that is saved: claims that are deleted on the
// way, volumes that do not go, and PVs that cannot be saved.

// deletionOf limits a fault to the deletion of the volume of that name.
func deletionOf(env *kit.Env, name string) func(any) bool {
	return faults.Request(func(req *csi.DeleteVolumeRequest) bool {
		for _, volume := range env.Driver.Driver.Volumes() {
			if volume.ID == req.GetVolumeId() {
				return volume.Name == name
			}
		}
		return false
	})
}

func TestAClaimDeletedOnTheWayToItsPVIsCleanedUpHoweverLongItTakes(t *testing.T) {
	t.Parallel()
	common := kit.New(t)
	common.StartProvisioner("--timeout=1s", "--retry-interval-start=200ms", "--retry-interval-max=500ms", "--extra-create-metadata")
	moments := map[string]func(faults.Selector) *faults.Gate{
		"during the call":                  faults.Selector.Gate,
		"during a call that hangs":         faults.Selector.HangUntilReleased,
		"between reply and save of the PV": faults.Selector.GateReply,
	}
	failures := map[string]func(faults.Selector){
		"fails at first":               func(s faults.Selector) { s.Next(2).Fail(codes.Internal, "the shelf is locked") },
		"works, but nobody is told":    func(s faults.Selector) { s.Next(2).LoseReply() },
		"does not end in time":         func(s faults.Selector) { s.Next(1).Hang() },
		"is refused at first":          func(s faults.Selector) { s.Next(2).Fail(codes.FailedPrecondition, "it is in use") },
		"is said to be at work":        func(s faults.Selector) { s.Next(2).Fail(codes.Aborted, "at work") },
		"fails, then works, untold":    func(s faults.Selector) { s.Next(1).Fail(codes.Internal, "x"); s.Next(1).LoseReply() },
		"is answered as if it had not": func(s faults.Selector) { s.Next(1).LoseReplyAs(codes.Internal, "x") },
	}
	for moment, hold := range moments {
		for failure, fail := range failures {
			t.Run(moment+", deleting "+failure, func(t *testing.T) {
				env := common.Beside(t)
				t.Parallel()
				bindSource()(t, env)
				gate := hold(env.Faults.On("CreateVolume").When(ofClones).When(inNamespace(env.Namespace)).Next(1))
				env.Create(env.Claim("copy", kit.CloneOf("src")))
				await(t, gate.Entered(), "the driver is called")
				volume := "pvc-" + string(env.Get("copy").UID)
				fail(env.Faults.On("DeleteVolume").When(deletionOf(env, volume)))
				env.Delete("copy", "src")
				gate.Release()
				env.WaitGone("copy", "src")
				// Its PV may have been saved before anybody saw the deletion: then it goes with that.
				env.Eventually("its volume is deleted", func() error { return noVolume(env, volume) })
			})
		}
	}
}

// noPVs denies that PVs of the test's driver are created.
func noPVs(env *kit.Env) denial {
	return denial{resource: "persistentvolumes", when: fmt.Sprintf("has(object.spec.csi) && object.spec.csi.driver == %q", env.DriverName)}
}

func TestAPVThatIsRefusedIsToldAndSavedLater(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"blank", "clone"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			env, _ := withSource(t, "--timeout=1s", "--retry-interval-max=500ms")
			allow := noPVs(env).install(t, env)
			env.Create(env.Claim("data", kinds()[kind]...), env.Claim("doomed", kinds()[kind]...))
			for _, claim := range []string{"data", "doomed"} {
				event := env.WaitEvent(claim, "ProvisioningFailed")
				for _, words := range []string{fmt.Sprintf("the volume exists, but its PV %q could not be saved (tried again by itself): ", "pvc-"+string(env.Get(claim).UID)), saysNo} {
					if event.Type != v1.EventTypeWarning || !strings.Contains(event.Message, words) {
						t.Errorf("event is %s %q, want a Warning with %q", event.Type, event.Message, words)
					}
				}
			}
			doomed := "pvc-" + string(env.Get("doomed").UID)
			env.Delete("doomed", "src")
			env.WaitGone("doomed")
			if err := noVolume(env, doomed); err != nil {
				t.Error(err)
			}
			if kind == "clone" && !isGoing(env.Get("src")) {
				t.Error("the source should be held: nobody knows of its clone's volume but the record")
			}
			allow()
			env.WaitBound("data")
			env.WaitGone("src")
			if kind == "clone" {
				if got := string(env.ReadFile("data", "file")); got != "content of the source" {
					t.Errorf("the clone has content %q", got)
				}
			}
			repeated(t, env, env.Get("data").Spec.VolumeName, len(callsFor(env, "data")))
		})
	}
}

func isGoing(claim *v1.PersistentVolumeClaim) bool { return claim.DeletionTimestamp != nil }

// A PV of the same name is made by somebody else in the moment between the driver's
// reply and the save of ours.
func TestAPVThatMeetsAnotherOfItsName(t *testing.T) {
	t.Parallel()
	for end, come := range map[string]func(t *testing.T, env *kit.Env, pv string){
		"the other PV goes": func(t *testing.T, env *kit.Env, pv string) {
			if err := env.Admin.CoreV1().PersistentVolumes().Delete(env.Ctx, pv, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			env.WaitBound("data")
			if got := env.PV("data").Spec.CSI.Driver; got != env.DriverName {
				t.Errorf("the PV is of driver %q", got)
			}
		},
		"the claim is deleted": func(_ *testing.T, env *kit.Env, _ string) {
			env.Delete("data")
			env.WaitGone("data")
		},
	} {
		for kind, options := range kinds() {
			t.Run(end+", "+kind, func(t *testing.T) {
				t.Parallel()
				env, _ := withSource(t, "--retry-interval-max=500ms")
				gate := env.Faults.On("CreateVolume").Next(1).GateReply()
				env.Create(env.Claim("data", options...))
				await(t, gate.Entered(), "the driver is called")
				other := staticPV(env, "", csiVolume(otherDriver, "volume-1"))
				other.Name, other.Spec.ClaimRef, other.Spec.StorageClassName = "pvc-"+string(env.Get("data").UID), nil, ""
				createPV(t, env, other)
				gate.Release()
				event := env.WaitEvent("data", "ProvisioningFailed")
				if want := fmt.Sprintf("the volume exists, but its PV %q could not be saved (tried again by itself): a PV of that name exists and is not the one to be saved; remove it, or use a longer --volume-name-uuid-length", other.Name); event.Message != want {
					t.Errorf("event is %q, want %q", event.Message, want)
				}
				env.WaitEvent("data", "VolumeNameTaken")
				live, err := env.Admin.CoreV1().PersistentVolumes().Get(env.Ctx, other.Name, metav1.GetOptions{})
				if err != nil || live.Spec.CSI.Driver != otherDriver || live.DeletionTimestamp != nil {
					t.Errorf("the other PV is %v (%v), want it left alone", live, err)
				}
				come(t, env, other.Name)
				leave(env, "src")
			})
		}
	}
}

// The claim is deleted when it was not bound to its PV, or only just.
func TestAClaimDeletedWhenItsPVWasJustSavedTakesItsVolumeWithIt(t *testing.T) {
	t.Parallel()
	env, _ := withSource(t)
	for i := range 10 {
		claim := fmt.Sprintf("data-%d", i)
		gate := env.Faults.On("CreateVolume").Next(1).GateReply()
		env.Create(env.Claim(claim, kit.CloneOf("src")))
		await(t, gate.Entered(), "the driver is called")
		pv := "pvc-" + string(env.Get(claim).UID)
		gate.Release()
		env.Eventually("the PV is saved", func() error {
			_, err := env.Admin.CoreV1().PersistentVolumes().Get(env.Ctx, pv, metav1.GetOptions{})
			return err
		})
		env.Delete(claim)
		env.WaitGone(claim)
	}
	env.Eventually("only the source's volume is left", func() error { return volumes(env, 1) })
	leave(env, "src")
	env.Steadily("nothing comes back", time.Second, func() error { return volumes(env, 0) })
}
