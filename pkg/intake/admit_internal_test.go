package intake

import (
	"context"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

// meanwhile finds a clone ready, and another time after it was asked who uses the
// source.
type meanwhile struct {
	ready
	source  *v1.PersistentVolumeClaim
	verdict verdict.Verdict
	// then is what the look at the source takes long enough for.
	then func(*meanwhile)
}

func (m *meanwhile) Judge(*v1.PersistentVolumeClaim, bool, func(waitlist.Object)) (Admission, verdict.Verdict) {
	if !m.verdict.Ready() {
		return Admission{}, m.verdict
	}
	return Admission{Source: m.source, Pins: record.Pins{VolumeName: "pvc-uid-copy", RequiredBytes: 1}}, verdict.Verdict{}
}

func (*meanwhile) Fetch(context.Context, *v1.PersistentVolumeClaim) verdict.Verdict {
	return verdict.Verdict{}
}

func (*meanwhile) JudgeSecret(context.Context, string) verdict.Verdict { return verdict.Verdict{} }

func (m *meanwhile) JudgeUse(context.Context, *v1.PersistentVolumeClaim, *v1.PersistentVolumeClaim, func(waitlist.Object)) (verdict.Verdict, error) {
	m.then(m)
	return verdict.Verdict{}, nil
}

// A look at the pods may take half a minute; a source that is being deleted, or a
// grant that has gone since, must not be used.
func TestTheRulesHoldAfterTheLook(t *testing.T) {
	source := func(uid, pv string) *v1.PersistentVolumeClaim {
		claim := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db"}}
		claim.UID, claim.Spec.VolumeName = types.UID(uid), pv
		return claim
	}
	for _, c := range []struct {
		name string
		then func(*meanwhile)
		// written is how many records are, queued how many claims are judged again.
		written, queued int
	}{
		{"nothing changed", func(*meanwhile) {}, 1, 0},
		{"the source changed, but is the one that was looked at", func(m *meanwhile) { m.source = source("uid-db", "pv-db") }, 1, 0},
		{"the source is being deleted", func(m *meanwhile) { m.verdict = verdict.Refused(verdict.CloneSourceDeleting, "x") }, 0, 0},
		{"the source was made again", func(m *meanwhile) { m.source = source("uid-other", "pv-db") }, 0, 1},
		{"the source has another PV", func(m *meanwhile) { m.source = source("uid-db", "pv-other") }, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &answers{}
			i, claim := behindServer(t, a)
			put(t, i, claim)
			i.Planner = &meanwhile{source: source("uid-db", "pv-db"), then: c.then}
			if err := i.reconcile(t.Context(), keyOf(claim)); err != nil {
				t.Fatal(err)
			}
			if a.patches != c.written || i.queue.Len() != c.queued {
				t.Errorf("%d records written, %d claims to be judged again", a.patches, i.queue.Len())
			}
		})
	}
}
