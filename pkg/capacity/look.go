package capacity

import (
	"context"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/klog/v2"
)

// look brings the objects of one pair to where they should be. The queue sees to it that
// nobody else is at the same pair.
func (c *Controller) look(ctx context.Context, pair Pair) error {
	c.mu.Lock()
	part, wanted := c.wanted[pair]
	c.mu.Unlock()
	objects, unseen := c.all(pair)
	if !wanted {
		return c.remove(ctx, pair, objects)
	}
	class := c.Caches.Class(pair.Class)
	if class == nil {
		return nil // the next plan is without it
	}
	object, more := Choose(objects)
	if err := c.remove(ctx, pair, more); err != nil {
		return err
	}
	room, asked, err := c.roomFor(ctx, pair, part, class)
	if err != nil {
		return err
	}
	if object == nil {
		return c.create(ctx, pair, part, room)
	}
	return c.update(ctx, pair, object, room, asked && unseen)
}

// all returns the objects of a pair: those of the cache, and as far as we know better
// what we have written since. unseen says that the cache has not shown one that we have
// made.
func (c *Controller) all(pair Pair) (objects []*storagev1.CSIStorageCapacity, unseen bool) {
	objects = c.objects.About(indexed(pair))
	c.mu.Lock()
	defer c.mu.Unlock()
	ours := c.written[pair]
	if ours == nil {
		return objects, false
	}
	for i, object := range objects {
		if object.UID == ours.UID {
			if older(object, ours) {
				objects[i] = ours
			} else {
				delete(c.written, pair)
			}
			return objects, false
		}
	}
	return append(objects, ours), true
}

// older says whether a is an older version than b of the same object.
func older(a, b *storagev1.CSIStorageCapacity) bool {
	order, err := resourceversion.CompareResourceVersion(a.ResourceVersion, b.ResourceVersion)
	return err == nil && order < 0
}

// seen has the pair of an object looked at that has changed, or is gone; unless it was
// our own doing.
func (c *Controller) seen(obj any, gone bool) {
	object, ok := obj.(*storagev1.CSIStorageCapacity)
	if !ok {
		return
	}
	pair := Of(object)
	c.mu.Lock()
	defer c.mu.Unlock()
	if ours := c.written[pair]; ours != nil && ours.UID == object.UID {
		if !gone && older(object, ours) {
			return
		}
		delete(c.written, pair)
		if !gone && object.ResourceVersion == ours.ResourceVersion {
			return
		}
	}
	c.queue.Add(item{pair: pair})
}

// roomFor returns what the driver says of a pair, or has said if it need not be asked
// again.
func (c *Controller) roomFor(ctx context.Context, pair Pair, part Part, class *storagev1.StorageClass) (room Room, asked bool, err error) {
	c.mu.Lock()
	room, known := c.room[pair]
	due := c.due[pair]
	delete(c.due, pair)
	c.mu.Unlock()
	if known && !due {
		return room, false, nil
	}
	resp, err := c.Driver.GetCapacity(ctx, &csi.GetCapacityRequest{Parameters: Parameters(class), AccessibleTopology: part.Segment.CSI()})
	if err == nil {
		room, err = RoomOf(resp)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, still := c.wanted[pair]; !still {
		return room, true, err
	}
	if err != nil {
		c.due[pair] = true
		return Room{}, true, fmt.Errorf("asking driver %q for its capacity (GetCapacity): %w", c.DriverName, err)
	}
	c.room[pair] = room
	return room, true, nil
}

func (c *Controller) create(ctx context.Context, pair Pair, part Part, room Room) error {
	made, err := c.Client.StorageV1().CSIStorageCapacities(c.Namespace).Create(ctx, New(c.mark, pair.Class, part.Segment, room), metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating a CSIStorageCapacity in namespace %q: %w", c.Namespace, err)
	}
	c.wrote(pair, made)
	klog.FromContext(ctx).V(2).Info("Capacity published", "object", klog.KObj(made), "class", pair.Class, "segment", pair.Segment, "capacity", made.Capacity)
	return nil
}

// update brings one object up to date, if it is not. Whatever version it has in the API,
// the one that is judged is the one that is written to: after a conflict the live one is.
// live says that the object is to be read in any case.
func (c *Controller) update(ctx context.Context, pair Pair, object *storagev1.CSIStorageCapacity, room Room, live bool) error {
	api := c.Client.StorageV1().CSIStorageCapacities(c.Namespace)
	for again := false; ; again = true {
		if live || again {
			read, err := api.Get(ctx, object.Name, metav1.GetOptions{})
			switch {
			case apierrors.IsNotFound(err) || err == nil && !c.mark.Marks(read):
				c.lost(pair)
				return nil
			case err != nil:
				return fmt.Errorf("reading CSIStorageCapacity %s/%s: %w", object.Namespace, object.Name, err)
			}
			object = read
		}
		changed := Changed(c.mark, object, room)
		if changed == nil {
			return nil
		}
		after, err := api.Update(ctx, changed, metav1.UpdateOptions{})
		switch {
		case err == nil:
			c.wrote(pair, after)
			klog.FromContext(ctx).V(4).Info("Published capacity changed", "object", klog.KObj(after), "class", pair.Class, "segment", pair.Segment, "capacity", after.Capacity)
			return nil
		case apierrors.IsNotFound(err):
			c.lost(pair)
			return nil
		case apierrors.IsConflict(err) && !again:
		default:
			return fmt.Errorf("updating CSIStorageCapacity %s/%s: %w", object.Namespace, object.Name, err)
		}
	}
}

// wrote remembers an object as we have written it.
func (c *Controller) wrote(pair Pair, object *storagev1.CSIStorageCapacity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written[pair] = object
}

// lost has the pair looked at again, whose object is gone, or not ours any more. The cache
// may take a moment to learn that.
func (c *Controller) lost(pair Pair) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.written, pair)
	c.queue.AddAfter(item{pair: pair}, c.RetryStart)
}

// remove deletes objects, and nothing else that may have their names by now.
func (c *Controller) remove(ctx context.Context, pair Pair, objects []*storagev1.CSIStorageCapacity) error {
	for _, object := range objects {
		err := c.Client.StorageV1().CSIStorageCapacities(c.Namespace).Delete(ctx, object.Name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &object.UID},
		})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("deleting CSIStorageCapacity %s/%s, which is about nothing that there is, or one too many: %w", object.Namespace, object.Name, err)
		}
		c.mu.Lock()
		if ours := c.written[pair]; ours != nil && ours.UID == object.UID {
			delete(c.written, pair)
		}
		c.mu.Unlock()
		klog.FromContext(ctx).V(2).Info("Published capacity removed", "object", klog.KObj(object), "class", pair.Class, "segment", pair.Segment)
	}
	return nil
}
