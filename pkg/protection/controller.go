package protection

import (
	"context"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/keymutex"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/claimwriter"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// sweepPeriod is how long a finalizer may stay on a source that nobody clones
// any more and nobody deletes: long enough that clones made one after the other
// do not write to their source each time.
const sweepPeriod = 30 * time.Second

// lanes is how many locks the sources share. A lock is held while its source is
// written to, and sources that share one wait for each other: many more than
// there are workers, so that hardly any two do. (Left to itself the library takes as
// many as there are processors.)
const lanes = 4096

// Controller keeps the cloning protection of this driver's sources.
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

// Config is what a Controller is made of; every field is needed.
type Config struct {
	Writer *claimwriter.Writer
	Caches *informers.Set
	Driver string
	// SourceOf names the source of a clone that is on record; found is false for
	// every other claim.
	SourceOf func(*v1.PersistentVolumeClaim) (namespace, name string, found bool)
	// Needs says whether a clone on record may keep its source from going. Whoever can
	// write to claims can write a record, and must not be able to hold a source that
	// the rules do not let the clone use.
	Needs    func(clone *v1.PersistentVolumeClaim) bool
	Recorder *observe.Recorder
	Clock    clock.WithTicker
}

// New returns a controller that does nothing before Run; Hold works at once.
func New(config Config) *Controller {
	return &Controller{
		Config: config,
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[item](100*time.Millisecond, sweepPeriod),
			workqueue.TypedRateLimitingQueueConfig[item]{Name: "cloningprotection"}),
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
	registration, err := c.Caches.Claims.AddEventHandler(c.handler())
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
	return c.Caches.Claims.RemoveEventHandler(registration)
}

func (c *Controller) sweepUntil(ctx context.Context) {
	ticker := c.Clock.NewTicker(sweepPeriod)
	defer ticker.Stop()
	for {
		for _, source := range c.Caches.ProtectedSources() {
			c.queue.Add(item{source.Namespace, source.Name, true})
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

func (c *Controller) handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if claim, ok := obj.(*v1.PersistentVolumeClaim); ok {
				c.caughtUp(claim)
				if protected(claim) && claim.DeletionTimestamp != nil {
					c.Reconsider(claim.Namespace, claim.Name)
				}
			}
		},
		UpdateFunc: func(oldObj, newObj any) {
			old, okOld := oldObj.(*v1.PersistentVolumeClaim)
			claim, okNew := newObj.(*v1.PersistentVolumeClaim)
			if !okOld || !okNew {
				return
			}
			if old.UID != claim.UID { // deleted and made again between two looks
				c.cloneThrough(old, nil)
				c.forget(old.UID)
				return
			}
			c.caughtUp(claim)
			c.cloneThrough(old, claim)
			stripped := protected(old) && !protected(claim)
			deleted := protected(claim) && claim.DeletionTimestamp != nil && old.DeletionTimestamp == nil
			if stripped || deleted {
				c.Reconsider(claim.Namespace, claim.Name)
			}
		},
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			if claim, ok := obj.(*v1.PersistentVolumeClaim); ok {
				c.cloneThrough(claim, nil)
				c.forget(claim.UID)
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
	source := c.Caches.Claim(it.namespace, it.name)
	if source == nil || !c.ours(source) {
		return nil
	}
	needed, deleting := c.needed(source), source.DeletionTimestamp != nil
	switch {
	case needed && deleting:
		c.tell(source)
	case needed:
		return c.protect(ctx, source)
	case deleting || it.sweep:
		return c.release(ctx, source)
	}
	return nil
}

// needed says whether a clone of the source is held or on record.
func (c *Controller) needed(source *v1.PersistentVolumeClaim) bool {
	return c.held(source.UID) || slices.ContainsFunc(c.Caches.ClonesOf(source.Namespace, source.Name), c.Needs)
}

// clonesOf returns the clones on record that need the source.
func (c *Controller) clonesOf(source *v1.PersistentVolumeClaim) []*v1.PersistentVolumeClaim {
	return slices.DeleteFunc(c.Caches.ClonesOf(source.Namespace, source.Name), func(clone *v1.PersistentVolumeClaim) bool {
		return !c.Needs(clone)
	})
}

// ours: the source's volume is of our driver. When the PV is not known, the
// claim's own annotation decides.
func (c *Controller) ours(source *v1.PersistentVolumeClaim) bool {
	if pv := c.Caches.PV(source.Spec.VolumeName); pv != nil {
		return pv.Spec.CSI != nil && pv.Spec.CSI.Driver == c.Driver
	}
	provisioner, found := source.Annotations[wellknown.StorageProvisioner]
	if !found {
		provisioner = source.Annotations[wellknown.BetaStorageProvisioner]
	}
	return provisioner == c.Driver
}

// tell says on the source why it does not go yet: once, and not anew because
// another clone is the first now; but again before the event expires.
func (c *Controller) tell(source *v1.PersistentVolumeClaim) {
	clones := c.clonesOf(source)
	if len(clones) == 0 || (c.Recorder.Last(source.UID) == verdict.SourceHeld && !c.Recorder.Due(source.UID)) {
		return
	}
	names := make([]string, 0, len(clones))
	for _, clone := range clones {
		name := clone.Name
		if clone.Namespace != source.Namespace {
			name = clone.Namespace + "/" + name
		}
		names = append(names, name)
	}
	c.Recorder.Say(source, verdict.Waiting(verdict.SourceHeld,
		"deletion of source PVC %q waits for clones being made of it (first: %q); nothing to do", source.Name, slices.Min(names)))
}

func protected(claim *v1.PersistentVolumeClaim) bool {
	return slices.Contains(claim.Finalizers, wellknown.CloningProtection)
}
