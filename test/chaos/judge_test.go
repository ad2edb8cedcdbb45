package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

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

// bound binds the claim to a PV.
func bound(pv string) kit.ClaimOption {
	return func(claim *v1.PersistentVolumeClaim) { claim.Spec.VolumeName = pv }
}

// releasedPV returns a PV whose claim is gone, with that reclaim policy.
func releasedPV(name, handle string, policy v1.PersistentVolumeReclaimPolicy) *v1.PersistentVolume {
	pv := pvFor(name, "gone", handle)
	pv.Spec.PersistentVolumeReclaimPolicy, pv.Status.Phase = policy, v1.VolumeReleased
	return pv
}

// pvsByName returns the PVs by name.
func pvsByName(pvs ...*v1.PersistentVolume) map[string]*v1.PersistentVolume {
	byName := map[string]*v1.PersistentVolume{}
	for _, pv := range pvs {
		byName[pv.Name] = pv
	}
	return byName
}

// kept is the promise for a volume that must be retained.
var kept = promise{name: "n", retained: true, mayStay: true}

// judged is a scene with the findings that are expected.
type judged struct {
	scene scene
	want  []string // a part of each finding
}

func (tc judged) check(t *testing.T) {
	t.Helper()
	tc.scene.driver = "d"
	got := tc.scene.findings().all()
	if len(got) != len(tc.want) {
		t.Errorf("%d findings, want %d:\n%s", len(got), len(tc.want), strings.Join(got, "\n"))
	}
	for _, want := range tc.want {
		if !slices.ContainsFunc(got, func(line string) bool { return strings.Contains(line, want) }) {
			t.Errorf("nobody found %q in\n%s", want, strings.Join(got, "\n"))
		}
	}
}

func TestTheJudgeFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	const record = "d/provisioning"
	cases := map[string]judged{
		"an empty world": {},
		"all well": {scene: scene{
			claims: []v1.PersistentVolumeClaim{
				claimFor("a", v1.ClaimBound, bound("pv")),
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
				claims: []v1.PersistentVolumeClaim{claimFor("a", v1.ClaimBound, bound("empty"))},
				pvs: map[string]*v1.PersistentVolume{
					"empty": pvFor("empty", "a", "1"), "released": pvFor("released", "gone", "2"),
				},
				volumes:  []demodriver.Volume{{ID: "2"}, {ID: "3", Name: "lost"}, {ID: "4", Name: "excused"}},
				promises: map[string]promise{"4": {withoutPV: "excused"}},
			},
			want: []string{"PV empty () has no volume", "PV released (, ) with volume \"2\" is left", `volume "3" (name "lost"`},
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
				"claim blank (blank, Pending) is not bound", "claim clone (clone, Pending) is not bound",
				"claim gone (gone, Pending, being deleted) is not gone", "claim silent (silent, Pending) waits",
				"claim wrong reason (wrong reason, Pending) waits", "claim wrong source (wrong source, Pending) waits",
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
				"claim noted (noted, Bound) still carries annotation d/volume-name",
				"claim waits (waits, Pending) is still protected",
				"claim waits on record (waits on record, Pending) still carries the record",
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.check(t)
		})
	}
}

func TestTheJudgeKnowsReclaimPolicies(t *testing.T) {
	t.Parallel()
	const retain, remove = v1.PersistentVolumeReclaimRetain, v1.PersistentVolumeReclaimDelete
	unbound, stranded, deleted, available := releasedPV("unbound", "5", retain), releasedPV("stranded", "1", retain),
		releasedPV("deleted", "2", retain), releasedPV("available", "3", retain)
	unbound.Spec.ClaimRef.UID, unbound.Status.Phase = "", v1.VolumeAvailable
	stranded.Finalizers, deleted.DeletionTimestamp = []string{pvFinalizer}, &metav1.Time{}
	available.Status.Phase = v1.VolumeAvailable
	lax := pvFor("lax", "a", "2")
	lax.Spec.PersistentVolumeReclaimPolicy = remove
	cases := map[string]judged{
		"retained as it should be": {scene: scene{
			pvs:     pvsByName(releasedPV("a", "1", retain), releasedPV("b", "2", retain), unbound),
			volumes: []demodriver.Volume{{ID: "1"}, {ID: "2"}, {ID: "4", Name: "excused"}, {ID: "5"}},
			promises: map[string]promise{
				"1": kept, "2": {mayStay: true}, "3": {mayStay: true}, "5": kept,
				"4": {retained: true, mayStay: true, withoutPV: "excused"},
			},
		}},
		"retained volumes that are deleted, or will be, or have no PV": {
			scene: scene{
				claims:  []v1.PersistentVolumeClaim{claimFor("a", v1.ClaimBound, bound("lax"))},
				pvs:     pvsByName(releasedPV("empty", "1", retain), lax),
				volumes: []demodriver.Volume{{ID: "2"}, {ID: "3"}},
				promises: map[string]promise{
					"1": kept, "2": kept, "3": kept,
					"4": {retained: true, mayStay: true, deleted: time.Unix(0, 0)},
				},
			},
			want: []string{
				`retained volume "1" (name "n") was deleted: no call`,
				`retained volume "4" (name "") was deleted: DeleteVolume succeeded`,
				`retained volume "2" (name "n") has PV lax with the reclaim policy Delete`,
				`retained volume "3" (name "n") has no PV`,
			},
		},
		"volumes of Delete classes that are retained": {
			scene: scene{
				claims:   []v1.PersistentVolumeClaim{claimFor("gone", v1.ClaimBound, bound("another"))},
				pvs:      pvsByName(releasedPV("a", "1", retain), releasedPV("b", "2", remove)),
				volumes:  []demodriver.Volume{{ID: "1"}, {ID: "2"}, {ID: "3"}},
				promises: map[string]promise{"1": {}, "2": {mayStay: true}, "3": {mayStay: true}},
			},
			want: []string{
				`PV a (Released, Retain) with volume "1" is left`, `PV b (Released, Delete) with volume "2" is left`,
				`volume "3"`,
			},
		},
		"retained PVs in a wrong state": {
			scene: scene{
				pvs:      pvsByName(stranded, deleted, available),
				volumes:  []demodriver.Volume{{ID: "1"}, {ID: "2"}, {ID: "3"}},
				promises: map[string]promise{"1": kept, "2": kept, "3": kept},
			},
			want: []string{
				"PV stranded (Released) is retained and still has", "PV deleted is deleted, but not gone",
				"PV available is retained and Available",
			},
		},
		"volumes that come back": {
			scene: scene{
				pvs:      pvsByName(releasedPV("a", "1", retain)),
				volumes:  []demodriver.Volume{{ID: "1"}},
				promises: map[string]promise{"1": {mayStay: true, recreated: "0"}, "2": {recreated: "0"}},
			},
			want: []string{`volume "1" (name "") was created after an administrator had deleted "0"`},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.check(t)
		})
	}
}
