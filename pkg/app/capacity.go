package app

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/capacity"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/options"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/places"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
)

// capacityClient returns the client for CSIStorageCapacity objects alone, nil if none are
// published. Its limit is no one else's: neither claims nor the lease wait for it (F-5).
func capacityClient(config *rest.Config, c options.Capacity) (kubernetes.Interface, error) {
	if !c.Enabled {
		return nil, nil
	}
	own := rest.CopyConfig(config)
	own.QPS, own.Burst, own.RateLimiter = float32(c.QPS), c.Burst, nil
	if c.QPS == 0 {
		own.QPS = -1
	}
	client, err := kubernetes.NewForConfig(own)
	if err != nil {
		return nil, fmt.Errorf("making a client for CSIStorageCapacity objects: %w", err)
	}
	return client, nil
}

// publish makes the controller that publishes capacity, if that is asked for. There is no
// test of the API: storage.k8s.io/v1 has had the objects since Kubernetes 1.24. What RBAC
// or the API server refuses is tried again, and nothing else waits for it (C-9).
func (h *house) publish(ctx context.Context, o *options.Options, clients clients, p parts) error {
	if !o.Capacity.Enabled {
		return nil
	}
	rule := right{"storage.k8s.io", "csistoragecapacities", []string{"get", "list", "watch", "create", "update", "delete"},
		"no capacity is published before it is granted, in namespace " + o.Capacity.Namespace}
	if verb := missingIn(ctx, clients.typed, o.Capacity.Namespace, rule); verb != "" {
		rule.tell(ctx, verb)
	}
	config := capacity.Config{
		Driver: h.driver, DriverName: h.driver.Name, Able: h.driver.CanTellCapacity(),
		Client: clients.capacity, Caches: h.caches, Segments: h.segments(),
		Namespace: o.Capacity.Namespace, ManagedBy: capacity.ManagedBy(o.NodeDeployment.Node), Immediate: o.Capacity.Immediate,
		PollEvery: o.Capacity.PollInterval, Workers: o.Capacity.Threads,
		RetryStart: o.RetryIntervalStart, RetryMax: o.RetryIntervalMax, Clock: clock.RealClock{},
	}
	if o.Capacity.OwnerRefLevel >= 0 {
		config.Owner = func(ctx context.Context) (*metav1.OwnerReference, error) {
			return capacity.Owner(ctx, getOwner(clients, o.Capacity.Namespace), o.Capacity.PodName, o.Capacity.OwnerRefLevel)
		}
	}
	var err error
	if h.capacity, err = capacity.NewController(config); err != nil {
		return err
	}
	p.registry.MustRegister(observe.CapacityGauges(h.capacity.Figures)...)
	return nil
}

// volumesChanged tells that there is more, or less, room; see provision.Config.
func (h *house) volumesChanged(class string, terms []topology.Term) {
	if h.capacity != nil {
		h.capacity.Changed(class, terms)
	}
}

// segments returns the places that capacity is published for: everywhere as one, if the
// driver has no topology, or that does not count.
func (h *house) segments() capacity.Segments {
	switch {
	case h.local != nil && h.local.Here.Segments != nil: // the driver's own node, and no other
		return places.At(h.local.Here.Node, h.local.Here.Segments)
	case h.places == nil:
		return capacity.Everywhere()
	}
	return placed{h.places}
}

// placed are the places where the driver runs. While it runs somewhere, and nowhere says
// where that is (nodes without topology keys), they are one: everywhere.
type placed struct{ *places.Places }

// All implements capacity.Segments.
func (p placed) All() []topology.Term {
	terms := p.Places.All()
	if len(terms) == 0 && p.Keyless() {
		return capacity.Everywhere().All()
	}
	return terms
}

// getOwner returns a function that reads pods and what may own them. How a kind is called
// in URLs is asked of the API server.
func getOwner(clients clients, namespace string) capacity.Get {
	return func(ctx context.Context, reference metav1.OwnerReference) (metav1.Object, error) {
		group, err := schema.ParseGroupVersion(reference.APIVersion)
		if err != nil {
			return nil, err
		}
		if reference.Kind == "Pod" && group.Group == "" {
			return clients.typed.CoreV1().Pods(namespace).Get(ctx, reference.Name, metav1.GetOptions{})
		}
		list, err := clients.typed.Discovery().ServerResourcesForGroupVersion(reference.APIVersion)
		if err != nil {
			return nil, fmt.Errorf("asking for the kinds of %s: %w", reference.APIVersion, err)
		}
		// Subresources have a kind, too, and a slash in their names.
		i := slices.IndexFunc(list.APIResources, func(r metav1.APIResource) bool {
			return r.Kind == reference.Kind && !strings.Contains(r.Name, "/")
		})
		if i < 0 {
			return nil, fmt.Errorf("the API server has no %s in %s", reference.Kind, reference.APIVersion)
		}
		resources := clients.dynamic.Resource(group.WithResource(list.APIResources[i].Name))
		if !list.APIResources[i].Namespaced {
			return resources.Get(ctx, reference.Name, metav1.GetOptions{})
		}
		return resources.Namespace(namespace).Get(ctx, reference.Name, metav1.GetOptions{})
	}
}
