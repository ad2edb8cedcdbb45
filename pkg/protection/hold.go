package protection

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Hold protects the source for the claim, and keeps it protected until Unhold:
// longer than the record takes to show up in the caches, so that a removal
// cannot slip in between. An error means that the source is not protected; the
// hold is then off.
func (c *Controller) Hold(ctx context.Context, claim types.UID, source *v1.PersistentVolumeClaim) error {
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
	}
}

func (c *Controller) count(claim types.UID, source *v1.PersistentVolumeClaim) {
	c.mu.Lock()
	before, held := c.heldBy[claim]
	c.mu.Unlock()
	if held && before.uid != source.UID {
		c.Unhold(claim)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heldBy[claim] = heldSource{source.UID, source.Namespace, source.Name}
	if c.holds[source.UID] == nil {
		c.holds[source.UID] = map[types.UID]struct{}{}
	}
	c.holds[source.UID][claim] = struct{}{}
}

func (c *Controller) held(source types.UID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.holds[source]) > 0
}

// protect puts the finalizer on the source unless it is there.
func (c *Controller) protect(ctx context.Context, source *v1.PersistentVolumeClaim) error {
	c.locks.LockKey(string(source.UID))
	defer c.unlock(source.UID)
	if present, known := c.present(source); known && present {
		return nil
	}
	return c.write(ctx, source, true)
}

// release takes the finalizer off the source if nobody needs it; the look is
// taken under the lock, so that no Hold comes between look and write.
func (c *Controller) release(ctx context.Context, source *v1.PersistentVolumeClaim) error {
	c.locks.LockKey(string(source.UID))
	defer c.unlock(source.UID)
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
func (c *Controller) write(ctx context.Context, source *v1.PersistentVolumeClaim, present bool) error {
	patch, err := record.Protect(source, wellknown.CloningProtection, present)
	if err != nil {
		return err
	}
	live, err := c.Writer.Patch(ctx, source, patch)
	if err != nil {
		if !refused(err) {
			c.lost(source)
		}
		return ignoreGone(err, source, present)
	}
	c.wrote(live, present)
	klog.FromContext(ctx).V(2).Info("Source protection changed", "source", klog.KObj(source), "protected", present)
	return nil
}

// refused says whether the API server turned the write down for certain; every
// other error may come after it took effect.
func refused(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsConflict(err)
}

// ignoreGone: a source that is gone needs no protection taken off.
func ignoreGone(err error, source *v1.PersistentVolumeClaim, present bool) error {
	if apierrors.IsNotFound(err) && !present {
		return nil
	}
	what := "taking the cloning protection off"
	if present {
		what = "putting the cloning protection on"
	}
	return fmt.Errorf("%s source PVC %q: %w", what, source.Name, err)
}

// present says whether the source carries the finalizer: what we wrote last,
// until the cache has caught up with it; then what the cache says. It is not
// known after a write whose answer was lost.
func (c *Controller) present(source *v1.PersistentVolumeClaim) (present, known bool) {
	c.mu.Lock()
	w, ahead := c.written[source.UID]
	c.mu.Unlock()
	if ahead {
		return w.present, w.version != lostAnswer
	}
	cached := c.Caches.Claim(source.Namespace, source.Name)
	return cached != nil && cached.UID == source.UID && protected(cached), true
}

// lost notes that a write got no answer.
func (c *Controller) lost(source *v1.PersistentVolumeClaim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written[source.UID] = write{version: lostAnswer}
}

func (c *Controller) wrote(live *v1.PersistentVolumeClaim, present bool) {
	c.mu.Lock()
	c.written[live.UID] = write{present: present, version: live.ResourceVersion}
	c.mu.Unlock()
	// The watch may have been faster than the reply.
	cached := c.Caches.Claim(live.Namespace, live.Name)
	switch gone := cached == nil || cached.UID != live.UID; {
	case !gone:
		c.caughtUp(cached)
	case live.DeletionTimestamp != nil && len(live.Finalizers) == 0:
		c.forget(live.UID) // that was its end
	}
}

// caughtUp forgets our last write to the claim if the cache now has it.
func (c *Controller) caughtUp(cached *v1.PersistentVolumeClaim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, ahead := c.written[cached.UID]
	if !ahead || w.version == lostAnswer {
		return
	}
	order, err := resourceversion.CompareResourceVersion(cached.ResourceVersion, w.version)
	if err != nil || order >= 0 {
		delete(c.written, cached.UID)
	}
}
