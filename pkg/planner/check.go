package planner

import (
	"context"
	"errors"

	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

// ErrSourceReplaced is returned by Check if the source was deleted and recreated, or got
// another PV, while Check looked for its users. The claim must be checked again.
var ErrSourceReplaced = errors.New("the source was replaced while it was checked whether it is in use")

// Check asks all rules about a claim that this process has not admitted. wait is called with
// each object before it is read; with a verdict other than Ready, the claim must be checked
// again when one of them changes. A verdict of Ready may carry an event for the user. An error
// means that a rule could not be asked. Check may block until the pods of the source's
// namespace are listed.
func (p *Planner) Check(ctx context.Context, claim *v1.PersistentVolumeClaim, wait func(waitlist.Object)) (Plan, verdict.Verdict, error) {
	plan, v := p.CheckCached(ctx, claim, wait)
	if !v.Ready() {
		return Plan{}, v, nil
	}
	if v := p.checkSecret(ctx, plan.Secrets.Provisioner); !v.Ready() {
		return Plan{}, v, nil
	}
	if plan.Source == nil {
		return plan, v, nil
	}
	checked := plan.Source
	use, err := p.checkUse(ctx, claim, checked, wait)
	if err != nil {
		return Plan{}, verdict.Verdict{}, err
	}
	// That took its time: what was found before may not hold any more.
	if plan, v = p.Plan(claim, false, wait); !v.Ready() {
		return Plan{}, v, nil
	}
	if plan.Source.UID != checked.UID || plan.Source.Spec.VolumeName != checked.Spec.VolumeName {
		return Plan{}, verdict.Verdict{}, ErrSourceReplaced
	}
	return plan, use, nil
}

// CheckCached is Check without the rules about the Secret and the users of the source, for
// which the API is asked.
func (p *Planner) CheckCached(ctx context.Context, claim *v1.PersistentVolumeClaim, wait func(waitlist.Object)) (Plan, verdict.Verdict) {
	if v := p.FetchUncached(ctx, claim); !v.Ready() {
		return Plan{}, v
	}
	return p.Plan(claim, false, wait)
}
