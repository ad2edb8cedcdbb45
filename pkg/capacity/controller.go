package capacity

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
)

// settle is how long the driver is left alone after a volume was made or deleted: of many
// at once the driver is asked once for each pair, and the scheduler, which has counted
// the volume against the old figure, learns it soon enough.
const settle = time.Second

// Driver is who is asked.
type Driver interface {
	GetCapacity(ctx context.Context, req *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error)
}

// Segments are the places that there is to be an object for.
type Segments interface {
	// All returns them, without one twice; it is shared.
	All() []topology.Term
}

// Fixed are segments that never change: of a driver without topology, or of one node.
type Fixed []topology.Term

// All implements Segments.
func (f Fixed) All() []topology.Term { return f }

// Everywhere returns the segment of a driver whose volumes can be used on all nodes.
func Everywhere() Fixed { return Fixed{topology.TermOf(map[string]string{})} }

// Config is what a Controller is made of; every field without a comment that says
// otherwise is needed.
type Config struct {
	Driver Driver
	// DriverName is its name.
	DriverName string
	// Able says that the driver reports GET_CAPACITY. If not, nothing is published, and
	// what was goes.
	Able bool
	// Client has the limit of requests that is meant for capacity.
	Client kubernetes.Interface
	Caches *informers.Set
	// Segments are asked again when SegmentsChanged was called.
	Segments Segments
	// Namespace is where the objects are; ManagedBy is their label: see ManagedBy.
	Namespace, ManagedBy string
	// Owner finds what the objects go with; nil for nothing.
	Owner func(context.Context) (*metav1.OwnerReference, error)
	// Immediate: --capacity-for-immediate-binding.
	Immediate bool
	// PollEvery is how often the driver is asked about everything.
	PollEvery time.Duration
	// Workers is how many pairs are looked at at once.
	Workers int
	// RetryStart and RetryMax bound the pauses after errors.
	RetryStart, RetryMax time.Duration
	Clock                clock.WithTicker
}

// item is what is queued: a look at one pair, or at which pairs there are.
type item struct {
	pair Pair
	plan bool
}

// Controller keeps the objects true. It works while Run does; what is told before is not
// lost.
type Controller struct {
	Config
	mark    Mark
	queue   workqueue.TypedRateLimitingInterface[item]
	objects informers.Capacities

	mu     sync.Mutex
	wanted map[Pair]Part
	// due are the pairs that the driver is to be asked about; room is what it said last.
	due  map[Pair]bool
	room map[Pair]Room
	// failing are the pairs that could not be brought up to date, and why.
	failing map[Pair]string
	// written are objects of ours that the cache may not have yet.
	written map[Pair]*storagev1.CSIStorageCapacity
}

// NewController returns a controller that does nothing before Run.
func NewController(config Config) (*Controller, error) {
	c := &Controller{
		Config: config,
		mark:   Mark{Namespace: config.Namespace, Driver: config.DriverName, ManagedBy: config.ManagedBy},
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[item](config.RetryStart, config.RetryMax),
			workqueue.TypedRateLimitingQueueConfig[item]{Name: "csistoragecapacity"}),
		wanted: map[Pair]Part{}, due: map[Pair]bool{}, room: map[Pair]Room{}, failing: map[Pair]string{},
		written: map[Pair]*storagev1.CSIStorageCapacity{},
	}
	var err error
	c.objects, err = informers.NewCapacities(config.Client, config.Namespace, c.mark.Labels(), func(object *storagev1.CSIStorageCapacity) string {
		return indexed(Of(object))
	})
	return c, err
}

// indexed returns the pair as the index has it: no class has a blank in its name.
func indexed(pair Pair) string { return pair.Class + " " + pair.Segment }

// Run publishes until ctx ends. The caches must be filled.
func (c *Controller) Run(ctx context.Context) error {
	defer c.queue.ShutDown()
	if !c.Able {
		klog.FromContext(ctx).Info("The driver cannot say how much room it has (it does not report GET_CAPACITY), so nothing is published and its CSIStorageCapacity objects are removed; "+
			"take --enable-capacity away, and see to it that spec.storageCapacity of its CSIDriver is not true, or no pod with a new volume is scheduled", "driver", c.DriverName)
	}
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	running.Go(func() { c.objects.RunWithContext(ctx) })
	if !c.ownerFound(ctx) || !cache.WaitForCacheSync(ctx.Done(), c.objects.HasSynced) {
		return nil // ctx has ended
	}
	// Before this nobody knows which objects are one too many.
	c.plan()
	unwatch, err := c.watch()
	if err != nil {
		return err
	}
	for range c.Workers {
		running.Go(func() {
			for c.next(ctx) {
			}
		})
	}
	c.poll(ctx)
	c.queue.ShutDown()
	return unwatch()
}

// ownerFound looks for the owner until it is found, or ctx ends: provisioning does not
// depend on it, and RBAC may come later.
func (c *Controller) ownerFound(ctx context.Context) bool {
	if c.Owner == nil {
		return true
	}
	pauses := wait.Backoff{Duration: c.RetryStart, Factor: 2, Steps: 32, Cap: c.RetryMax}
	err := pauses.DelayFunc().Until(ctx, true, true, func(ctx context.Context) (bool, error) {
		owner, err := c.Owner(ctx)
		if err != nil {
			if ctx.Err() == nil {
				klog.FromContext(ctx).Error(err, "No capacity is published before it is known to whom the CSIStorageCapacity objects belong; it is tried again (--capacity-ownerref-level=-1 does without)")
			}
			return false, nil
		}
		c.mark.Owner = owner
		return true, nil
	})
	return err == nil
}

// watch has a look at what changes.
func (c *Controller) watch() (unwatch func() error, err error) {
	classes, err := c.Caches.Classes.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { c.SegmentsChanged() },
		UpdateFunc: func(oldObj, newObj any) {
			old, okOld := oldObj.(*storagev1.StorageClass)
			class, okNew := newObj.(*storagev1.StorageClass)
			if okOld && okNew && (old.UID != class.UID || old.ResourceVersion != class.ResourceVersion) {
				c.SegmentsChanged()
			}
		},
		DeleteFunc: func(any) { c.SegmentsChanged() },
	})
	if err != nil {
		return nil, fmt.Errorf("watching StorageClasses: %w", err)
	}
	_, err = c.objects.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { c.seen(obj, false) },
		UpdateFunc: func(_, obj any) { c.seen(obj, false) },
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			c.seen(obj, true)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("watching CSIStorageCapacity objects: %w", err)
	}
	return func() error { return c.Caches.Classes.RemoveEventHandler(classes) }, nil
}

// poll has the driver asked about everything, again and again. The first time is that of
// plan.
func (c *Controller) poll(ctx context.Context) {
	ticker := c.Clock.NewTicker(c.PollEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
			c.ask(0, func(Pair, Part) bool { return true })
		}
	}
}

// ask has the driver asked about the pairs that are meant, after a while.
func (c *Controller) ask(after time.Duration, meant func(Pair, Part) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for pair, part := range c.wanted {
		if meant(pair, part) {
			c.due[pair] = true
			c.queue.AddAfter(item{pair: pair}, after)
		}
	}
}

// Changed is told that volumes of a class were made or deleted, or could not be made. The
// terms are from where they can be used: pairs of all classes there are asked about, for
// what is behind them may be the same. Without terms, those of the class are.
func (c *Controller) Changed(class string, terms []topology.Term) {
	c.ask(settle, func(pair Pair, part Part) bool {
		if len(terms) == 0 {
			return pair.Class == class
		}
		return Touched(part.Segment, terms)
	})
}

// SegmentsChanged is told that there may be other segments, or classes, than before.
func (c *Controller) SegmentsChanged() { c.queue.Add(item{plan: true}) }

// plan finds out which pairs there are. It has those looked at that are new, or not
// wanted any more.
func (c *Controller) plan() {
	wanted := map[Pair]Part{}
	if c.Able {
		wanted = Wanted(c.DriverName, c.Caches.AllClasses(), c.Segments.All(), c.Immediate)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for pair, part := range wanted {
		before, known := c.wanted[pair]
		if !known || before.uid != part.uid || before.version != part.version {
			c.due[pair] = true
			c.queue.Add(item{pair: pair})
		}
	}
	for pair := range c.wanted {
		if _, still := wanted[pair]; !still {
			delete(c.due, pair)
			delete(c.room, pair)
			delete(c.failing, pair)
			c.queue.Add(item{pair: pair})
		}
	}
	c.wanted = wanted
}

// next does one piece of work; false when there is to be no more.
func (c *Controller) next(ctx context.Context) bool {
	it, shutdown := c.queue.Get()
	if shutdown || ctx.Err() != nil {
		return false
	}
	defer c.queue.Done(it)
	if it.plan {
		c.plan()
		return true
	}
	err := c.look(ctx, it.pair)
	if ctx.Err() != nil {
		return false
	}
	c.note(ctx, it.pair, err)
	if err != nil {
		c.queue.AddRateLimited(it)
		return true
	}
	c.queue.Forget(it)
	return true
}

// note remembers whether the pair is up to date. What is wrong with one is mostly wrong
// with all, and stays so for a while: it is an error in the log once.
func (c *Controller) note(ctx context.Context, pair Pair, err error) {
	logger := klog.FromContext(ctx).WithValues("class", pair.Class, "segment", pair.Segment)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		if _, failed := c.failing[pair]; failed {
			delete(c.failing, pair)
			if len(c.failing) == 0 {
				logger.Info("All published capacity is up to date again")
			}
		}
		return
	}
	text := err.Error()
	for _, told := range c.failing {
		if told == text {
			logger.V(4).Info("Capacity could not be brought up to date", "err", err)
			c.failing[pair] = text
			return
		}
	}
	c.failing[pair] = text
	logger.Error(err, "Capacity could not be brought up to date; what is published stays as it was, and it is tried again")
}

// Figures returns how many objects there are to be, how many of those there are, how many
// there are besides, and how many are not up to date.
func (c *Controller) Figures() (goal, current, obsolete, stale int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for pair := range c.wanted {
		if len(c.objects.About(indexed(pair))) > 0 {
			current++
		}
	}
	return len(c.wanted), current, len(c.objects.GetStore().ListKeys()) - current, len(c.failing)
}
