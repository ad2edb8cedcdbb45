package protection

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/klog/v2"
)

// Hold protects the source for the claim, and keeps it protected until Unhold:
// longer than the record takes to show up in the caches, so that a removal
// cannot slip in between. An error means that the source is not protected; the
// hold is then off.
func (c *Controller) Hold(ctx context.Context, claim types.UID, source metav1.Object) error {
	c.count(claim, source)
	if err := c.protect(ctx, source); err != nil {
		c.Unhold(claim)
		return err
	}
	return nil
}

// Unhold ends the claim's hold, if it has one. A source that nobody holds any more is
// looked at again.
func (c *Controller) Unhold(claim types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	source, held := c.heldBy[claim]
	if !held {
		return
	}
	delete(c.heldBy, claim)
	delete(c.holds[source.uid], claim)
	if len(c.holds[source.uid]) == 0 {
		delete(c.holds, source.uid)
		c.Reconsider(source.namespace, source.name)
		c.queue.AddAfter(item{source.namespace, source.name, true}, c.RemovalDelay)
	}
}

func (c *Controller) count(claim types.UID, source metav1.Object) {
	c.mu.Lock()
	before, held := c.heldBy[claim]
	c.mu.Unlock()
	if held && before.uid != source.GetUID() {
		c.Unhold(claim)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heldBy[claim] = heldSource{source.GetUID(), source.GetNamespace(), source.GetName()}
	if c.holds[source.GetUID()] == nil {
		c.holds[source.GetUID()] = map[types.UID]struct{}{}
	}
	c.holds[source.GetUID()][claim] = struct{}{}
}

func (c *Controller) held(source types.UID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.holds[source]) > 0
}

// protect puts the finalizer on the source unless it is there.
func (c *Controller) protect(ctx context.Context, source metav1.Object) error {
	c.locks.LockKey(string(source.GetUID()))
	defer c.unlock(source.GetUID())
	if present, known := c.present(source); known && present {
		return nil
	}
	return c.write(ctx, source, true)
}

// release takes the finalizer off the source if nobody needs it; the look is
// taken under the lock, so that no Hold comes between look and write.
func (c *Controller) release(ctx context.Context, source metav1.Object) error {
	c.locks.LockKey(string(source.GetUID()))
	defer c.unlock(source.GetUID())
	if present, known := c.present(source); known && !present || c.needed(source) {
		return nil
	}
	return c.write(ctx, source, false)
}

func (c *Controller) unlock(source types.UID) {
	if err := c.locks.UnlockKey(string(source)); err != nil {
		panic(err) // the lock is held: see the callers
	}
}

// write makes the finalizer present or absent on the live source. The caller
// holds the source's lock.
func (c *Controller) write(ctx context.Context, source metav1.Object, present bool) error {
	live, err := c.Sources.Write(ctx, source, present)
	if err != nil {
		if !refused(err) {
			c.lost(source)
		}
		return c.ignoreGone(err, source, present)
	}
	c.wrote(live, present)
	klog.FromContext(ctx).V(2).Info("Source protection changed", "source", klog.KRef(source.GetNamespace(), source.GetName()), "protected", present)
	return nil
}

// refused says whether the API server turned the write down for certain; every
// other error may come after it took effect.
func refused(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsConflict(err)
}

// ignoreGone: a source that is gone needs no protection taken off.
func (c *Controller) ignoreGone(err error, source metav1.Object, present bool) error {
	if apierrors.IsNotFound(err) && !present {
		return nil
	}
	protection, kind := c.Sources.Words()
	if present {
		return fmt.Errorf("putting the %s on %s %q: %w", protection, kind, source.GetName(), err)
	}
	return fmt.Errorf("taking the %s off %s %q: %w", protection, kind, source.GetName(), err)
}

// present says whether the source carries the finalizer: what we wrote last,
// until the cache has caught up with it; then what the cache says. It is not
// known after a write whose answer was lost.
func (c *Controller) present(source metav1.Object) (present, known bool) {
	c.mu.Lock()
	w, ahead := c.written[source.GetUID()]
	c.mu.Unlock()
	if ahead {
		return w.present, w.version != lostAnswer
	}
	cached := c.Sources.Get(source.GetNamespace(), source.GetName())
	return cached != nil && cached.GetUID() == source.GetUID() && c.protected(cached), true
}

// lost notes that a write got no answer.
func (c *Controller) lost(source metav1.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written[source.GetUID()] = write{version: lostAnswer}
}

func (c *Controller) wrote(live metav1.Object, present bool) {
	c.mu.Lock()
	c.written[live.GetUID()] = write{present: present, version: live.GetResourceVersion()}
	c.mu.Unlock()
	// The watch may have been faster than the reply.
	cached := c.Sources.Get(live.GetNamespace(), live.GetName())
	switch gone := cached == nil || cached.GetUID() != live.GetUID(); {
	case !gone:
		c.caughtUp(cached)
	case live.GetDeletionTimestamp() != nil && len(live.GetFinalizers()) == 0:
		c.forget(live.GetUID()) // that was its end
	}
}

// caughtUp forgets our last write to the claim if the cache now has it.
func (c *Controller) caughtUp(cached metav1.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, ahead := c.written[cached.GetUID()]
	if !ahead || w.version == lostAnswer {
		return
	}
	order, err := resourceversion.CompareResourceVersion(cached.GetResourceVersion(), w.version)
	if err != nil || order >= 0 {
		delete(c.written, cached.GetUID())
	}
}
