package station

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/node"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
)

// patience is how long a condition may take; each takes a second or less.
const patience = 3 * time.Minute

// awaitDriver waits until the kubelet has told the API server of the driver: pods with
// volumes of it may be scheduled then.
func (s *Station) awaitDriver(ctx context.Context) error {
	return s.await(ctx, nil, "the driver is registered with the kubelet", func(ctx context.Context) error {
		live, err := s.Client.StorageV1().CSINodes().Get(ctx, node.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, driver := range live.Spec.Drivers {
			if driver.Name == DriverName {
				return nil
			}
		}
		return fmt.Errorf("node %s has %d drivers", node.Name, len(live.Spec.Drivers))
	})
}

// await waits until check returns nil. It gives up at once if the process, which may be
// nil, ends.
func (s *Station) await(ctx context.Context, p *process.Process, what string, check func(context.Context) error) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := process.Await(ctx, p, what, check); err != nil {
		return err
	}
	s.opts.Log("%s after %.1f s", what, time.Since(began).Seconds())
	return nil
}
