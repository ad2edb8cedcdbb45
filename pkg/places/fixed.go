package places

import (
	"slices"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
)

// Fixed is the one place of a node whose driver has told it: nothing is watched.
type Fixed struct {
	node topology.Node
	all  []topology.Term
}

// At returns the place of the node, which is of the segments that its driver has told.
func At(node string, segments map[string]string) Fixed {
	place := topology.TermOf(segments)
	f := Fixed{node: topology.Node{Name: node, Exists: true, Registered: true, Runs: true, Place: place}}
	for key := range segments {
		f.node.Keys = append(f.node.Keys, key)
	}
	slices.Sort(f.node.Keys)
	if place.Len() > 0 {
		f.all = []topology.Term{place}
	}
	return f
}

// Of returns what is known of the node: nothing, if it is another one.
func (f Fixed) Of(node string) topology.Node {
	if node != f.node.Name {
		return topology.Node{Name: node}
	}
	return f.node
}

// All returns the place of the node; it is shared.
func (f Fixed) All() []topology.Term { return f.all }
