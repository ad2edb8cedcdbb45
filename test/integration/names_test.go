package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// letters is more claims than there are names when one letter of the uid goes
// into a name: two of them collide for certain.
const letters = 17

// oneLetter makes volume names collide soon.
func oneLetter(env *kit.Env) []string {
	return []string{"--volume-name-prefix=" + env.Namespace, "--volume-name-uuid-length=1", "--timeout=2m", noBackOff, noBackOffMax}
}

// collide creates claims until two of them would get a volume of the same name,
// and returns these. All calls are at the gate, and none is for the second.
func collide(t *testing.T, env *kit.Env, gate *faults.Gate) (first, second, volume string) {
	t.Helper()
	owner := map[byte]string{}
	for i := range letters {
		name := fmt.Sprintf("claim-%d", i)
		env.Create(env.Claim(name))
		letter := env.Get(name).UID[0]
		if first = owner[letter]; first != "" {
			return first, name, fmt.Sprintf("%s-%c", env.Namespace, letter)
		}
		owner[letter] = name
		await(t, gate.EnteredBy(i+1), "the driver is called")
	}
	panic("unreachable: there are fewer letters than claims")
}

// whenPVGone reports the moment at which a PV goes, by a watch that begins now.
func whenPVGone(t *testing.T, env *kit.Env, name string) <-chan time.Time {
	t.Helper()
	ctx, cancel := context.WithTimeout(env.Ctx, 2*longest)
	moment := make(chan time.Time, 1)
	err := kit.Follow(ctx, env.Admin.CoreV1().PersistentVolumes(), "metadata.name="+name, func(event watch.Event) bool {
		if event.Type != watch.Deleted {
			return true
		}
		moment <- time.Now()
		cancel()
		return false
	})
	if err != nil {
		cancel()
		t.Fatalf("following PV %q: %v", name, err)
	}
	return moment
}

func nameInUse(env *kit.Env, volume, owner string) told {
	return told{"Normal", "VolumeNameInUse", fmt.Sprintf(
		"the claim waits until volume %q of claim %s/%s is made, whose name it would share; use a longer --volume-name-uuid-length", volume, env.Namespace, owner)}
}

func nameTaken(pv string) told {
	return told{"Warning", "VolumeNameTaken", fmt.Sprintf(
		"PV %q has the name of this claim's volume but is not its PV; remove that PV, or use a longer --volume-name-uuid-length", pv)}
}

// waitsForName fails the test unless the claim was told this about its volume's
// name, and nothing is done for it.
func waitsForName(env *kit.Env, claim string, want ...told) {
	env.Eventually("the claim is told why it waits", func() error { return heard(env, claim, want...) })
	env.Steadily("it was told once, and nothing is done", 500*time.Millisecond, func() error {
		if err := heard(env, claim, want...); err != nil {
			return err
		}
		return unmarked(env, claim)
	})
}

// logCallDelay logs how long after a moment the latest call for a volume came, and fails the
// test unless it is the second one.
func logCallDelay(t *testing.T, env *kit.Env, volume string, since time.Time, after string) {
	t.Helper()
	calls := callsNamed(env, volume)
	if len(calls) != 2 {
		t.Fatalf("there are %d CreateVolume calls for volume %q, want one for each of the two claims", len(calls), volume)
	}
	delay := calls[1].Start.Sub(since).Round(time.Millisecond)
	t.Logf("delay of the first CreateVolume: %s after %s", delay, after)
}

func TestAClaimWaitsForTheNameOfItsVolumeToBeFree(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner(oneLetter(env)...)
	gate := env.Faults.On("CreateVolume").Gate()
	first, second, volume := collide(t, env, gate)
	waitsForName(env, second, nameInUse(env, volume, first))

	// The other one has got its volume: that does not make the name free.
	gate.Release()
	env.WaitBound(first)
	waitsForName(env, second, nameInUse(env, volume, first), nameTaken(volume))

	gone := whenPVGone(t, env, volume)
	env.Delete(first)
	env.WaitBound(second)
	if got := env.PV(second).Name; got != volume {
		t.Errorf("the PV is %q, want %q, which has become free", got, volume)
	}
	logCallDelay(t, env, volume, await(t, gone, "the PV is gone"), "the PV of that name was gone")
}

func TestAClaimStartsWhenTheOtherClaimOfItsVolumeNameIsCleanedUp(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner(oneLetter(env)...)
	gate := env.Faults.On("CreateVolume").Gate()
	first, second, volume := collide(t, env, gate)
	waitsForName(env, second, nameInUse(env, volume, first))

	// Its volume is being made while it is deleted, so that is deleted, too, with its PV.
	gone := whenPVGone(t, env, volume)
	env.Delete(first)
	waitsForName(env, second, nameInUse(env, volume, first))
	gate.Release()
	env.WaitBound(second)
	logCallDelay(t, env, volume, await(t, gone, "the PV of the other claim is gone"), "the PV of that name was gone")
	var deleted []string
	for _, call := range env.Faults.Calls("DeleteVolume") {
		deleted = append(deleted, fmt.Sprint(call.Request))
	}
	if len(deleted) != 1 {
		t.Errorf("these volumes were deleted, want that of the other claim alone: %v", deleted)
	}
}

func TestAClaimStartsWhenAForeignPVOfItsNameGoes(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.WaitForFirstConsumer())
	env.StartProvisioner(noBackOff, noBackOffMax)
	env.Create(env.Claim("src", kit.SelectedNode("node-1")))
	env.WaitBound("src")
	// Nothing begins before a node is selected, so that there is time for the PV.
	claims := []string{"blank", "copy"}
	env.Create(env.Claim("blank", given(env)), env.Claim("copy", given(env), kit.CloneOf("src")))
	for _, claim := range claims {
		pv := staticPV(env, "", csiVolume("other.example", "volume-1"))
		pv.Name, pv.Spec.ClaimRef, pv.Spec.StorageClassName = "pvc-"+string(env.Get(claim).UID), nil, ""
		createPV(t, env, pv)
		env.Eventually("the claim is refused", func() error { return heard(env, claim, nameTaken(pv.Name)) })
		env.Update(claim, kit.SelectedNode("node-1"))
	}
	for _, claim := range claims {
		waitsForName(env, claim, nameTaken("pvc-"+string(env.Get(claim).UID)))
		pv := "pvc-" + string(env.Get(claim).UID)
		gone := whenPVGone(t, env, pv)
		if err := env.Admin.CoreV1().PersistentVolumes().Delete(env.Ctx, pv, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		env.WaitBound(claim)
		logDelays(t, env, await(t, gone, "the PV is gone"), "the PV of its name was gone", claim)
	}
	leave(env, "src")
}

func TestClaimsThatAreMadeTogetherUnderOneNameShareNoVolume(t *testing.T) {
	t.Parallel()
	for name, workers := range map[string]string{
		"called for side by side":        "--worker-threads=100",
		"called for one after the other": "--worker-threads=1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := kit.New(t)
			env.StartProvisioner("--volume-name-prefix="+env.Namespace, "--volume-name-uuid-length=1", "--timeout=2m", workers)
			// No PV exists before all claims are on record.
			gate := env.Faults.On("CreateVolume").Gate()
			claims := makeTogether(env, letters)
			gate.Release()
			winners, losers := settle(env, claims)
			if n := len(env.PVs()); n != len(winners) {
				t.Errorf("there are %d PVs for %d names", n, len(winners))
			}

			// The losers go, and take no volume with them that is another's.
			env.Delete(losers...)
			env.WaitGone(losers...)
			for _, winner := range winners {
				env.VolumePath(winner) // fails if there is no such volume
			}
			if err := volumes(env, len(winners)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestALoserOfAVolumeNameStartsWhenTheNameIsFree(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner("--volume-name-prefix="+env.Namespace, "--volume-name-uuid-length=1", "--timeout=2m", noBackOff, noBackOffMax)
	gate := env.Faults.On("CreateVolume").Gate()
	claims := makeTogether(env, letters)
	gate.Release()
	for len(claims) > 0 {
		var winners []string
		winners, claims = settle(env, claims)
		env.Delete(winners...)
		env.WaitGone(winners...)
	}
}

// makeTogether creates claims that are on record from the beginning, as those of
// another process are, and returns their names when all are given to the driver. This
// provisioner would not put two claims of one name on record at once.
func makeTogether(env *kit.Env, count int) []string {
	var names []string
	record := env.DriverName + "/provisioning"
	for i := range count {
		names = append(names, fmt.Sprintf("claim-%d", i))
		env.Create(env.Claim(names[i], kit.Finalizer(record)))
	}
	for _, name := range names {
		env.Eventually(fmt.Sprintf("claim %q is given to the driver", name), func() error {
			if driver := env.Get(name).Annotations["volume.kubernetes.io/storage-provisioner"]; driver != env.DriverName {
				return fmt.Errorf("it is given to %q", driver)
			}
			return nil
		})
	}
	return names
}

// settle waits until of the claims with the same first letter in their uid one
// is bound, and the others were told why they are not.
func settle(env *kit.Env, claims []string) (winners, losers []string) {
	distinct := map[byte]bool{}
	for _, name := range claims {
		distinct[env.Get(name).UID[0]] = true
	}
	env.Eventually("one claim of each name is bound, the others are told why not", func() error {
		winners, losers = nil, nil
		for _, name := range claims {
			if env.Get(name).Status.Phase == v1.ClaimBound {
				winners = append(winners, name)
				continue
			}
			losers = append(losers, name)
			if env.CountEvents(name, "VolumeNameTaken")+env.CountEvents(name, "ProvisioningFailed") == 0 {
				return fmt.Errorf("claim %q has heard nothing", name)
			}
		}
		if len(winners) != len(distinct) {
			return fmt.Errorf("%d claims are bound, want %d", len(winners), len(distinct))
		}
		return nil
	})
	return winners, losers
}
