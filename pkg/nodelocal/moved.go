package nodelocal

import (
	"context"
	"fmt"
	"maps"
	"time"

	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
)

// askEvery is how often the driver is asked whether its node is where it was.
const askEvery = time.Minute

// RunMoved asks the driver for the segments of its node again and again. It returns an error
// when they have changed, or nil when ctx ends: what was decided with the old ones is best
// forgotten by a new start.
func (c *Controller) RunMoved(ctx context.Context, ask func(context.Context) (map[string]string, error)) error {
	ticker := c.Clock.NewTicker(askEvery)
	defer ticker.Stop()
	return c.moved(ctx, ticker.C(), ask)
}

// moved is RunMoved, which asks at each tick.
func (c *Controller) moved(ctx context.Context, ticks <-chan time.Time, ask func(context.Context) (map[string]string, error)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks:
		}
		segments, err := ask(ctx)
		switch {
		case err != nil:
			klog.FromContext(ctx).V(2).Info("The topology of the node is not known anew", "err", err)
		case !maps.Equal(segments, c.Here.Segments):
			return fmt.Errorf("the topology of node %q, as driver %q tells it, has changed from %q to %q; exiting so that it is read anew",
				c.Here.Node, c.Driver, topology.TermOf(maps.Clone(c.Here.Segments)), topology.TermOf(segments))
		}
	}
}
