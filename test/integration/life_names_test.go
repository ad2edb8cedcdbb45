package integration

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// Several claims on record with one volume name. A provisioner does not write the
// second record; these are there before it starts, as somebody else's are, or forged
// ones. See names_test.go for claims that wait for a name, and for such as are deleted
// while the same process runs.

// namesakes is how many claims share 16 names.
const namesakes = 40

// rivals are claims on record by the name of their volume.
func rivals(env *kit.Env) map[string][]string {
	found := map[string][]string{}
	for _, claim := range makeTogether(env, namesakes) {
		name := fmt.Sprintf("%s-%c", env.Namespace, env.Get(claim).UID[0])
		found[name] = append(found[name], claim)
	}
	return found
}

// oneLetterNames has provisioners name volumes like that.
func oneLetterNames(env *kit.Env) []string {
	return []string{
		alone, "--volume-name-prefix=" + env.Namespace, "--volume-name-uuid-length=1",
		"--timeout=1s", "--retry-interval-max=500ms",
	}
}

// parts of a group of rivals that are deleted.
func all(group []string) []string         { return group }
func allButFirst(group []string) []string { return group[1:] }
func allButLast(group []string) []string  { return group[:len(group)-1] }

// One process does not put two claims of one name on record. Here they were all, by
// whomever: only the oldest is asked for, and each may be the one that has the volume.
func TestRivalsWhoseOutcomeIsUnknownAreCleanedUpByAnotherProcess(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	groups := rivals(env)
	env.Faults.On("CreateVolume").LoseReply()
	p := env.StartProvisioner(oneLetterNames(env)...)
	for name, group := range groups {
		env.Eventually("one claim is asked for, the others wait", func() error {
			asked := 0
			for _, claim := range group {
				if env.CountEvents(claim, "ProvisioningFailed") > 0 {
					asked++
				} else if env.CountEvents(claim, "VolumeNameInUse") == 0 {
					return fmt.Errorf("claim %q has heard nothing", claim)
				}
			}
			if asked != 1 {
				return fmt.Errorf("%d of %d claims are asked for under the name %q", asked, len(group), name)
			}
			return nil
		})
	}
	if err := volumes(env, len(groups)); err != nil {
		t.Fatalf("the test needs volumes to lose: %v", err)
	}
	p.Kill()
	env.Faults.Reset()
	wanted := map[string]string{} // claims and the names of their volumes
	for i, name := range slices.Sorted(maps.Keys(groups)) {
		group := groups[name]
		doomed := []func([]string) []string{all, allButFirst, allButLast}[i%3](group)
		env.Delete(doomed...)
		for _, claim := range group {
			if !slices.Contains(doomed, claim) {
				wanted[claim] = name
			}
		}
	}
	env.StartProvisioner(oneLetterNames(env)...)
	waitAllBoundOrGone(env, len(wanted))
	for claim, name := range wanted {
		if got := env.PV(claim).Name; got != name {
			t.Errorf("claim %q is bound to PV %q, want %q", claim, got, name)
		}
		env.VolumePath(claim) // fails if there is no such volume
	}
	env.Eventually("there are the volumes of the claims that are left", func() error { return volumes(env, len(wanted)) })
}

// Of each group one claim has got the volume when the provisioner dies.
func TestRivalsOfABoundClaimAreCleanedUpByAnotherProcess(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	groups := rivals(env)
	var claims []string
	for _, group := range groups {
		claims = append(claims, group...)
	}
	p := env.StartProvisioner(oneLetterNames(env)...)
	winners, losers := settle(env, claims)
	p.Kill()
	content := map[string]string{}
	for _, winner := range winners {
		env.WriteFile(winner, "file", []byte("of "+winner))
		content[winner] = env.PV(winner).Spec.CSI.VolumeHandle
	}
	env.Delete(losers...)
	env.StartProvisioner(oneLetterNames(env)...)
	env.WaitGone(losers...)
	for _, winner := range winners {
		if got := string(env.ReadFile(winner, "file")); got != "of "+winner || env.PV(winner).Spec.CSI.VolumeHandle != content[winner] {
			t.Errorf("the volume of claim %q has content %q", winner, got)
		}
	}
	if deleted := deletedHandles(env); len(deleted) > 0 {
		t.Errorf("these volumes were deleted: %v", deleted)
	}
	if err := volumes(env, len(winners)); err != nil {
		t.Error(err)
	}
}

// Of each group the claim that has got the volume is deleted while nobody runs: the
// next one gets a volume of its own.
func TestRivalsOfABoundClaimTakeItsPlaceUnderAnotherProcess(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	groups := rivals(env)
	var claims []string
	for _, group := range groups {
		claims = append(claims, group...)
	}
	p := env.StartProvisioner(oneLetterNames(env)...)
	winners, losers := settle(env, claims)
	old := map[string]bool{}
	for _, winner := range winners {
		old[env.PV(winner).Spec.CSI.VolumeHandle] = true
	}
	p.Kill()
	env.Delete(winners...)
	env.StartProvisioner(oneLetterNames(env)...)
	env.WaitGone(winners...)
	winners, losers = settle(env, losers)
	for _, winner := range winners {
		if old[env.PV(winner).Spec.CSI.VolumeHandle] {
			t.Errorf("claim %q has got the volume of another", winner)
		}
		env.VolumePath(winner)
	}
	env.Eventually("there are the volumes of the claims that are bound", func() error { return volumes(env, len(winners)) })
	env.Delete(losers...)
	env.WaitGone(losers...)
	for _, winner := range winners {
		if phase := env.Get(winner).Status.Phase; phase != v1.ClaimBound {
			t.Errorf("claim %q is %s", winner, phase)
		}
		env.VolumePath(winner)
	}
}
