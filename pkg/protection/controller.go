package protection

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/keymutex"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
)

// longestPause is the longest pause between two attempts to write to a source.
const longestPause = 30 * time.Second

// lanes is how many locks the sources share. A lock is held while its source is
// written to, and sources that share one wait for each other: many more than
// there are workers, so that hardly any two do. (Left to itself the library takes as
// many as there are processors.)
const lanes = 4096

// Controller keeps the protection of this driver's sources of one kind.
type Controller struct {
	Config
	queue workqueue.TypedRateLimitingInterface[item]
	locks keymutex.KeyMutex

	mu      sync.Mutex
	holds   map[types.UID]map[types.UID]struct{} // source -> claims
	heldBy  map[types.UID]heldSource             // claim -> source
	written map[types.UID]write
}

// heldSource is the source that a claim holds.
type heldSource struct {
	uid             types.UID
	namespace, name string
}

// write is a change of ours that the cache may not have yet.
type write struct {
	present bool
	version string
}

// lostAnswer stands for the version of a write that may or may not have landed;
// only the next write that is answered says more.
const lostAnswer = ""

type item struct {
	namespace, name string
	// sweep: take the finalizer off even if the source is not being deleted.
	sweep bool
}

// Config is what a Controller is made of; every field is needed but Here.
type Config struct {
	Sources Sources
	// Queue is what the work queue is called in metrics.
	Queue  string
	Caches *informers.Set
	// SourceOf names the source of the kind from which a claim on record is filled; found
	// is false for every other claim.
	SourceOf func(*v1.PersistentVolumeClaim) (namespace, name string, found bool)
	// SweepEvery is how often finalizers are looked for that nobody needs and nobody has
	// told of: what the incumbent, or a process that was killed, has left behind. 0 is
	// never.
	SweepEvery time.Duration
	// RemovalDelay is how long the finalizer stays on a source that no clone needs any more
	// and that is not being deleted, so that clones made one after the other do not each write to it.
	RemovalDelay time.Duration
	// Needs says whether a clone on record may keep its source from going. Whoever can
	// write to claims can write a record, and must not be able to hold a source that
	// the rules do not let the clone use.
	Needs func(clone *v1.PersistentVolumeClaim) bool
	// Here says whether a source is for this process to look after; nil if all are.
	Here     func(source metav1.Object) bool
	Recorder *observe.Recorder
	Clock    clock.WithTicker
}

// New returns a controller that does nothing before Run; Hold works at once.
func New(config Config) *Controller {
	return &Controller{
		Config: config,
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[item](100*time.Millisecond, longestPause),
			workqueue.TypedRateLimitingQueueConfig[item]{Name: config.Queue}),
		locks:   keymutex.NewHashed(lanes),
		holds:   map[types.UID]map[types.UID]struct{}{},
		heldBy:  map[types.UID]heldSource{},
		written: map[types.UID]write{},
	}
}

// Run takes finalizers off until ctx ends. It removes none before judged is
// closed: until every claim has been judged once, nobody knows which sources
// are needed.
func (c *Controller) Run(ctx context.Context, judged <-chan struct{}) error {
	defer c.queue.ShutDown()
	sources, err := c.Sources.Informer().AddEventHandler(c.sourceHandler())
	if err != nil {
		return err
	}
	clones, err := c.Caches.Claims.AddEventHandler(c.cloneHandler())
	if err != nil {
		return err
	}
	select {
	case <-judged:
	case <-ctx.Done():
		return nil
	}
	var workers sync.WaitGroup
	workers.Go(func() {
		for c.next(ctx) {
		}
	})
	c.sweepUntil(ctx)
	c.queue.ShutDown()
	workers.Wait()
	return errors.Join(c.Sources.Informer().RemoveEventHandler(sources), c.Caches.Claims.RemoveEventHandler(clones))
}

func (c *Controller) sweepUntil(ctx context.Context) {
	if c.SweepEvery <= 0 {
		<-ctx.Done()
		return
	}
	ticker := c.Clock.NewTicker(c.SweepEvery)
	defer ticker.Stop()
	for {
		for _, source := range c.Sources.Protected() {
			c.queue.Add(item{source.GetNamespace(), source.GetName(), true})
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

// Reconsider looks at a source again.
func (c *Controller) Reconsider(namespace, name string) {
	c.queue.Add(item{namespace: namespace, name: name})
}

func (c *Controller) sourceHandler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if source, ok := obj.(metav1.Object); ok {
				c.caughtUp(source)
				if c.protected(source) && source.GetDeletionTimestamp() != nil {
					c.Reconsider(source.GetNamespace(), source.GetName())
				}
			}
		},
		UpdateFunc: func(oldObj, newObj any) {
			old, okOld := oldObj.(metav1.Object)
			source, okNew := newObj.(metav1.Object)
			switch {
			case !okOld || !okNew:
				return
			case old.GetUID() != source.GetUID(): // deleted and made again between two looks
				c.forget(old.GetUID())
				return
			}
			c.caughtUp(source)
			stripped := c.protected(old) && !c.protected(source)
			deleted := c.protected(source) && source.GetDeletionTimestamp() != nil && old.GetDeletionTimestamp() == nil
			if stripped || deleted {
				c.Reconsider(source.GetNamespace(), source.GetName())
			}
		},
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			if source, ok := obj.(metav1.Object); ok {
				c.forget(source.GetUID())
				c.Recorder.Forget(source.GetUID())
			}
		},
	}
}

func (c *Controller) cloneHandler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(oldObj, newObj any) {
			old, okOld := oldObj.(*v1.PersistentVolumeClaim)
			claim, okNew := newObj.(*v1.PersistentVolumeClaim)
			switch {
			case !okOld || !okNew:
			case old.UID != claim.UID: // deleted and made again between two looks
				c.cloneThrough(old, nil)
			default:
				c.cloneThrough(old, claim)
			}
		},
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			if claim, ok := obj.(*v1.PersistentVolumeClaim); ok {
				c.cloneThrough(claim, nil)
			}
		},
	}
}

// cloneThrough looks at the source again when a clone of it leaves the index;
// the index has changed before this is called.
func (c *Controller) cloneThrough(before, now *v1.PersistentVolumeClaim) {
	namespace, name, found := c.SourceOf(before)
	if !found {
		return
	}
	if now != nil {
		if _, _, still := c.SourceOf(now); still {
			return
		}
	}
	c.Reconsider(namespace, name)
	c.queue.AddAfter(item{namespace, name, true}, c.RemovalDelay)
}

func (c *Controller) forget(source types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.written, source)
}

func (c *Controller) next(ctx context.Context) bool {
	it, shutdown := c.queue.Get()
	if shutdown || ctx.Err() != nil {
		return false
	}
	defer c.queue.Done(it)
	if err := c.look(ctx, it); err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).Error(err, "Source protection is tried again", "source", klog.KRef(it.namespace, it.name))
		c.queue.AddRateLimited(it)
		return true
	}
	c.queue.Forget(it)
	return true
}

// look brings one source to where it should be.
func (c *Controller) look(ctx context.Context, it item) error {
	source := c.Sources.Get(it.namespace, it.name)
	if source == nil {
		return nil
	}
	needed, deleting := c.needed(source), source.GetDeletionTimestamp() != nil
	if !needed && !deleting && !it.sweep {
		return nil
	}
	if c.Here != nil && !c.Here(source) {
		return nil
	}
	if ours, err := c.Sources.Ours(ctx, source); !ours || err != nil {
		return err
	}
	switch {
	case needed && deleting:
		c.tell(source)
		return nil
	case needed:
		return c.unlessDenied(ctx, c.protect(ctx, source))
	}
	return c.unlessDenied(ctx, c.release(ctx, source))
}

// unlessDenied returns the error, unless it is one that will not go away and may be lived
// with.
func (c *Controller) unlessDenied(ctx context.Context, err error) error {
	if err != nil && c.Sources.MayFail() && apierrors.IsForbidden(err) {
		klog.FromContext(ctx).Info("Source protection is done without", "err", err)
		return nil
	}
	return err
}

// needed says whether a clone of the source is held or on record.
func (c *Controller) needed(source metav1.Object) bool {
	return c.held(source.GetUID()) || slices.ContainsFunc(c.Sources.Clones(source.GetNamespace(), source.GetName()), c.Needs)
}

// clonesOf returns the clones on record that need the source.
func (c *Controller) clonesOf(source metav1.Object) []*v1.PersistentVolumeClaim {
	return slices.DeleteFunc(c.Sources.Clones(source.GetNamespace(), source.GetName()), func(clone *v1.PersistentVolumeClaim) bool {
		return !c.Needs(clone)
	})
}

// tell says on the source why it does not go yet: once, and not anew because
// another clone is the first now; but again before the event expires.
func (c *Controller) tell(source metav1.Object) {
	clones := c.clonesOf(source)
	if len(clones) == 0 {
		return
	}
	names := make([]string, 0, len(clones))
	for _, clone := range clones {
		name := clone.Name
		if clone.Namespace != source.GetNamespace() {
			name = clone.Namespace + "/" + name
		}
		names = append(names, name)
	}
	about, held := c.Sources.Held(source, slices.Min(names))
	if c.Recorder.Last(about.UID) != held.Reason || c.Recorder.Due(about.UID) {
		c.Recorder.SayOf(about, held)
	}
}

// Protecting returns how many sources carry the finalizer that are known, without asking
// the API server, to be this driver's.
func (c *Controller) Protecting() int {
	count := 0
	for _, source := range c.Sources.Protected() {
		if c.Sources.Known(source) {
			count++
		}
	}
	return count
}

func (c *Controller) protected(source metav1.Object) bool {
	return slices.Contains(source.GetFinalizers(), c.Sources.Finalizer())
}
