package chaos

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// protection is the finalizer on sources, written out: its name is a promise.
const protection = "provisioner.storage.kubernetes.io/cloning-protection"

// scene is what is to be judged when everything should be well.
type scene struct {
	driver  string
	claims  []v1.PersistentVolumeClaim
	pvs     map[string]*v1.PersistentVolume
	volumes []demodriver.Volume
	// events are messages by claim and reason.
	events map[types.UID]map[string][]string
	// excused are names of volumes that nobody could know of.
	excused map[string]bool
	// pretended are claims on which a user has put the record by hand, forged those on
	// which one has written annotations of the record.
	pretended, forged map[types.UID]bool
}

// findings says what is wrong.
func (s scene) findings() findings {
	var f findings
	f.leaked = s.leaks()
	able := s.able()
	for i := range s.claims {
		claim := &s.claims[i]
		f.stuck = append(f.stuck, s.stuck(claim, able)...)
		f.stranded = append(f.stranded, s.stranded(claim)...)
	}
	return f
}

// leaks returns the volumes without PV, the PVs without volume, and the PVs without
// claim.
func (s scene) leaks() []string {
	var leaks []string
	known, exists, claimed := map[string]bool{}, map[string]bool{}, map[types.UID]bool{}
	for _, claim := range s.claims {
		claimed[claim.UID] = true
	}
	for _, volume := range s.volumes {
		exists[volume.ID] = true
	}
	for _, pv := range s.pvs {
		handle := pv.Spec.CSI.VolumeHandle
		known[handle] = true
		if pv.Spec.ClaimRef == nil || !claimed[pv.Spec.ClaimRef.UID] {
			leaks = append(leaks, fmt.Sprintf("PV %s (%s) with volume %q is left though its claim is gone: finalizers %v", pv.Name, pv.Status.Phase, handle, pv.Finalizers))
		} else if !exists[handle] {
			leaks = append(leaks, fmt.Sprintf("PV %s (%s) has no volume: the driver knows no %q", pv.Name, pv.Status.Phase, handle))
		}
	}
	for _, volume := range s.volumes {
		if !known[volume.ID] && !s.excused[volume.Name] {
			leaks = append(leaks, describe(volume))
		}
	}
	slices.Sort(leaks)
	return leaks
}

// able returns the names of the claims that are bound or can be: the blank ones, and
// the clones of such.
func (s scene) able() map[string]bool {
	able := map[string]bool{}
	for more := true; more; {
		more = false
		for i := range s.claims {
			claim := &s.claims[i]
			source := sourceOf(claim)
			if !able[claim.Name] && claim.DeletionTimestamp == nil &&
				(claim.Status.Phase == v1.ClaimBound || source == "" || able[source]) {
				able[claim.Name], more = true, true
			}
		}
	}
	return able
}

// stuck says whether the claim is not where it should be: gone, bound, or waiting
// with an event that says for what.
func (s scene) stuck(claim *v1.PersistentVolumeClaim, able map[string]bool) []string {
	who := fmt.Sprintf("claim %s (%s, %s)", claim.Name, claim.UID, phase(claim))
	source := sourceOf(claim)
	switch {
	case claim.DeletionTimestamp != nil:
		return []string{fmt.Sprintf("%s is not gone: finalizers %v; %s", who, claim.Finalizers, s.said(claim))}
	case claim.Status.Phase == v1.ClaimBound:
		return nil
	case able[claim.Name]:
		return []string{fmt.Sprintf("%s is not bound: source %q, finalizers %v; %s", who, source, claim.Finalizers, s.said(claim))}
	}
	reason := "CloneSourceNotFound"
	if slices.ContainsFunc(s.claims, func(other v1.PersistentVolumeClaim) bool { return other.Name == source }) {
		reason = "CloneSourceNotBound"
	}
	told := s.events[claim.UID][reason]
	if !slices.ContainsFunc(told, func(message string) bool { return strings.Contains(message, fmt.Sprintf("%q", source)) }) {
		return []string{fmt.Sprintf("%s waits for %q without an event %s that says so; %s", who, source, reason, s.said(claim))}
	}
	return nil
}

// said lists the claim's events.
func (s scene) said(claim *v1.PersistentVolumeClaim) string {
	if len(s.events[claim.UID]) == 0 {
		return "no events"
	}
	return fmt.Sprintf("events %q", s.events[claim.UID])
}

// stranded returns what is left of ours on the claim although nothing is done for it.
func (s scene) stranded(claim *v1.PersistentVolumeClaim) []string {
	who := fmt.Sprintf("claim %s (%s, %s)", claim.Name, claim.UID, phase(claim))
	var left []string
	recorded := s.recorded(claim)
	// What waits has nothing on record, unless its user says so.
	if recorded && !s.pretended[claim.UID] || recorded && (claim.Status.Phase == v1.ClaimBound || claim.DeletionTimestamp != nil) {
		left = append(left, who+" still carries the record")
	}
	// No clone is being made any more, whatever its user put on record.
	if slices.Contains(claim.Finalizers, protection) {
		left = append(left, who+" is still protected as a source")
	}
	for key := range claim.Annotations {
		if strings.HasPrefix(key, s.driver+"/") && !recorded && !s.forged[claim.UID] {
			left = append(left, fmt.Sprintf("%s still carries annotation %s", who, key))
		}
	}
	return left
}

func (s scene) recorded(claim *v1.PersistentVolumeClaim) bool {
	return slices.Contains(claim.Finalizers, s.driver+"/provisioning")
}

// waiting returns how many claims wait, as they should.
func (s scene) waiting() int {
	able, count := s.able(), 0
	for i := range s.claims {
		if s.claims[i].DeletionTimestamp == nil && !able[s.claims[i].Name] {
			count++
		}
	}
	return count
}

func sourceOf(claim *v1.PersistentVolumeClaim) string {
	if claim.Spec.DataSource == nil {
		return ""
	}
	return claim.Spec.DataSource.Name
}

// claimFor returns a claim for the tests of the judge, whose uid is its name.
func claimFor(name string, phase v1.PersistentVolumeClaimPhase, options ...kit.ClaimOption) v1.PersistentVolumeClaim {
	claim := v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)}}
	claim.Status.Phase = phase
	for _, option := range options {
		option(&claim)
	}
	return claim
}

func deleting(claim *v1.PersistentVolumeClaim) { claim.DeletionTimestamp = &metav1.Time{} }

func pvFor(name, claim, handle string) *v1.PersistentVolume {
	pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
	pv.Spec.CSI = &v1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: handle}
	pv.Spec.ClaimRef = &v1.ObjectReference{Name: claim, UID: types.UID(claim)}
	return pv
}

func TestTheJudgeFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	const record = "d/provisioning"
	cases := map[string]struct {
		scene scene
		want  []string // a part of each finding
	}{
		"an empty world": {},
		"all well": {scene: scene{
			claims: []v1.PersistentVolumeClaim{
				claimFor("a", v1.ClaimBound),
				claimFor("b", v1.ClaimPending, kit.CloneOf("nobody")),
				claimFor("c", v1.ClaimPending, kit.CloneOf("b")),
			},
			pvs:     map[string]*v1.PersistentVolume{"pv": pvFor("pv", "a", "1")},
			volumes: []demodriver.Volume{{ID: "1"}},
			events: map[types.UID]map[string][]string{
				"b": {"CloneSourceNotFound": {`clone waits for source PVC "nobody"`}},
				"c": {"CloneSourceNotBound": {`clone waits until source PVC "b" is bound`}},
			},
		}},
		"volumes, PVs and claims without one another": {
			scene: scene{
				claims: []v1.PersistentVolumeClaim{claimFor("a", v1.ClaimBound)},
				pvs: map[string]*v1.PersistentVolume{
					"empty": pvFor("empty", "a", "1"), "released": pvFor("released", "gone", "2"),
				},
				volumes: []demodriver.Volume{{ID: "2"}, {ID: "3", Name: "lost"}, {ID: "4", Name: "excused"}},
				excused: map[string]bool{"excused": true},
			},
			want: []string{"PV empty () has no volume", "PV released () with volume \"2\" is left", `volume "3" (name "lost"`},
		},
		"claims that are stuck": {
			scene: scene{
				claims: []v1.PersistentVolumeClaim{
					claimFor("blank", v1.ClaimPending),
					claimFor("clone", v1.ClaimPending, kit.CloneOf("blank")),
					claimFor("gone", v1.ClaimPending, deleting),
					claimFor("silent", v1.ClaimPending, kit.CloneOf("nobody")),
					claimFor("wrong reason", v1.ClaimPending, kit.CloneOf("gone")),
					claimFor("wrong source", v1.ClaimPending, kit.CloneOf("nobody")),
				},
				events: map[types.UID]map[string][]string{
					"wrong reason": {"CloneSourceNotFound": {`waits for "gone"`}},
					"wrong source": {"CloneSourceNotFound": {`waits for "somebody"`}},
				},
			},
			want: []string{
				"claim blank (blank, Pending) is not bound", "claim clone (clone, Pending) is not bound", "claim gone (gone, Pending, being deleted) is not gone",
				"claim silent (silent, Pending) waits", "claim wrong reason (wrong reason, Pending) waits", "claim wrong source (wrong source, Pending) waits",
			},
		},
		"what is left on claims": {
			scene: scene{
				claims: []v1.PersistentVolumeClaim{
					claimFor("bound", v1.ClaimBound, kit.Finalizer(record), kit.Finalizer(protection)),
					claimFor("noted", v1.ClaimBound, kit.Annotation("d/volume-name", "x")),
					claimFor("forged", v1.ClaimBound, kit.Annotation("d/volume-name", "x")),
					claimFor("pretender", v1.ClaimPending, kit.Finalizer(record), kit.CloneOf("waits")),
					claimFor("waits", v1.ClaimPending, kit.Finalizer(protection), kit.CloneOf("nobody")),
					claimFor("waits on record", v1.ClaimPending, kit.Finalizer(record), kit.CloneOf("nobody")),
				},
				forged:    map[types.UID]bool{"forged": true},
				pretended: map[types.UID]bool{"pretender": true, "bound": true},
				events: map[types.UID]map[string][]string{
					"pretender":       {"CloneSourceNotBound": {`clone waits until source PVC "waits" is bound`}},
					"waits":           {"CloneSourceNotFound": {`"nobody"`}},
					"waits on record": {"CloneSourceNotFound": {`"nobody"`}},
				},
			},
			want: []string{
				"claim bound (bound, Bound) still carries the record", "claim bound (bound, Bound) is still protected",
				"claim noted (noted, Bound) still carries annotation d/volume-name", "claim waits (waits, Pending) is still protected",
				"claim waits on record (waits on record, Pending) still carries the record",
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.scene.driver = "d"
			f := tc.scene.findings()
			got := slices.Concat(f.leaked, f.stranded, f.stuck)
			if len(got) != len(tc.want) {
				t.Errorf("%d findings, want %d:\n%s", len(got), len(tc.want), strings.Join(got, "\n"))
			}
			for _, want := range tc.want {
				if !slices.ContainsFunc(got, func(line string) bool { return strings.Contains(line, want) }) {
					t.Errorf("nobody found %q in\n%s", want, strings.Join(got, "\n"))
				}
			}
		})
	}
}
