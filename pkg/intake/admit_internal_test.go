package intake

import (
	"context"
	"errors"
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/planner"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

// meanwhile is a planner whose check ends as it says.
type meanwhile struct {
	ready
	verdict verdict.Verdict
	err     error
}

func (m meanwhile) Check(context.Context, *v1.PersistentVolumeClaim, func(waitlist.Object)) (planner.Plan, verdict.Verdict, error) {
	return planner.Plan{Request: requestOf(1)}, m.verdict, m.err
}

// What Check has found decides whether the record is written, and whether the claim is checked
// again at once.
func TestOnlyACheckedClaimIsPutOnRecord(t *testing.T) {
	for _, c := range []struct {
		name  string
		check meanwhile
		// written is how many records are, queued how many claims are checked again.
		written, queued int
		fails           bool
	}{
		{"all rules hold", meanwhile{}, 1, 0, false},
		{"the source is being deleted", meanwhile{verdict: verdict.Refused(verdict.CloneSourceDeleting, "x")}, 0, 0, false},
		{"the source was replaced", meanwhile{err: planner.ErrSourceReplaced}, 0, 1, false},
		{"a rule could not be asked", meanwhile{err: errors.New("the API server does not answer")}, 0, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &answers{}
			i, claim := behindServer(t, a)
			put(t, i, claim)
			i.Planner = c.check
			if err := i.reconcile(t.Context(), keyOf(claim)); (err != nil) != c.fails {
				t.Fatal(err)
			}
			if a.patches != c.written || i.queue.Len() != c.queued {
				t.Errorf("%d records written, %d claims to be checked again", a.patches, i.queue.Len())
			}
		})
	}
}
