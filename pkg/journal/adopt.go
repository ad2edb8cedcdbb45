package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
)

// Adoption is the result of Adopt.
type Adoption struct {
	// Unreadable has an error for each Lease that looks like an entry and cannot be read. It
	// names the Lease, and wraps ErrFormat or ErrMalformed.
	Unreadable []error
	// Pending is how many entries belong to other processes that may be alive.
	Pending int
}

// sighting is when something last changed about the entries of another holder.
type sighting struct {
	versions string
	since    time.Time
}

// Adopt takes over the entries of earlier processes: with leader election all, without it those
// of holders which have not renewed any entry for LeaseDuration, as far as this process has
// seen. A caller without leader election repeats it until nothing is pending. An error means
// that entries may be missing; nothing new may begin until a call has returned none.
func (j *Journal) Adopt(ctx context.Context) (Adoption, error) {
	if j.config.Leases == nil {
		return Adoption{}, nil
	}
	list, err := j.list(ctx)
	if err != nil {
		return Adoption{}, err
	}
	adoption, err := j.adoptAll(ctx, list)
	if err == nil {
		j.mu.Lock()
		j.ready, j.strayUntil = true, time.Now().Add(strayFor)
		j.mu.Unlock()
	}
	return adoption, err
}

// list returns the Leases of the driver's entries, if this process works for one node only those
// of that node. It is a consistent read: an entry that is not in it does not exist.
func (j *Journal) list(ctx context.Context) ([]coordinationv1.Lease, error) {
	list, err := j.config.Leases.List(ctx, metav1.ListOptions{LabelSelector: LabelDriver + "=" + labelValue(j.config.Driver)})
	if err != nil {
		return nil, fmt.Errorf("listing the journal of driver %q in namespace %q: %w", j.config.Driver, j.config.Namespace, err)
	}
	node := ""
	if j.config.Node != "" {
		node = labelValue(j.config.Node)
	}
	return slices.DeleteFunc(list.Items, func(l coordinationv1.Lease) bool { return l.Labels[LabelNode] != node }), nil
}

func (j *Journal) adoptAll(ctx context.Context, list []coordinationv1.Lease) (Adoption, error) {
	alive := j.holdersAlive(list)
	var (
		all     Adoption
		mu      sync.Mutex
		workers sync.WaitGroup
		failed  []error
	)
	for i := range list {
		lease := &list[i]
		holder := ptr.Deref(lease.Spec.HolderIdentity, "")
		e, err := decode(lease, j.config.Driver, j.config.Node)
		switch {
		case err != nil:
			all.Unreadable = append(all.Unreadable, fmt.Errorf("keeping Lease %s/%s unchanged: %w", lease.Namespace, lease.Name, err))
			continue
		case holder == j.config.Holder:
			continue
		case alive[holder]:
			all.Pending++
			continue
		}
		workers.Go(func() {
			if err := j.adopt(ctx, lease, e); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, fmt.Errorf("taking over journal entry %s/%s of %q: %w", lease.Namespace, lease.Name, holder, err))
			}
		})
	}
	workers.Wait()
	return all, errors.Join(failed...)
}

// adopt takes one entry over, unless it does not exist any more, or is held already.
func (j *Journal) adopt(ctx context.Context, lease *coordinationv1.Lease, e Entry) error {
	t := j.lock(e.Claim.UID)
	defer t.unlock()
	if t.recorded {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, giveUpAfter)
	defer cancel()
	return j.takeOver(ctx, e.Claim.UID, t, lease, e)
}

// takeOver makes this process the holder of the Lease. The caller holds t's lock.
func (j *Journal) takeOver(ctx context.Context, claim types.UID, t *tracked, lease *coordinationv1.Lease, e Entry) error {
	now := microNow()
	wanted := &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{HolderIdentity: &j.config.Holder, AcquireTime: &now, RenewTime: &now}}
	if e.Doubt = doubt(lease, e, now.Time); e.Doubt != "" {
		wanted.Annotations = map[string]string{annotationDoubt: cut(e.Doubt, maxAnswer)}
	}
	t.slot = slot{name: lease.Name, holder: j.config.Holder, seen: lease, certain: true, adopting: true, wanted: takenOver(lease, wanted)}
	if err := j.work(ctx, t); err != nil || t.slot.seen == nil {
		j.forget(claim, t)
		return err
	}
	// The earlier holder may have changed it until the takeover.
	e, err := decode(t.slot.seen, j.config.Driver, j.config.Node)
	if err != nil {
		j.forget(claim, t)
		return err
	}
	j.noteRecorded(t, e)
	j.mu.Lock()
	t.adopted, t.settling = time.Now(), time.Time{} // a failed Record may have left settling set
	j.mu.Unlock()
	j.log(ctx, e).V(2).Info("Adopted a journal entry", "since", e.Since, "doubt", e.Doubt, "lastAnswer", e.LastAnswer)
	if j.config.Adopted != nil {
		j.config.Adopted(e)
	}
	return nil
}

// adoptHeld takes over the entry that was found when one was to be recorded. With leader election
// the process that made it cannot be the leader any more. It returns held, or the error that kept
// it from adopting the entry. The caller holds t's lock.
func (j *Journal) adoptHeld(ctx context.Context, claim types.UID, t *tracked, held error) error {
	lease := t.slot.seen
	e, err := decode(lease, j.config.Driver, j.config.Node)
	if err == nil {
		err = j.takeOver(ctx, claim, t, lease, e)
	} else {
		j.forget(claim, t)
	}
	if err != nil {
		return fmt.Errorf("%w; it could not be taken over: %w", held, err)
	}
	return held
}

// holdersAlive returns the holders of entries that may be alive: none with leader election.
func (j *Journal) holdersAlive(list []coordinationv1.Lease) map[string]bool {
	if j.config.MayAct != nil {
		return nil
	}
	versions := map[string][]string{}
	for _, l := range list {
		if holder := ptr.Deref(l.Spec.HolderIdentity, ""); holder != "" && holder != j.config.Holder {
			versions[holder] = append(versions[holder], l.Name+"@"+l.ResourceVersion)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	alive := map[string]bool{}
	seen := map[string]sighting{}
	for holder, v := range versions {
		slices.Sort(v)
		last, now := j.alive[holder], time.Now()
		if text := strings.Join(v, " "); last.versions != text {
			last = sighting{text, now}
		}
		seen[holder] = last
		alive[holder] = now.Sub(last.since) < j.config.LeaseDuration
	}
	j.alive = seen
	return alive
}

// Others returns the entries of the same claim that provisioners of other nodes hold. A
// provisioner of one node records its own entry first and asks afterwards, so that of two nodes
// at least one sees the other's.
func (j *Journal) Others(ctx context.Context, claim types.UID) ([]coordinationv1.Lease, error) {
	if j.config.Leases == nil {
		return nil, nil
	}
	list, err := j.selected(ctx, LabelClaim, claim)
	own := j.name(claim)
	return slices.DeleteFunc(list, func(l coordinationv1.Lease) bool { return l.Name == own }), err
}

// OfSource returns the entries of copies of a source, of all nodes.
func (j *Journal) OfSource(ctx context.Context, source types.UID) ([]coordinationv1.Lease, error) {
	if j.config.Leases == nil {
		return nil, nil
	}
	return j.selected(ctx, LabelSource, source)
}

func (j *Journal) selected(ctx context.Context, label string, uid types.UID) ([]coordinationv1.Lease, error) {
	selector := LabelDriver + "=" + labelValue(j.config.Driver) + "," + label + "=" + labelValue(string(uid))
	list, err := j.config.Leases.List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("listing journal entries with %s: %w", selector, err)
	}
	return list.Items, nil
}

// Elsewhere returns the entries of the driver in other namespances than the journal's, as
// namespace/name. all lists the Leases of all namespaces.
func (j *Journal) Elsewhere(ctx context.Context, all Leases) ([]klog.ObjectRef, error) {
	list, err := all.List(ctx, metav1.ListOptions{LabelSelector: LabelDriver + "=" + labelValue(j.config.Driver)})
	if err != nil {
		return nil, fmt.Errorf("listing journal entries of driver %q in all namespaces: %w", j.config.Driver, err)
	}
	var refs []klog.ObjectRef
	for _, l := range list.Items {
		if l.Namespace != j.config.Namespace {
			refs = append(refs, klog.KRef(l.Namespace, l.Name))
		}
	}
	return refs, nil
}
