package topology

import (
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"k8s.io/apimachinery/pkg/util/validation"
)

// mostPinned is how many places are pinned: more than any cluster has zones, and with a
// place for each node the beginning is what a driver looks at.
const mostPinned = 8

// andMore ends the text of a requirement that has more places than are pinned.
const andMore = "..."

// Pinned is how the requirement of an earlier request began.
type Pinned struct {
	// Preferred terms, in order.
	Preferred []Term
	// Whole: these were all.
	Whole bool
}

// Format writes the beginning of the requirement as text, for the record on the claim;
// "" for none, and for one that cannot be written (CSI spec: segments are made of what
// Kubernetes allows in labels).
func Format(r *csi.TopologyRequirement) string {
	preferred := r.GetPreferred()
	var texts []string
	for _, topology := range preferred[:min(mostPinned, len(preferred))] {
		texts = append(texts, TermOf(topology.GetSegments()).String())
	}
	if len(preferred) > mostPinned {
		texts = append(texts, andMore)
	}
	text := strings.Join(texts, ";")
	if len(texts) > 0 && len(Parse(text).Preferred) == 0 {
		return ""
	}
	return text
}

// Parse is the inverse of Format: nothing for what that does not return.
func Parse(text string) Pinned {
	if text == "" {
		return Pinned{}
	}
	texts := strings.Split(text, ";")
	whole := true
	if texts[len(texts)-1] == andMore {
		texts, whole = texts[:len(texts)-1], false
	}
	if len(texts) == 0 || len(texts) > mostPinned {
		return Pinned{}
	}
	p := Pinned{Whole: whole}
	for _, t := range texts {
		segments := map[string]string{}
		for pair := range strings.SplitSeq(t, ",") {
			key, value, found := strings.Cut(pair, "=")
			if !found || len(validation.IsQualifiedName(key)) > 0 || len(validation.IsValidLabelValue(value)) > 0 {
				return Pinned{}
			}
			segments[key] = value
		}
		term := TermOf(segments)
		if term.String() != t {
			return Pinned{}
		}
		p.Preferred = append(p.Preferred, term)
	}
	return p
}

// requirement returns the pinned requirement, nil if there is none, or if it asks for what
// the class does not allow: users can write the record. What was not pinned of it is what
// there is today.
func (p Pinned) requirement(f Facts) *csi.TopologyRequirement {
	if len(p.Preferred) == 0 {
		return nil
	}
	if len(f.Allowed) > 0 {
		for _, t := range p.Preferred {
			if !slices.ContainsFunc(f.Allowed, func(allowed Term) bool { return allowed.In(t) }) {
				return nil
			}
		}
	}
	preferred := slices.Clone(p.Preferred)
	if !p.Whole {
		today := f.Allowed
		if len(today) == 0 {
			today = f.Cluster
		}
		known := func(t Term) bool {
			return slices.ContainsFunc(p.Preferred, t.Is)
		}
		for _, t := range today {
			if !known(t) {
				preferred = append(preferred, t)
			}
		}
	}
	return requirement(Sorted(slices.Clone(preferred)), preferred)
}
