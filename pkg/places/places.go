package places

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/cache"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
)

// Places is where the driver runs. All methods may be called from several goroutines.
type Places struct {
	driver string
	caches *informers.Set
	told   []func(node string)
	synced []cache.InformerSynced

	mu sync.Mutex
	// byNode is what was last known of each node, count how many nodes are at a place.
	byNode map[string]topology.Node
	count  map[string]int
	// keyless is how many nodes the driver runs on without a topology.
	keyless int
	// terms are the places, sorted, while they are fresh.
	terms []topology.Term
	fresh bool
}

// Watch returns the places as Nodes and CSINodes tell them; those must be among the
// informers, which must not have been started. changed functions are called when
// something about a node has changed that says where it is, from the goroutine of an
// informer.
func Watch(driver string, caches *informers.Set, changed ...func(node string)) (*Places, error) {
	p := &Places{driver: driver, caches: caches, told: changed, byNode: map[string]topology.Node{}, count: map[string]int{}}
	for _, informer := range []cache.SharedIndexInformer{caches.Nodes, caches.CSINodes} {
		registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    p.update,
			UpdateFunc: func(_, obj any) { p.update(obj) },
			DeleteFunc: p.update,
		})
		if err != nil {
			return nil, fmt.Errorf("watching nodes: %w", err)
		}
		p.synced = append(p.synced, registration.HasSynced)
	}
	return p, nil
}

// errEnded: see Wait.
var errEnded = errors.New("ended before all nodes were read")

// Wait returns when everything is known that the informers have read at their start; an
// error if ctx ends before.
func (p *Places) Wait(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), p.synced...) {
		return errEnded
	}
	return nil
}

// Of returns what is known of the node.
func (p *Places) Of(node string) topology.Node {
	n := topology.Node{Name: node}
	if found := p.caches.Node(node); found != nil {
		n.Exists = true
	}
	registered := p.caches.CSINode(node)
	if registered == nil {
		return n
	}
	n.Registered = true
	i := slices.IndexFunc(registered.Spec.Drivers, func(d storagev1.CSINodeDriver) bool { return d.Name == p.driver })
	if i < 0 {
		return n
	}
	n.Runs, n.Keys = true, registered.Spec.Drivers[i].TopologyKeys
	if found := p.caches.Node(node); found != nil {
		n.Place, n.Missing = topology.Place(found.Labels, n.Keys)
	}
	return n
}

// All returns every place where the driver runs, sorted; it is shared and must not be
// changed. Nodes without a place do not count.
func (p *Places) All() []topology.Term {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fresh {
		return p.terms
	}
	seen := make(map[string]bool, len(p.count))
	terms := make([]topology.Term, 0, len(p.count))
	for _, n := range p.byNode {
		if text := n.Place.String(); counts(n) && !seen[text] {
			seen[text] = true
			terms = append(terms, n.Place)
		}
	}
	p.terms, p.fresh = topology.Sorted(terms), true
	return p.terms
}

// Keyless says whether the driver runs on a node without having said where that is: it
// has no topology keys there.
func (p *Places) Keyless() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keyless > 0
}

func keyless(n topology.Node) bool { return n.Exists && n.Runs && len(n.Keys) == 0 }

// counts says whether the node is a place of the driver.
func counts(n topology.Node) bool { return n.Exists && n.Runs && n.Place.Len() > 0 }

// update notes what has become of the node that a Node or CSINode is about.
func (p *Places) update(obj any) {
	if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = last.Obj
	}
	object, err := meta.Accessor(obj)
	if err != nil {
		return
	}
	name := object.GetName()
	if !p.note(name) {
		return
	}
	for _, tell := range p.told {
		tell(name)
	}
}

// note compares what is known of the node with what is in the caches, and says whether
// that is something else.
func (p *Places) note(name string) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.Of(name)
	before, known := p.byNode[name]
	if known && same(before, now) {
		return false
	}
	if now.Exists || now.Registered {
		p.byNode[name] = now
	} else {
		delete(p.byNode, name)
	}
	if known && counts(before) {
		p.add(before.Place, -1)
	}
	if counts(now) {
		p.add(now.Place, 1)
	}
	if known && keyless(before) {
		p.keyless--
	}
	if keyless(now) {
		p.keyless++
	}
	return true
}

func same(a, b topology.Node) bool {
	return a.Exists == b.Exists && a.Registered == b.Registered && a.Runs == b.Runs &&
		a.Missing == b.Missing && slices.Equal(a.Keys, b.Keys) && a.Place.Is(b.Place)
}

// add counts a node at a place: the list of places changes with the first and the last.
func (p *Places) add(place topology.Term, nodes int) {
	text := place.String()
	p.count[text] += nodes
	switch {
	case p.count[text] == 0:
		delete(p.count, text)
		p.fresh = false
	case p.count[text] == 1 && nodes > 0:
		p.fresh = false
	}
}
