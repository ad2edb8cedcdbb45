package topology

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
)

// Pair is one segment: a key of the driver's topology and its value.
type Pair struct{ Key, Value string }

// Term is a place: pairs, sorted by key. The zero value is no place. It is never changed,
// and neither is what CSI returns: with a place for each node thousands of requests share
// thousands of them.
type Term struct {
	pairs []Pair
	csi   *csi.Topology
}

// TermOf returns the term of the pairs, which are its own from then on.
func TermOf(segments map[string]string) Term {
	term := Term{pairs: make([]Pair, 0, len(segments)), csi: &csi.Topology{Segments: segments}}
	for _, key := range slices.Sorted(maps.Keys(segments)) {
		term.pairs = append(term.pairs, Pair{key, segments[key]})
	}
	return term
}

// Place returns the term of a node: the values of the keys among its labels. missing is
// the first key, in their order, that the node lacks; then there is no term.
func Place(labels map[string]string, keys []string) (term Term, missing string) {
	segments := make(map[string]string, len(keys))
	for _, key := range keys {
		value, found := labels[key]
		if !found {
			return Term{}, key
		}
		segments[key] = value
	}
	return TermOf(segments), ""
}

// In says whether every pair of the term is one of the other's: whoever is there is
// here, too.
func (t Term) In(other Term) bool {
	for _, pair := range t.pairs {
		if !slices.Contains(other.pairs, pair) {
			return false
		}
	}
	return true
}

// Is says whether both are the same place.
func (t Term) Is(other Term) bool { return slices.Equal(t.pairs, other.pairs) }

// CSI returns the term as the driver is told it; nil for no place.
func (t Term) CSI() *csi.Topology { return t.csi }

// Len returns the number of pairs.
func (t Term) Len() int { return len(t.pairs) }

// String returns the term as people read it.
func (t Term) String() string {
	pairs := make([]string, 0, len(t.pairs))
	for _, pair := range t.pairs {
		pairs = append(pairs, pair.Key+"="+pair.Value)
	}
	return strings.Join(pairs, ",")
}

// List returns the terms as people read them.
func List(terms []Term) string {
	texts := make([]string, 0, len(terms))
	for _, t := range terms {
		texts = append(texts, t.String())
	}
	return strings.Join(texts, " or ")
}

// Compare orders terms by their number of pairs, then pair by pair.
//
// Rule: spec of the incumbent, topology, order of the requisite terms.
func Compare(a, b Term) int {
	if order := cmp.Compare(len(a.pairs), len(b.pairs)); order != 0 {
		return order
	}
	return slices.CompareFunc(a.pairs, b.pairs, func(x, y Pair) int {
		return cmp.Or(strings.Compare(x.Key, y.Key), strings.Compare(x.Value, y.Value))
	})
}

// Sorted sorts the terms in place and merges equal ones.
func Sorted(terms []Term) []Term {
	slices.SortFunc(terms, Compare)
	return slices.CompactFunc(terms, Term.Is)
}

// Allowed returns the terms that a StorageClass allows: its entries are alternatives,
// the keys within one hold together, and so do not the values of a key. No terms mean
// that nothing is said.
//
// Rule: Kubernetes, StorageClass, allowedTopologies.
func Allowed(entries []v1.TopologySelectorTerm) []Term {
	var all []Term
	for _, entry := range entries {
		if len(entry.MatchLabelExpressions) == 0 {
			continue
		}
		combined := []map[string]string{{}}
		for _, expression := range entry.MatchLabelExpressions {
			var next []map[string]string
			for _, segments := range combined {
				for _, value := range expression.Values {
					if other, found := segments[expression.Key]; found && other != value {
						continue // of one key there is one value in one place
					}
					more := maps.Clone(segments)
					more[expression.Key] = value
					next = append(next, more)
				}
			}
			combined = next
		}
		for _, segments := range combined {
			all = append(all, TermOf(segments))
		}
	}
	return Sorted(all)
}

// Affinity returns where the volume can be used, from what the driver says of it; nil for
// everywhere. A topology without segments says nothing.
//
// Rule: CSI spec, Volume.accessible_topology: one of its topologies is enough.
func Affinity(accessible []*csi.Topology) *v1.VolumeNodeAffinity {
	var terms []v1.NodeSelectorTerm
	for _, topology := range accessible {
		var pairs []v1.NodeSelectorRequirement
		for _, pair := range TermOf(topology.GetSegments()).pairs {
			pairs = append(pairs, v1.NodeSelectorRequirement{Key: pair.Key, Operator: v1.NodeSelectorOpIn, Values: []string{pair.Value}})
		}
		if len(pairs) > 0 {
			terms = append(terms, v1.NodeSelectorTerm{MatchExpressions: pairs})
		}
	}
	if len(terms) == 0 {
		return nil
	}
	return &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: terms}}
}

// Of returns the terms of a PV's node affinity, as far as they say "key in values" and
// nothing else; nil if it can be used everywhere, or says something else.
func Of(pv *v1.PersistentVolume) []Term {
	if pv == nil || pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
		return nil
	}
	var entries []v1.TopologySelectorTerm
	for _, term := range pv.Spec.NodeAffinity.Required.NodeSelectorTerms {
		if len(term.MatchFields) > 0 {
			return nil
		}
		var entry v1.TopologySelectorTerm
		for _, expression := range term.MatchExpressions {
			if expression.Operator != v1.NodeSelectorOpIn {
				return nil
			}
			entry.MatchLabelExpressions = append(entry.MatchLabelExpressions, v1.TopologySelectorLabelRequirement{Key: expression.Key, Values: expression.Values})
		}
		entries = append(entries, entry)
	}
	return Allowed(entries)
}
