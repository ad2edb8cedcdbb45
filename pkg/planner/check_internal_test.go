package planner

import (
	"context"
	"errors"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/secret"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

// meanwhile finds a clone ready, and another time after its source was checked for users.
type meanwhile struct {
	source  *v1.PersistentVolumeClaim
	verdict verdict.Verdict
	// then is what checking for users takes long enough for.
	then func(*meanwhile)
}

func (m *meanwhile) CheckCached(context.Context, *v1.PersistentVolumeClaim, func(waitlist.Object)) (Plan, verdict.Verdict) {
	return m.Plan(nil, false, nil)
}

func (m *meanwhile) Plan(*v1.PersistentVolumeClaim, bool, func(waitlist.Object)) (Plan, verdict.Verdict) {
	if !m.verdict.Ready() {
		return Plan{}, m.verdict
	}
	return Plan{Source: m.source}, verdict.Verdict{}
}

func (*meanwhile) checkSecret(context.Context, secret.Ref) verdict.Verdict { return verdict.Verdict{} }

func (m *meanwhile) checkUse(context.Context, *v1.PersistentVolumeClaim, *v1.PersistentVolumeClaim, func(waitlist.Object)) (verdict.Verdict, error) {
	m.then(m)
	return verdict.Verdict{}, nil
}

// Listing the pods may take half a minute; a source that is being deleted, or a grant that has
// gone since, must not be used.
func TestTheRulesHoldAfterTheLook(t *testing.T) {
	source := func(uid, pv string) *v1.PersistentVolumeClaim {
		claim := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "db"}}
		claim.UID, claim.Spec.VolumeName = types.UID(uid), pv
		return claim
	}
	for _, c := range []struct {
		name string
		then func(*meanwhile)
		want verdict.Kind
		err  error
	}{
		{"nothing changed", func(*meanwhile) {}, verdict.Ready, nil},
		{"the source changed, but is the one that was looked at", func(m *meanwhile) { m.source = source("uid-db", "pv-db") }, verdict.Ready, nil},
		{"the source is being deleted", func(m *meanwhile) { m.verdict = verdict.Refused(verdict.CloneSourceDeleting, "x") }, verdict.Refuse, nil},
		{"the source was made again", func(m *meanwhile) { m.source = source("uid-other", "pv-db") }, verdict.Ready, ErrSourceReplaced},
		{"the source has another PV", func(m *meanwhile) { m.source = source("uid-db", "pv-other") }, verdict.Ready, ErrSourceReplaced},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, v, err := check(t.Context(), &meanwhile{source: source("uid-db", "pv-db"), then: c.then}, nil, nil)
			if v.Kind != c.want || !errors.Is(err, c.err) {
				t.Errorf("got %s and %v, want %s and %v", v.Kind, err, c.want, c.err)
			}
		})
	}
}
