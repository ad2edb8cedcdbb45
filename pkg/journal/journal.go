package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

// Leases is what the journal needs of the API server's Leases in its namespace. The client of
// client-go implements it.
type Leases interface {
	Create(ctx context.Context, lease *coordinationv1.Lease, opts metav1.CreateOptions) (*coordinationv1.Lease, error)
	Update(ctx context.Context, lease *coordinationv1.Lease, opts metav1.UpdateOptions) (*coordinationv1.Lease, error)
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
	Get(ctx context.Context, name string, opts metav1.GetOptions) (*coordinationv1.Lease, error)
	List(ctx context.Context, opts metav1.ListOptions) (*coordinationv1.LeaseList, error)
}

// Config is what a journal works with.
type Config struct {
	// Leases of the journal's namespace; nil keeps entries in this process only.
	Leases Leases
	// Namespace of the Leases.
	Namespace string
	// Driver is the name of the CSI driver, and Node the node that this process works for; ""
	// for all nodes.
	Driver, Node string
	// Holder identifies this process. It must be different in each process.
	Holder string
	// MayAct returns nil while this process is the leader; nil if there is no leader
	// election. Then a process adopts the entries of a holder that does not renew them.
	MayAct func() error
	// LeaseDuration and RenewDeadline are those of leader election: an entry's holder that
	// has renewed none of its entries for the one is not alive any more, and a holder that
	// could not do so for the other must not call the driver. Only used without MayAct.
	LeaseDuration, RenewDeadline time.Duration
	// Adopted is called for each entry that this process has taken over from another one, by
	// Adopt and later; nil for nothing. It may be called by several goroutines at once.
	Adopted func(Entry)
	// GivenUp is called when an administrator has deleted an entry; nil for nothing.
	GivenUp func(Entry)
	// Fenced is called with an error that wraps ErrFenced when another process has adopted
	// an entry of this one, which must stop; nil for nothing.
	Fenced func(error)
	// Written is called after each write with verb, result ("ok", "conflict", "refused" or
	// "unknown") and duration; nil for nothing.
	Written func(verb, result string, took time.Duration)
}

const (
	// maxInFlight requests are sent at once. In kube-system they run in the API server's
	// small priority level "leader-election", beside the control plane's own.
	maxInFlight = 16
	// requestTimeout is how long one request may take, and giveUpAfter how long a caller waits
	// for the API server in all.
	requestTimeout = 10 * time.Second
	giveUpAfter    = 30 * time.Second
	// firstRetry and lastRetry bound the pauses between requests without an answer.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 2 * time.Second
	// settlePause is how long a deletion waits, so that what users wait for goes first.
	settlePause = time.Second
	// overdueAfter is how long an entry's deletion may be outstanding before no new calls are
	// begun: an entry that outlives its PersistentVolume is dangerous.
	overdueAfter = 15 * time.Second
)

// Journal is the set of this process's entries. All its methods are safe for concurrent use; the
// caller makes sure that only one goroutine at a time records or settles a claim's entry.
type Journal struct {
	config Config
	flight chan struct{}
	queue  workqueue.TypedRateLimitingInterface[types.UID]

	mu    sync.Mutex
	open  map[types.UID]*tracked
	alive map[string]sighting
	// ready: Adopt has returned without an error.
	ready bool
	// renewed is when the last write was sent that was answered.
	renewed time.Time
	// strayUntil is until when a Lease may appear whose creation had no answer, or was sent by
	// an earlier holder.
	strayUntil time.Time
}

// tracked is an entry of this process. Its lock is held during its requests and protects slot.
// Writers of the other fields hold the journal's mu; those of recorded and adopted hold both.
type tracked struct {
	// locked has an element while the lock is held. Tests in virtual time need a channel, not
	// a mutex, because the lock is held while requests wait.
	locked chan struct{}
	slot   slot

	entry Entry
	// adopted is when this process has taken the entry over; zero if it has made it.
	adopted time.Time
	// recorded: the API server has the entry.
	recorded bool
	// settling is when the deletion of the entry was requested; zero if it was not.
	settling time.Time
}

func newTracked(s slot) *tracked { return &tracked{slot: s, locked: make(chan struct{}, 1)} }

func (t *tracked) lock() { t.locked <- struct{}{} }

func (t *tracked) unlock() { <-t.locked }

// New returns a journal without entries. Adopt must be called before anything is recorded, and
// Run must run.
func New(c Config) *Journal {
	return &Journal{
		config: c, flight: make(chan struct{}, maxInFlight), open: map[types.UID]*tracked{}, alive: map[string]sighting{},
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](time.Second, time.Minute)),
	}
}

// Record returns nil when the API server has the entry as it is given: then the driver may be
// called. It writes nothing if that is so already. Since and LastAnswer are those of the entry
// that exists, if they are zero. An entry that an earlier leader has made meanwhile is adopted
// instead, and an error that wraps ErrHeld returned: the caller must judge that entry first.
// After any other error there may be an entry, which is deleted unless it was there before.
func (j *Journal) Record(ctx context.Context, e Entry) error {
	t := j.lock(e.Claim.UID)
	defer t.unlock()
	j.setSettling(t, time.Time{})
	if err := j.record(ctx, t, e); err != nil {
		return fmt.Errorf("writing the journal entry of claim %s/%s before the driver is called: %w", e.Claim.Namespace, e.Claim.Name, err)
	}
	return nil
}

// record is Record while the caller holds t's lock.
func (j *Journal) record(ctx context.Context, t *tracked, e Entry) error {
	e = j.completed(t, e)
	lease, err := encode(e, j.config.Driver, j.config.Namespace, j.config.Node)
	if err != nil {
		if !t.recorded {
			j.forget(e.Claim.UID, t)
		}
		return err
	}
	if j.config.Leases == nil {
		j.noteRecorded(t, e)
		return nil
	}
	before := t.slot.wanted
	t.slot.wanted = j.held(lease, t.slot)
	ctx, cancel := context.WithTimeout(ctx, giveUpAfter)
	defer cancel()
	err = j.work(ctx, t)
	switch {
	case err == nil:
		j.noteRecorded(t, e)
	case errors.Is(err, ErrHeld) && j.config.MayAct != nil:
		return j.adoptHeld(ctx, e.Claim.UID, t, err)
	case errors.Is(err, ErrHeld), errors.Is(err, ErrGivenUp):
		j.forget(e.Claim.UID, t)
	case t.recorded:
		t.slot.wanted = before
	default:
		t.slot.wanted = nil
		j.setSettling(t, time.Now())
		j.queue.AddAfter(e.Claim.UID, settlePause)
	}
	return err
}

// completed returns the entry with what is kept of the one that exists.
func (j *Journal) completed(t *tracked, e Entry) Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e.Since.IsZero() {
		e.Since = time.Now()
	}
	e.Since = e.Since.Truncate(time.Second)
	if t.recorded {
		e.Since = t.entry.Since
		e.LastAnswer = cmp.Or(e.LastAnswer, t.entry.LastAnswer)
		e.Doubt = cmp.Or(e.Doubt, t.entry.Doubt) // a restored entry stays one
	}
	return e
}

// held returns the Lease with this process as its holder. Its times stay the same if nothing
// else changes.
func (j *Journal) held(lease *coordinationv1.Lease, s slot) *coordinationv1.Lease {
	now := microNow()
	lease.Spec = coordinationv1.LeaseSpec{HolderIdentity: &j.config.Holder, AcquireTime: &now, RenewTime: &now}
	if s.certain && s.owned && s.seen != nil {
		same := lease.DeepCopy()
		same.Spec.RenewTime = s.seen.Spec.RenewTime
		if (slot{certain: true, seen: s.seen, wanted: same}).next() == none {
			return same
		}
	}
	return lease
}

// Settle returns nil when the API server certainly has no entry of the claim: its volume has a
// PersistentVolume, or does not exist.
func (j *Journal) Settle(ctx context.Context, claim types.UID) error {
	if !j.markSettling(claim) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, giveUpAfter)
	defer cancel()
	t := j.lock(claim)
	defer t.unlock()
	return j.settle(ctx, claim, t)
}

// SettleLater has the claim's entry deleted within seconds.
func (j *Journal) SettleLater(claim types.UID) {
	if j.markSettling(claim) {
		j.queue.AddAfter(claim, settlePause)
	}
}

// markSettling marks the claim's entry as one to be deleted; false if there is none.
func (j *Journal) markSettling(claim types.UID) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := j.open[claim]
	if t != nil && t.settling.IsZero() {
		t.settling = time.Now()
	}
	return t != nil
}

// settle deletes the entry, unless it was recorded again meanwhile. The caller holds t's lock.
func (j *Journal) settle(ctx context.Context, claim types.UID, t *tracked) error {
	j.mu.Lock()
	wanted := t.recorded && t.settling.IsZero()
	j.mu.Unlock()
	if wanted {
		return nil
	}
	t.slot.wanted = nil
	if j.config.Leases != nil {
		if err := j.work(ctx, t); err != nil && !errors.Is(err, ErrHeld) {
			return fmt.Errorf("deleting the journal entry %s of a volume that is settled: %w", j.name(claim), err)
		}
	}
	j.forget(claim, t)
	return nil
}

// SetLastAnswer notes the driver's answer, without secrets. It is stored with the next write of
// the entry, or within a minute.
func (j *Journal) SetLastAnswer(claim types.UID, text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if t := j.open[claim]; t != nil && t.recorded {
		t.entry.LastAnswer = cut(text, maxAnswer)
	}
}

// Entry returns the claim's entry, and false if there is none. adopted is the time by the
// journal's clock at which it was taken over from another process, zero if it was not: until
// LeaseDuration and the timeout of a call have passed since then, a call of that process may
// still be open.
func (j *Journal) Entry(claim types.UID) (e Entry, adopted time.Time, found bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := j.open[claim]
	if t == nil || !t.recorded {
		return Entry{}, time.Time{}, false
	}
	return t.entry, t.adopted, true
}

// Entries returns all entries of this process that are not being deleted, the oldest first.
func (j *Journal) Entries() []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []Entry
	for _, t := range j.open {
		if t.recorded && t.settling.IsZero() {
			list = append(list, t.entry)
		}
	}
	slices.SortFunc(list, func(a, b Entry) int { return a.Since.Compare(b.Since) })
	return list
}

// MayCall returns an error while no call to the driver may begin: a deletion of an entry is
// overdue, or, without leader election, this process has not renewed its entries in time and
// another one may have adopted them.
func (j *Journal) MayCall() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	for claim, t := range j.open {
		if !t.settling.IsZero() && now.Sub(t.settling) > overdueAfter {
			return fmt.Errorf("journal entry %s of claim uid %s could not be deleted for %s; nothing is provisioned until it is: see the log for the reason",
				j.name(claim), claim, now.Sub(t.settling).Round(time.Second))
		}
	}
	if j.config.Leases != nil && j.config.MayAct == nil && now.Sub(j.renewed) > j.config.RenewDeadline {
		return errors.New("no journal entry could be renewed in time, another provisioner may be at work; nothing was done")
	}
	return nil
}

// lock returns the claim's tracked entry, an empty one if there is none. The caller must unlock
// it, and forget it if it is still empty.
func (j *Journal) lock(claim types.UID) *tracked {
	for {
		t := j.find(claim)
		t.lock()
		j.mu.Lock()
		current := j.open[claim] == t
		j.mu.Unlock()
		if current {
			return t
		}
		t.unlock() // it was settled while this goroutine waited
	}
}

func (j *Journal) find(claim types.UID) *tracked {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := j.open[claim]
	if t == nil {
		t = newTracked(slot{name: j.name(claim), holder: j.config.Holder, certain: true})
		j.open[claim] = t
	}
	return t
}

func (j *Journal) setSettling(t *tracked, since time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	t.settling = since
}

func (j *Journal) noteRecorded(t *tracked, e Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	t.entry, t.recorded = e, true
}

func (j *Journal) forget(claim types.UID, t *tracked) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.open[claim] == t {
		delete(j.open, claim)
	}
}

// name returns the name of the Lease of a claim's entry.
func (j *Journal) name(claim types.UID) string { return Name(j.config.Driver, claim, j.config.Node) }

// log returns a logger for one entry.
func (j *Journal) log(ctx context.Context, e Entry) klog.Logger {
	return klog.LoggerWithValues(klog.FromContext(ctx), "claim", klog.KRef(e.Claim.Namespace, e.Claim.Name), "uid", e.Claim.UID, "volume", e.VolumeName)
}

// microNow returns the time with the resolution that a Lease has.
func microNow() metav1.MicroTime { return metav1.NewMicroTime(time.Now().Truncate(time.Microsecond)) }
