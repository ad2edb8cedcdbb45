package intake

import (
	"context"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/claimwriter"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/migration"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/planner"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Cleaner cleans up volumes of claims that are deleted or bound to another PV.
type Cleaner interface {
	// Undo finds the volume that may exist; see provision.Provisioner.Undo.
	Undo(ctx context.Context, turn *ledger.Turn, claim *v1.PersistentVolumeClaim) error
}

// Protector keeps sources alive.
type Protector interface {
	// Hold protects the source claim or the snapshot of the plan, until Unhold.
	Hold(ctx context.Context, claim types.UID, plan planner.Plan) error
	Unhold(claim types.UID)
	// Reconsider looks at a source again.
	Reconsider(ref source.Ref)
}

// Config is what an Intake is made of; every field is needed but Migration and Nodes.
type Config struct {
	Client kubernetes.Interface
	Writer *claimwriter.Writer
	Caches *informers.Set
	Driver string
	// Migration is the in-tree plugin that the driver took over; nil for none.
	Migration *migration.Plugin
	Keys      wellknown.Record
	Ledger    *ledger.Ledger
	Recorder  *observe.Recorder
	Planner   *planner.Planner
	Cleaner   Cleaner
	Protector Protector
	// Nodes says whose a claim is; nil if all are this process's.
	Nodes Nodes
	// OnRecord says whether a claim that is admitted is put on record
	// (--provisioning-record); else only this process knows of its work.
	OnRecord func(planner.Plan) bool
	// WakeEngine makes the engine look at a claim now that was admitted.
	WakeEngine func(*v1.PersistentVolumeClaim)
	// Workers is how many claims are judged at once.
	Workers int
	// Timeout of one driver call: the shortest pause between two attempts to
	// clean up, see ledger.New.
	Timeout time.Duration
	// RetryStart and RetryMax bound the back-off after errors.
	RetryStart, RetryMax time.Duration
	Clock                clock.PassiveClock
}

// cleaners is how many claims are cleaned up at once: each may hold a driver
// call for a whole timeout, and they must not keep new claims waiting.
const cleaners = 10

// savedPatience is how long a claim whose PV is saved may take to be bound
// before its record is taken off all the same: from the moment that the PV is
// saved nothing can leak, and waiting only keeps us from writing to the claim
// while the PV controller does.
const savedPatience = time.Minute

// askAgain is how long a claim waits for something that we may not watch before it is
// looked at again.
const askAgain = 10 * time.Second

// firstTries is how often a claim of the first list is tried before no source waits
// for it any more: an error must not keep all sources for ever.
const firstTries = 3

// key names one claim for good: a claim made again under the same name is
// another one.
type key struct {
	namespace, name string
	uid             types.UID
}

// Intake is the controller. See Run.
type Intake struct {
	Config
	queue   workqueue.TypedRateLimitingInterface[key]
	dirty   workqueue.TypedRateLimitingInterface[key]
	waiting *waitlist.List[key]
	stalled *stalled

	mu      sync.Mutex
	unseen  map[key]struct{} // claims of the first list that are not judged yet
	judged  chan struct{}
	settled bool
	written map[types.UID]string    // our last write to a claim, until the cache has it
	lacking map[types.UID]time.Time // since when a saved PV is not in the cache
	mends   map[types.UID]int       // how often a record was mended
	// reserved volume names, and the same by claim; see reserve.
	reserved map[string]key
	names    map[key]string
}

// New returns an Intake that does nothing before Run.
func New(c Config) *Intake {
	queue := func(name string, start time.Duration) workqueue.TypedRateLimitingInterface[key] {
		return workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[key](start, max(start, c.RetryMax)),
			workqueue.TypedRateLimitingQueueConfig[key]{Name: name})
	}
	return &Intake{
		Config:  c,
		queue:   queue("intake", c.RetryStart),
		dirty:   queue("cleaner", max(c.RetryStart, c.Timeout+c.Timeout/10)),
		waiting: waitlist.New[key](),
		stalled: newStalled(),
		unseen:  map[key]struct{}{},
		judged:  make(chan struct{}),
		written: map[types.UID]string{},
		lacking: map[types.UID]time.Time{},
		mends:   map[types.UID]int{},

		reserved: map[string]key{},
		names:    map[key]string{},
	}
}

// Judged is closed when every claim of the first list has been judged once.
func (i *Intake) Judged() <-chan struct{} { return i.judged }

// Awaited says whether a claim waits for the object.
func (i *Intake) Awaited(object waitlist.Object) bool { return i.waiting.Awaited(object) }

// Enqueue makes intake look at a claim again.
func (i *Intake) Enqueue(namespace, name string, uid types.UID) {
	i.queue.Add(key{namespace, name, uid})
}

// Run works until ctx ends, and returns when all workers have. The caches are
// filled before it is called.
func (i *Intake) Run(ctx context.Context) error {
	unregister, err := i.register()
	if err != nil {
		return err
	}
	var workers sync.WaitGroup
	for range i.Workers {
		workers.Go(func() { drain(ctx, i.queue, i.reconcile) })
	}
	for range cleaners {
		workers.Go(func() { drain(ctx, i.dirty, i.clean) })
	}
	<-ctx.Done()
	i.queue.ShutDown()
	i.dirty.ShutDown()
	workers.Wait()
	return unregister()
}

// drain works a queue off until it is shut down. An error makes the key come
// back after the back-off.
func drain(ctx context.Context, queue workqueue.TypedRateLimitingInterface[key], work func(context.Context, key) error) {
	for {
		k, shutdown := queue.Get()
		if shutdown || ctx.Err() != nil {
			return
		}
		logger := klog.FromContext(ctx).WithValues("claim", klog.KRef(k.namespace, k.name))
		if err := work(klog.NewContext(ctx, logger), k); err != nil {
			if ctx.Err() == nil {
				logger.Info("Claim is tried again", "err", err)
			}
			queue.AddRateLimited(k)
		} else {
			queue.Forget(k)
		}
		queue.Done(k)
	}
}

// reconcile brings one claim a step further.
func (i *Intake) reconcile(ctx context.Context, k key) error {
	err := i.look(ctx, k)
	if err == nil || i.queue.NumRequeues(k) >= firstTries {
		i.seen(k)
	}
	return err
}

func (i *Intake) look(ctx context.Context, k key) error {
	claim := i.Caches.Claim(k.namespace, k.name)
	if claim == nil || claim.UID != k.uid {
		i.vanished(k)
		return nil
	}
	if i.behind(claim) {
		return nil // the cache will tell when it has our last write
	}
	if i.recorded(claim) || i.Ledger.Unrecorded(k.uid) {
		return i.follow(ctx, k, claim)
	}
	if i.elsewhere(claim) {
		i.aside(k, claim)
		return nil
	}
	return i.consider(ctx, k, claim)
}

// vanished: the claim is gone from the API. If a volume may exist all the same,
// because the claim had no record or somebody stripped it, what this process
// remembers is cleaned up, and the source stays held until then.
func (i *Intake) vanished(k key) {
	i.waiting.Drop(k)
	i.dropped(k)
	i.Recorder.Forget(k.uid)
	i.mu.Lock()
	delete(i.written, k.uid)
	delete(i.lacking, k.uid)
	delete(i.mends, k.uid)
	i.mu.Unlock()
	if state, known := i.Ledger.State(k.uid); known && state == ledger.Unknown {
		i.dirty.Add(k)
		return
	}
	i.forget(k)
}

// forget drops what is known of a claim that is gone and has left nothing behind.
func (i *Intake) forget(k key) {
	i.stalled.clear(k)
	i.Protector.Unhold(k.uid)
	i.unreserve(k)
	i.Ledger.Forget(k.uid)
}

// seen ticks a claim off the first list.
func (i *Intake) seen(k key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.unseen, k)
	if len(i.unseen) == 0 && !i.settled {
		i.settled = true
		close(i.judged)
	}
}

// wrote notes our last write to a claim.
func (i *Intake) wrote(live *v1.PersistentVolumeClaim) {
	if live.DeletionTimestamp != nil && len(live.Finalizers) == 0 {
		return // that was its end
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.written[live.UID] = live.ResourceVersion
}

// behind says whether the cached claim is older than our last write to it: then
// a decision made from it would be one about the past.
func (i *Intake) behind(cached *v1.PersistentVolumeClaim) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	version, found := i.written[cached.UID]
	if !found {
		return false
	}
	if order, err := resourceversion.CompareResourceVersion(cached.ResourceVersion, version); err == nil && order < 0 {
		return true
	}
	delete(i.written, cached.UID)
	return false
}

// finish ends a turn in the ledger, and wakes who missed it.
func (i *Intake) finish(k key, turn *ledger.Turn) {
	if !turn.Done() {
		return
	}
	i.queue.Add(k)
	i.wakeEngine(k)
}

// wakeEngine makes the engine look at the claim now, if it was admitted.
func (i *Intake) wakeEngine(k key) {
	if claim := i.Caches.Claim(k.namespace, k.name); claim != nil && claim.UID == k.uid {
		i.WakeEngine(claim)
	}
}
