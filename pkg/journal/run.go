package journal

import (
	"context"
	"errors"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
)

const (
	// settleWorkers delete entries in the background. They are few, so that they take little
	// of maxInFlight from those who wait for an entry.
	settleWorkers = 4
	// reviewPeriod is how often the entries are compared with the API server's: an entry that
	// an administrator has deleted is noticed then.
	reviewPeriod = time.Minute
	// renewAfter is how old renewTime may become. See maxIdle.
	renewAfter = 5 * time.Hour
	// strayFor is how long a creation without an answer may still take effect: longer than
	// the API server's timeout for a request, which is 60 s by default (kube-apiserver,
	// --request-timeout).
	strayFor = 2 * time.Minute
)

// Run deletes settled entries, renews open ones, and compares them with the API server's until
// ctx ends. Flush deletes what is left then.
func (j *Journal) Run(ctx context.Context) {
	var workers sync.WaitGroup
	defer workers.Wait()
	defer j.queue.ShutDown()
	for range settleWorkers {
		workers.Go(func() {
			for j.workOne(ctx) {
			}
		})
	}
	if j.config.Leases == nil {
		<-ctx.Done()
		return
	}
	if j.config.MayAct == nil {
		workers.Go(func() { every(ctx, j.config.LeaseDuration/4, j.renewOne) })
	}
	every(ctx, reviewPeriod, j.review)
}

// every calls f after each period until ctx ends.
func every(ctx context.Context, period time.Duration, f func(context.Context)) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f(ctx)
		}
	}
}

// workOne handles one entry of the queue; false if the queue is shut down.
func (j *Journal) workOne(ctx context.Context) bool {
	claim, shutdown := j.queue.Get()
	if shutdown {
		return false
	}
	defer j.queue.Done(claim)
	t := j.lock(claim)
	err := j.catchUp(ctx, claim, t)
	t.unlock()
	if err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).Info("A journal entry could not be brought up to date; it is retried automatically",
			"lease", klog.KRef(j.config.Namespace, j.name(claim)), "err", err)
		j.queue.AddRateLimited(claim)
		return true
	}
	j.queue.Forget(claim)
	return true
}

// catchUp brings the API server up to date with what is known of an entry. The caller holds t's lock.
func (j *Journal) catchUp(ctx context.Context, claim types.UID, t *tracked) error {
	ctx, cancel := context.WithTimeout(ctx, giveUpAfter)
	defer cancel()
	j.mu.Lock()
	e, recorded, settling := t.entry, t.recorded, !t.settling.IsZero()
	j.mu.Unlock()
	if settling || !recorded {
		return j.settle(ctx, claim, t)
	}
	if seen := t.slot.seen; seen != nil && time.Since(ptr.Deref(seen.Spec.RenewTime, metav1.MicroTime{}).Time) > renewAfter {
		return j.renew(ctx, t)
	}
	if err := j.record(ctx, t, e); err != nil && !errors.Is(err, ErrGivenUp) {
		return err
	}
	return nil
}

// renew writes the time into the entry, unless it is being deleted. The caller holds t's lock.
func (j *Journal) renew(ctx context.Context, t *tracked) error {
	if t.slot.wanted == nil {
		return nil
	}
	wanted := t.slot.wanted.DeepCopy()
	wanted.Spec.RenewTime = new(microNow())
	t.slot.wanted = wanted
	if err := j.work(ctx, t); err != nil && !errors.Is(err, ErrGivenUp) {
		return err
	}
	return nil
}

// renewOne renews the oldest entry, by which other processes see that this one is alive.
func (j *Journal) renewOne(ctx context.Context) {
	entries := j.Entries()
	if len(entries) == 0 {
		return
	}
	claim := entries[0].Claim.UID
	t := j.lock(claim)
	defer t.unlock()
	if !t.recorded {
		j.forget(claim, t) // it was settled just now
		return
	}
	if err := j.renew(ctx, t); err != nil && ctx.Err() == nil {
		j.log(ctx, entries[0]).Info("A journal entry could not be renewed; it is retried automatically", "err", err)
	}
}

// review compares this process's entries with the API server's, if there are any, or may be.
func (j *Journal) review(ctx context.Context) {
	j.mu.Lock()
	before := make(map[types.UID]*tracked, len(j.open))
	for claim, t := range j.open {
		if t.recorded {
			before[claim] = t
		}
	}
	needed := j.ready && (len(j.open) > 0 || time.Now().Before(j.strayUntil))
	j.mu.Unlock()
	if !needed {
		return
	}
	list, err := j.list(ctx)
	if err == nil && j.config.MayAct != nil {
		// What an earlier leader had sent may have arrived since this one took over.
		_, err = j.adoptAll(ctx, list)
	}
	if err != nil {
		if ctx.Err() == nil {
			klog.FromContext(ctx).Info("The journal could not be compared with the API server's; it is retried automatically", "err", err)
		}
		return
	}
	live := map[string]*coordinationv1.Lease{}
	for i := range list {
		live[list[i].Name] = &list[i]
	}
	for claim, t := range before {
		j.compare(claim, t, live[j.name(claim)])
	}
	j.takeStrays(list)
}

// compare has an entry read again if the API server has another version of it, or none, and
// brought up to date.
func (j *Journal) compare(claim types.UID, t *tracked, live *coordinationv1.Lease) {
	t.lock()
	defer t.unlock()
	if seen := t.slot.seen; live == nil || seen == nil || live.ResourceVersion != seen.ResourceVersion {
		t.slot.certain = false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.open[claim] == t {
		j.queue.Add(claim)
	}
}

// takeStrays has Leases deleted that have this process as their holder and are none of its
// entries: their creation had no answer, and took effect later.
func (j *Journal) takeStrays(list []coordinationv1.Lease) {
	for i := range list {
		lease := &list[i]
		e, err := decode(lease, j.config.Driver, j.config.Node)
		if err != nil || ptr.Deref(lease.Spec.HolderIdentity, "") != j.config.Holder {
			continue
		}
		j.mu.Lock()
		if j.open[e.Claim.UID] == nil {
			t := newTracked(slot{name: lease.Name, holder: j.config.Holder, seen: lease, certain: true, owned: true})
			t.entry, t.settling = e, time.Now()
			j.open[e.Claim.UID] = t
			j.queue.Add(e.Claim.UID)
		}
		j.mu.Unlock()
	}
}

// Flush deletes all settled entries, as far as ctx allows. It is called when the work has
// stopped and Run has returned, before the leader election lease is given up, so that the next
// process finds none of them.
func (j *Journal) Flush(ctx context.Context) error {
	j.mu.Lock()
	settled := map[types.UID]*tracked{}
	for claim, t := range j.open {
		if !t.settling.IsZero() {
			settled[claim] = t
		}
	}
	j.mu.Unlock()
	return j.each(settled, func(claim types.UID, t *tracked) error { return j.settle(ctx, claim, t) })
}

// Release gives up the entries without deleting them, so that the next process adopts them at
// once. It is the last call on a journal without leader election.
func (j *Journal) Release(ctx context.Context) error {
	j.mu.Lock()
	open := map[types.UID]*tracked{}
	for claim, t := range j.open {
		if t.recorded && j.config.Leases != nil {
			open[claim] = t
		}
	}
	j.mu.Unlock()
	return j.each(open, func(_ types.UID, t *tracked) error {
		if t.slot.wanted == nil {
			return nil // its deletion has failed
		}
		t.slot.wanted = t.slot.wanted.DeepCopy()
		t.slot.wanted.Spec.HolderIdentity = new("")
		return j.work(ctx, t)
	})
}

// each calls f for all entries at once, with their lock.
func (j *Journal) each(entries map[types.UID]*tracked, f func(types.UID, *tracked) error) error {
	var (
		mu      sync.Mutex
		failed  []error
		workers sync.WaitGroup
	)
	for claim, t := range entries {
		workers.Go(func() {
			t.lock()
			err := f(claim, t)
			t.unlock()
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, err)
		})
	}
	workers.Wait()
	return errors.Join(failed...)
}
