package nodelocal

import (
	"context"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/claimwriter"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// workers is how many claims are looked at in the same moment: each may hold a call to the
// driver for a whole timeout. What waits for its time holds none of them.
const workers = 10

// Config is what a Controller is made of; every field is needed but Room.
type Config struct {
	// Here is this node, and Driver the driver's name.
	Here   Place
	Driver string
	// Keys of this node's record on claims.
	Keys     wellknown.Record
	Caches   *informers.Set
	Writer   *claimwriter.Writer
	Recorder *observe.Recorder
	// Immediate: --node-deployment-immediate-binding; Delays: the two flags of that name.
	Immediate bool
	Delays    Delays
	// Room asks the driver how many bytes can be made, and how many in one volume, 0 if it
	// does not say; nil if it cannot tell. It has a deadline of its own.
	Room func(context.Context, *csi.GetCapacityRequest) (free, most int64, err error)
	// NodeExists says whether there is a Node of that name.
	NodeExists func(ctx context.Context, name string) (bool, error)
	// Random returns anything from nothing up to, but not, its argument.
	Random func(time.Duration) time.Duration
	Clock  clock.WithTicker
}

// key names one claim for good.
type key struct {
	namespace, name string
	uid             types.UID
}

// entry is a claim that is waited for.
type entry struct {
	// claim as it was judged; it is taken in that version or not at all.
	claim *v1.PersistentVolumeClaim
	// volume that would be asked for; nil if it could not be made here.
	volume *csi.CreateVolumeRequest
	// elsewhere: another node has the claim; see Watch.
	elsewhere bool
	// taken: it is this node's; tries are kept for the case that it comes back.
	taken bool
	// full: there was no room at the last look.
	full  bool
	tries int
	since time.Time
	due   time.Time
}

// Controller takes claims for this node; see the package. Its methods may be called from
// several goroutines.
type Controller struct {
	Config
	queue workqueue.TypedDelayingInterface[key]

	mu      sync.Mutex
	entries map[key]*entry
}

// New returns a Controller that does nothing before Run.
func New(c Config) *Controller {
	return &Controller{
		Config: c, entries: map[key]*entry{},
		queue: workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[key]{Name: "nodelocal", Clock: c.Clock}),
	}
}

// Run works until ctx ends, and returns when all workers have.
func (c *Controller) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for {
				k, shutdown := c.queue.Get()
				if shutdown || ctx.Err() != nil {
					return
				}
				c.look(ctx, k)
				c.queue.Done(k)
			}
		})
	}
	<-ctx.Done()
	c.queue.ShutDown()
	running.Wait()
	return nil
}

// Keeps says whether the PV's volume is for this process to delete.
func (c *Controller) Keeps(pv *v1.PersistentVolume) bool { return Keeps(pv, c.Driver, c.Here) }

// Elsewhere implements intake.Nodes.
func (c *Controller) Elsewhere(claim *v1.PersistentVolumeClaim) bool {
	return Elsewhere(claim, c.Here.Node, c.Keys)
}

// Open implements intake.Nodes.
func (c *Controller) Open(claim *v1.PersistentVolumeClaim) (bool, verdict.Verdict) {
	return Open(claim, c.Caches.Class(source.ClassName(claim)), c.Keys, c.Immediate)
}

// Bid implements intake.Nodes: the claim is taken when its time has come, if there is room
// for the volume. A nil volume could not be made here; then it is told after a while that
// nobody takes the claim.
func (c *Controller) Bid(claim *v1.PersistentVolumeClaim, volume *csi.CreateVolumeRequest) {
	k := key{claim.Namespace, claim.Name, claim.UID}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[k]
	if e == nil || e.elsewhere {
		e = &entry{taken: true}
		c.entries[k] = e
	}
	e.claim, e.volume = claim, volume
	if e.taken {
		now := c.Clock.Now()
		e.taken, e.since, e.due = false, now, now.Add(c.Delays.After(e.tries, c.Random))
		c.queue.AddAfter(k, e.due.Sub(now))
	}
}

// Drop implements intake.Nodes: nobody waits for the claim any more.
func (c *Controller) Drop(namespace, name string, uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, key{namespace, name, uid})
}

// Waiting returns how many claims are remembered.
func (c *Controller) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}

// Freed has the claims looked at again for which there was no room: a volume is gone. It is
// left to chance when, as other nodes may share the room.
func (c *Controller) Freed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.Clock.Now()
	for k, e := range c.entries {
		soon := now.Add(c.Random(c.Delays.Base))
		if e.full && soon.Before(e.due) {
			e.full, e.due = false, soon
			c.queue.AddAfter(k, soon.Sub(now))
		}
	}
}

// look does what is due for a claim.
func (c *Controller) look(ctx context.Context, k key) {
	c.mu.Lock()
	found := c.entries[k]
	if found == nil || found.taken {
		c.mu.Unlock()
		return
	}
	e, left := *found, found.due.Sub(c.Clock.Now())
	c.mu.Unlock()
	if left > 0 {
		c.queue.AddAfter(k, left) // it was put off meanwhile
		return
	}
	ctx = klog.NewContext(ctx, klog.FromContext(ctx).WithValues("claim", klog.KObj(e.claim)))
	if e.elsewhere {
		c.lookElsewhere(ctx, k, e)
		return
	}
	taken, full := c.take(ctx, e)
	c.mu.Lock()
	now := c.Clock.Now()
	if found = c.entries[k]; found == nil || found.elsewhere {
		c.mu.Unlock()
		return
	}
	found.tries++
	found.taken, found.full = taken, full
	wait, late := c.Delays.After(found.tries, c.Random), now.Sub(found.since) >= c.Delays.Max
	found.due = now.Add(wait)
	c.mu.Unlock()
	if taken {
		return
	}
	c.queue.AddAfter(k, wait)
	if late && c.unchanged(e.claim) {
		c.Recorder.Say(e.claim, c.notTaken(e.claim))
	}
}

// unchanged says whether the claim is still as it was judged: nobody has taken it.
func (c *Controller) unchanged(claim *v1.PersistentVolumeClaim) bool {
	now := c.Caches.Claim(claim.Namespace, claim.Name)
	return now != nil && now.UID == claim.UID && !c.Elsewhere(now)
}

// take makes this node the chosen one, if there is room for the volume. full says that there
// is none.
func (c *Controller) take(ctx context.Context, e entry) (taken, full bool) {
	logger := klog.FromContext(ctx)
	if e.volume == nil {
		return false, false
	}
	enough, err := c.enough(ctx, e.volume)
	switch {
	case err != nil:
		logger.Info("The claim is not taken, because it is not known how much room there is; tried again", "err", err)
		return false, true
	case !enough:
		logger.V(4).Info("The claim is not taken, because there is too little room", "bytes", e.volume.GetCapacityRange().GetRequiredBytes())
		return false, true
	}
	patch, err := record.Select(e.claim, c.Here.Node)
	if err == nil {
		_, err = c.Writer.Patch(ctx, e.claim, patch)
	}
	switch {
	case err == nil:
		logger.V(2).Info("Claim taken", "node", c.Here.Node)
		return true, false
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		logger.V(4).Info("The claim has changed; its new version is judged again")
	case ctx.Err() == nil:
		logger.Info("The claim could not be taken; tried again", "err", err)
	}
	return false, false
}

// notTaken says why a claim waits that nobody takes. It does not depend on the node, so that
// what all of them say is one event.
func (c *Controller) notTaken(claim *v1.PersistentVolumeClaim) verdict.Verdict {
	size := claim.Spec.Resources.Requests[v1.ResourceStorage]
	also := ""
	if class := c.Caches.Class(source.ClassName(claim)); class != nil && len(class.AllowedTopologies) > 0 {
		also += " and where StorageClass \"" + class.Name + "\" allows volumes"
	}
	if ref := source.Of(claim); ref.Kind == source.Claim {
		also += " and from where source PVC \"" + ref.Shown + "\" can be reached"
	}
	return verdict.Waiting(verdict.NotTaken,
		"the claim waits for a node: one takes it where driver %q has %s free%s, and none has within %s; it starts by itself when one can", c.Driver, size.String(), also, c.Delays.Max)
}
