package topology_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

// What Require makes of nodes, classes and flags is in test/cases/testdata/topology.txt.

// terms reads "zone=a,rack=1;zone=b".
func terms(text string) []topology.Term {
	var list []topology.Term
	for t := range strings.SplitSeq(text, ";") {
		if t != "" {
			list = append(list, term(t))
		}
	}
	return list
}

func term(text string) topology.Term {
	segments := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(pair, "=")
		segments[key] = value
	}
	return topology.TermOf(segments)
}

// written is the other way round.
func written(list []topology.Term) string {
	var texts []string
	for _, t := range list {
		texts = append(texts, t.String())
	}
	return strings.Join(texts, ";")
}

// entries reads "zone=a|b,rack=1;zone=c": an entry for each part, alternatives with a bar.
func entries(text string) []v1.TopologySelectorTerm {
	var list []v1.TopologySelectorTerm
	for part := range strings.SplitSeq(text, ";") {
		var entry v1.TopologySelectorTerm
		for pair := range strings.SplitSeq(part, ",") {
			if key, values, found := strings.Cut(pair, "="); found {
				var list []string
				if values != "" {
					list = strings.Split(values, "|")
				}
				entry.MatchLabelExpressions = append(entry.MatchLabelExpressions, v1.TopologySelectorLabelRequirement{Key: key, Values: list})
			}
		}
		list = append(list, entry)
	}
	return list
}

func TestAllowed(t *testing.T) {
	for _, c := range []struct{ name, class, want string }{
		{"no entries", "", ""},
		{"one place", "zone=a", "zone=a"},
		{"values are alternatives, and sorted", "zone=b|a", "zone=a;zone=b"},
		{"keys hold together", "zone=a|b,rack=1|2", "rack=1,zone=a;rack=1,zone=b;rack=2,zone=a;rack=2,zone=b"},
		{"entries are alternatives, narrower ones last", "rack=2,zone=a;zone=b", "zone=b;rack=2,zone=a"},
		{"equal ones are merged", "zone=a|b;zone=b|a", "zone=a;zone=b"},
		{"wider ones stay", "zone=a;rack=1,zone=a", "zone=a;rack=1,zone=a"},
		{"an empty entry says nothing", ";zone=a", "zone=a"},
		{"a key without values is nowhere", "zone=", ""},
		{"a key twice holds together, too", "zone=a|b,zone=b|c", "zone=b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := written(topology.Allowed(entries(c.class))); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestPlace(t *testing.T) {
	labels := map[string]string{"zone": "a", "rack": "1", "other": "x"}
	for _, c := range []struct{ keys, want, missing string }{
		{"", "", ""},
		{"zone", "zone=a", ""},
		{"zone rack", "rack=1,zone=a", ""},
		{"zone row rack pool", "", "row"},
	} {
		got, missing := topology.Place(labels, strings.Fields(c.keys))
		if got.String() != c.want || missing != c.missing {
			t.Errorf("keys %q: got %q and %q missing, want %q and %q", c.keys, got, missing, c.want, c.missing)
		}
	}
	if len(labels) != 3 {
		t.Errorf("the labels were changed: %v", labels)
	}
}

func TestAffinity(t *testing.T) {
	of := func(list ...string) []*csi.Topology {
		var all []*csi.Topology
		for _, text := range list {
			segments := map[string]string{}
			for pair := range strings.SplitSeq(text, ",") {
				if key, value, found := strings.Cut(pair, "="); found {
					segments[key] = value
				}
			}
			all = append(all, &csi.Topology{Segments: segments})
		}
		return all
	}
	for _, c := range []struct {
		name string
		from []*csi.Topology
		want string
	}{
		{"nothing said", nil, ""},
		{"one place", of("zone=a"), "zone=a"},
		{"pairs are sorted", of("zone=a,rack=1"), "rack=1,zone=a"},
		{"places stay in their order", of("zone=b", "zone=a"), "zone=b;zone=a"},
		{"a place without segments says nothing", of("", "zone=a"), "zone=a"},
		{"only such are no affinity", of("", ""), ""},
		{"no topology at all", []*csi.Topology{nil}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			affinity := topology.Affinity(c.from)
			if c.want == "" {
				if affinity != nil {
					t.Errorf("got %v, want none", affinity)
				}
				return
			}
			var texts []string
			for _, t := range affinity.Required.NodeSelectorTerms {
				var pairs []string
				for _, e := range t.MatchExpressions {
					pairs = append(pairs, fmt.Sprintf("%s%s%s", e.Key, map[bool]string{true: "=", false: "?"}[e.Operator == v1.NodeSelectorOpIn], strings.Join(e.Values, "|")))
				}
				texts = append(texts, strings.Join(pairs, ","))
			}
			if got := strings.Join(texts, ";"); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			pv := &v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{NodeAffinity: affinity}}
			if got, want := written(topology.Of(pv)), written(topology.Sorted(terms(c.want))); got != want {
				t.Errorf("read back it is %q, want %q", got, want)
			}
		})
	}
}

func TestOf(t *testing.T) {
	pv := func(terms ...v1.NodeSelectorTerm) *v1.PersistentVolume {
		return &v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: terms}}}}
	}
	in := func(key string, values ...string) v1.NodeSelectorRequirement {
		return v1.NodeSelectorRequirement{Key: key, Operator: v1.NodeSelectorOpIn, Values: values}
	}
	for _, c := range []struct {
		name string
		pv   *v1.PersistentVolume
		want string
	}{
		{"no PV", nil, ""},
		{"no affinity", &v1.PersistentVolume{}, ""},
		{"nothing required", &v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{NodeAffinity: &v1.VolumeNodeAffinity{}}}, ""},
		{"several values", pv(v1.NodeSelectorTerm{MatchExpressions: []v1.NodeSelectorRequirement{in("zone", "a", "b")}}), "zone=a;zone=b"},
		{"something else than In", pv(v1.NodeSelectorTerm{MatchExpressions: []v1.NodeSelectorRequirement{{Key: "zone", Operator: v1.NodeSelectorOpExists}}}), ""},
		{"fields", pv(v1.NodeSelectorTerm{MatchFields: []v1.NodeSelectorRequirement{in("metadata.name", "n")}}), ""},
	} {
		if got := written(topology.Of(c.pv)); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestReaches(t *testing.T) {
	for _, c := range []struct {
		volume, place string
		want          bool
	}{
		{"", "zone=a", true},
		{"zone=a", "rack=1,zone=a", true},
		{"rack=1,zone=a", "zone=a", false},
		{"zone=b;zone=a", "zone=a", true},
		{"zone=b", "zone=a", false},
	} {
		if got := topology.Reaches(terms(c.volume), term(c.place)); got != c.want {
			t.Errorf("a volume at %q from %q: got %t", c.volume, c.place, got)
		}
	}
}

func TestPinsAreReadBack(t *testing.T) {
	for _, c := range []struct {
		name, preferred, text string
		whole                 bool
	}{
		{"one place", "zone=a", "zone=a", true},
		{"several, in their order", "zone=b;zone=a", "zone=b;zone=a", true},
		{"several keys", "example.com/rack=1,zone=a", "example.com/rack=1,zone=a", true},
		{"eight", "z=1;z=2;z=3;z=4;z=5;z=6;z=7;z=8", "z=1;z=2;z=3;z=4;z=5;z=6;z=7;z=8", true},
		{"nine", "z=1;z=2;z=3;z=4;z=5;z=6;z=7;z=8;z=9", "z=1;z=2;z=3;z=4;z=5;z=6;z=7;z=8;...", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			requirement := &csi.TopologyRequirement{}
			for _, p := range terms(c.preferred) {
				requirement.Preferred = append(requirement.Preferred, p.CSI())
			}
			text := topology.Format(requirement)
			if text != c.text {
				t.Errorf("written it is %q, want %q", text, c.text)
			}
			pinned := topology.Parse(text)
			if got := written(pinned.Preferred); !strings.HasPrefix(c.preferred, got) || pinned.Whole != c.whole || pinned.Whole && got != c.preferred {
				t.Errorf("read back it is %q, whole %t", got, pinned.Whole)
			}
		})
	}
}

func TestPinsThatCannotBeWrittenAreNone(t *testing.T) {
	for name, r := range map[string]*csi.TopologyRequirement{
		"no requirement":       nil,
		"no places":            {},
		"a place of nothing":   {Preferred: []*csi.Topology{{}}},
		"a value with a comma": {Preferred: []*csi.Topology{{Segments: map[string]string{"zone": "a,b=c"}}}},
		"a key with a blank":   {Preferred: []*csi.Topology{{Segments: map[string]string{"my zone": "a"}}}},
	} {
		if got := topology.Format(r); got != "" {
			t.Errorf("%s: written it is %q", name, got)
		}
	}
}

func TestWhatIsNoPinIsNotRead(t *testing.T) {
	for _, text := range []string{
		"", "...", ";", "zone", "zone=a;", "=a", "zone=a=b", "zone=a,rack=1", "zone=a,zone=a", "zone=a,,", "zone = a",
		strings.Repeat("z=1;", 8) + "z=2", "zone=" + strings.Repeat("a", 64), "zone=a;...;zone=b",
	} {
		if p := topology.Parse(text); len(p.Preferred) > 0 {
			t.Errorf("%q is read as %q", text, written(p.Preferred))
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"zone=a", "a/b=c,d=e;f=", "z=1;...", "...", "=;=,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := topology.Parse(text)
		if len(p.Preferred) == 0 {
			return
		}
		again := written(p.Preferred)
		if !p.Whole {
			again += ";..."
		}
		if again != text {
			t.Errorf("%q is read as %q", text, again)
		}
	})
}

// factsOf returns the facts about a claim in a cluster with so many places.
func factsOf(places int) topology.Facts {
	facts := topology.Facts{Driver: "d", Class: "c", Claim: "data-web-7", Immediate: true}
	for i := range places {
		facts.Cluster = append(facts.Cluster, term(fmt.Sprintf("topology.example.com/place=%04d", i)))
	}
	facts.Cluster = topology.Sorted(facts.Cluster)
	return facts
}

// What one claim costs in a cluster of 1,000 nodes, whose places are known.
func BenchmarkRequire(b *testing.B) {
	for _, places := range []int{3, 1000} {
		facts := factsOf(places)
		selected := facts
		selected.Selected = topology.Node{Name: "n", Exists: true, Registered: true, Runs: true, Keys: []string{"topology.example.com/place"}, Place: facts.Cluster[places/2]}
		for name, f := range map[string]topology.Facts{"immediate": facts, "selected": selected} {
			b.Run(fmt.Sprintf("places=%d/%s", places, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, v := topology.Require(f); v != (verdict.Verdict{}) {
						b.Fatal(v)
					}
				}
			})
		}
	}
}

func TestTheRequirementSharesItsPlaces(t *testing.T) {
	facts := factsOf(100)
	one, _ := topology.Require(facts)
	other, _ := topology.Require(facts)
	if !slices.Equal(one.GetRequisite(), other.GetRequisite()) || one.GetRequisite()[0] == nil {
		t.Error("two requirements have copies of the same places")
	}
	if !slices.Contains(one.GetRequisite(), one.GetPreferred()[0]) {
		t.Error("requisite and preferred have copies of the same places")
	}
}
