package topology

import (
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

// Node is what is known of a node.
type Node struct {
	// Name of the node; empty for no node at all.
	Name string
	// Exists: there is a Node, and Registered: there is a CSINode, of that name.
	Exists, Registered bool
	// Keys of the driver's topology there, and Runs: the driver is registered there.
	Keys []string
	Runs bool
	// Place of the node; none if a key is missing among its labels.
	Place Term
	// Missing is the first such key.
	Missing string
}

// Facts are what Require asks for.
type Facts struct {
	// Driver and Class are names, for messages; Claim is the name of the claim, by which
	// the first place is chosen.
	Driver, Class, Claim string
	// Selected node, empty without one.
	Selected Node
	// Allowed terms of the class; none if it says nothing.
	Allowed []Term
	// Strict: --strict-topology; Immediate: --immediate-topology.
	Strict, Immediate bool
	// Cluster is every place where the driver runs, sorted.
	Cluster []Term
	// Source is from where the source of a clone can be reached; nil for everywhere, and
	// for what is no clone.
	Source []Term
	// MayExist: an earlier request may have made something, so the driver must be asked
	// whatever has become of the nodes, and Pinned is how that request began.
	MayExist bool
	Pinned   Pinned
}

// Require returns from where the volume shall be reachable; nil for no requirement. The
// verdict is Wait while a place is not known yet, and Elsewhere if the selected node
// cannot be served: then the scheduler has to choose again.
//
// Rule: spec of the incumbent, topology, result table; CSI spec, TopologyRequirement.
func Require(f Facts) (*csi.TopologyRequirement, verdict.Verdict) {
	if f.MayExist {
		if again := f.Pinned.requirement(f); again != nil {
			return again, verdict.Verdict{}
		}
	}
	if f.Selected.Name == "" {
		return f.anywhere()
	}
	if v := f.judgeNode(); !v.Ready() {
		if f.MayExist {
			return f.anywhere() // it is to be found out what exists, and there is no better place to ask for
		}
		return nil, v
	}
	here := f.Selected.Place
	serves := func(t Term) bool { return t.In(here) }
	if len(f.Allowed) > 0 && !slices.ContainsFunc(f.Allowed, serves) {
		return nil, verdict.GivenBack(verdict.NodeNotAllowed,
			"node %q is at %s, where StorageClass %q allows no volume; the claim is given back to the scheduler", f.Selected.Name, here, f.Class)
	}
	if f.Strict {
		return requirement([]Term{here}, []Term{here}), verdict.Verdict{}
	}
	if len(f.Allowed) > 0 {
		return requirement(f.Allowed, rotated(f.Allowed, slices.IndexFunc(f.Allowed, serves))), verdict.Verdict{}
	}
	requisite, first := f.Cluster, slices.IndexFunc(f.Cluster, here.Is)
	if first < 0 { // the driver came to the node a moment ago
		requisite = Sorted(append(slices.Clone(requisite), here))
		first = slices.IndexFunc(requisite, here.Is)
	}
	return requirement(requisite, rotated(requisite, first)), verdict.Verdict{}
}

// judgeNode says whether the place of the selected node is known.
func (f Facts) judgeNode() verdict.Verdict {
	n := f.Selected
	switch {
	case !n.Exists || !n.Registered:
		kind := "Node"
		if n.Exists {
			kind = "CSINode"
		}
		return verdict.GivenBack(verdict.NodeNotFound,
			"the scheduler has chosen node %q for this claim, which is gone (there is no %s object of that name); the claim is given back to the scheduler", n.Name, kind)
	case !n.Runs:
		return verdict.Waiting(verdict.NodeWithoutDriver,
			"the claim waits for driver %q on node %q, which the scheduler has chosen: CSINode %q does not list it; see why the driver's node plugin does not run there", f.Driver, n.Name, n.Name)
	case len(n.Keys) == 0:
		return verdict.Waiting(verdict.NodeWithoutTopology,
			"driver %q has topology but tells no place of node %q, which the scheduler has chosen (no topologyKeys in CSINode %q); see what its node plugin answers to NodeGetInfo", f.Driver, n.Name, n.Name)
	case n.Missing != "":
		return verdict.Waiting(verdict.NodeWithoutTopology,
			"the claim waits for label %q on node %q, which the scheduler has chosen and driver %q needs to know the place of; the kubelet sets it when the driver registers there", n.Missing, n.Name, f.Driver)
	}
	return verdict.Verdict{}
}

// anywhere is Require without a selected node.
func (f Facts) anywhere() (*csi.TopologyRequirement, verdict.Verdict) {
	requisite := f.Allowed
	if len(requisite) == 0 {
		if !f.Immediate {
			return nil, verdict.Verdict{}
		}
		requisite = f.Cluster
	}
	if len(requisite) == 0 {
		if f.MayExist {
			return nil, verdict.Verdict{}
		}
		return nil, verdict.Waiting(verdict.NoTopology,
			"the claim waits for a node from which driver %q can be used: no CSINode lists it with topologyKeys that its node has as labels; see whether the driver's node plugin runs", f.Driver)
	}
	return requirement(requisite, f.nearSource(rotated(requisite, start(f.Claim, len(requisite))))), verdict.Verdict{}
}

// nearSource puts those terms first, in their order, from which the source of a clone can
// be reached.
func (f Facts) nearSource(terms []Term) []Term {
	if len(f.Source) == 0 {
		return terms
	}
	near := func(t Term) bool {
		return slices.ContainsFunc(f.Source, func(source Term) bool { return source.In(t) || t.In(source) })
	}
	first, rest := make([]Term, 0, len(terms)), make([]Term, 0, len(terms))
	for _, t := range terms {
		if near(t) {
			first = append(first, t)
		} else {
			rest = append(rest, t)
		}
	}
	return append(first, rest...)
}

// Reaches says whether a volume can be used at the place; nil terms are everywhere.
func Reaches(volume []Term, place Term) bool {
	return len(volume) == 0 || slices.ContainsFunc(volume, func(t Term) bool { return t.In(place) })
}

// rotated returns the terms from first on, then those before it.
func rotated(terms []Term, first int) []Term {
	return append(slices.Clone(terms[first:]), terms[:first]...)
}

// requirement does not copy what a term says: with a place for each node that would be
// thousands of them for each claim.
func requirement(requisite, preferred []Term) *csi.TopologyRequirement {
	return &csi.TopologyRequirement{Requisite: all(requisite), Preferred: all(preferred)}
}

func all(terms []Term) []*csi.Topology {
	list := make([]*csi.Topology, len(terms))
	for i, t := range terms {
		list[i] = t.CSI()
	}
	return list
}

// start says with which of count terms a claim without a selected node begins: claims of
// the replicas of a StatefulSet go round, and the different claims of one replica get the
// same place. It depends on the name alone, so that every attempt gets the same.
//
// Rule: spec of the incumbent, topology, name hash.
func start(claim string, count int) int {
	text, index := claim, uint32(0)
	if last := strings.LastIndexByte(claim, '-'); last >= 0 {
		if number, err := strconv.ParseUint(claim[last+1:], 10, 32); err == nil {
			index, text = uint32(number), claim[:last]
			text = text[strings.LastIndexByte(text, '-')+1:]
		}
	}
	hash := fnv.New32()
	hash.Write([]byte(text))
	return int((hash.Sum32() + index) % uint32(count)) //nolint:gosec // a count of nodes
}
