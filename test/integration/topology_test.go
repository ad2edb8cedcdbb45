package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
)

// What is asked for in which case is in test/cases/testdata/topology.txt. Here it is about
// what the API server tells of nodes, and when.

const zoneKey = "demo.example/zone"

func zone(name string) map[string]string { return map[string]string{zoneKey: name} }

// zoned returns a test world with a driver in three zones, and a node in each: "a", "b" and
// "c" are the names of both.
func zoned(t *testing.T, options ...kit.Option) *kit.Env {
	t.Helper()
	env := kit.New(t, append([]kit.Option{kit.WithPlaces(zone("a"), zone("b"), zone("c"))}, options...)...)
	for _, name := range []string{"a", "b", "c"} {
		env.PutNode(name, zone(name))
	}
	return env
}

// onNode is kit.SelectedNode for a node of the test's own.
func onNode(env *kit.Env, name string) kit.ClaimOption {
	return kit.SelectedNode(env.Namespace + "-" + name)
}

// zones returns the zones of topologies, in their order.
func zones(list []*csi.Topology) string {
	var names []string
	for _, t := range list {
		names = append(names, t.GetSegments()[zoneKey])
	}
	return strings.Join(names, "")
}

// zoneOf returns the only zone from which the claim's volume can be used.
func zoneOf(t *testing.T, env *kit.Env, claim string) string {
	t.Helper()
	affinity := env.PV(claim).Spec.NodeAffinity
	if affinity == nil || affinity.Required == nil || len(affinity.Required.NodeSelectorTerms) != 1 {
		t.Fatalf("node affinity of the PV of claim %q is %v, want one term", claim, affinity)
	}
	requirements := affinity.Required.NodeSelectorTerms[0].MatchExpressions
	if len(requirements) != 1 || requirements[0].Key != zoneKey || requirements[0].Operator != v1.NodeSelectorOpIn || len(requirements[0].Values) != 1 {
		t.Fatalf("node affinity of the PV of claim %q is %v, want one zone", claim, affinity)
	}
	return requirements[0].Values[0]
}

func TestVolumesAreMadeWhereTheyAreNeeded(t *testing.T) {
	t.Parallel()
	delayed := []kit.Option{kit.WaitForFirstConsumer()}
	for name, c := range map[string]struct {
		options              []kit.Option
		args                 []string
		node                 string
		requisite, preferred string
		zone                 string
	}{
		"delayed":                              {delayed, nil, "b", "abc", "bca", "b"},
		"delayed, strict":                      {delayed, []string{"--strict-topology"}, "c", "c", "c", "c"},
		"delayed, allowed":                     {append(delayed, kit.ChangeClass(kit.Zoned(zoneKey, "c", "b"))), nil, "c", "bc", "cb", "c"},
		"immediate":                            {nil, nil, "", "abc", "abc", "a"},
		"immediate, allowed":                   {[]kit.Option{kit.ChangeClass(kit.Zoned(zoneKey, "c", "b"))}, nil, "", "bc", "cb", "c"},
		"immediate, nothing asked for":         {nil, []string{"--immediate-topology=false"}, "", "", "", "a"},
		"immediate, with a node all the same":  {nil, nil, "b", "abc", "bca", "b"},
		"immediate, strict, and without nodes": {nil, []string{"--strict-topology"}, "", "abc", "abc", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := zoned(t, c.options...)
			env.StartProvisioner(c.args...)
			var options []kit.ClaimOption
			if c.node != "" {
				options = append(options, onNode(env, c.node))
			}
			env.Create(env.Claim("data", options...))
			env.WaitBound("data")
			asked := requestFor(t, env, "data").GetAccessibilityRequirements()
			compare(t, []field{
				{"requisite", zones(asked.GetRequisite()), c.requisite},
				{"preferred", zones(asked.GetPreferred()), c.preferred},
				{"zone of the PV", zoneOf(t, env, "data"), c.zone},
			})
		})
	}
}

func TestNoTopologyIsAskedForWithTheGateClosed(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.DriverConfig(func(c *demodriver.Config) { c.Places = []map[string]string{zone("a")} }))
	env.StartProvisioner("--feature-gates=Topology=false") // without the rules of rbac-topology.yaml
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	if asked := requestFor(t, env, "data").GetAccessibilityRequirements(); asked != nil {
		t.Errorf("asked for %v", asked)
	}
	if affinity := env.PV("data").Spec.NodeAffinity; affinity != nil {
		t.Errorf("the PV has node affinity %v", affinity)
	}
}

func TestTheRulesForTopologyAreAskedFor(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.DriverConfig(func(c *demodriver.Config) { c.Places = []map[string]string{zone("a")} }))
	env.AllowForbidden()
	p := env.LaunchProvisioner()
	env.Eventually("both rules are named in the log", func() error {
		for _, words := range []string{"resources: [nodes], verbs: [list, watch]", "resources: [csinodes], verbs: [list, watch]", "--feature-gates=Topology=false"} {
			if !strings.Contains(p.Log(), words) {
				return fmt.Errorf("%q is not there", words)
			}
		}
		return nil
	})
}

// Gap T-2: labels of a zone are on nodes that the driver knows nothing of.
func TestNodesWithoutTheDriverDoNotCount(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.WithPlaces(zone("a"), zone("b"), zone("c")))
	env.PutNode("b", zone("b"))
	for _, name := range []string{"a", "c"} {
		env.Unregister(env.PutNode(name, zone(name)))
	}
	env.StartProvisioner()
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	if got := zones(requestFor(t, env, "data").GetAccessibilityRequirements().GetRequisite()); got != "b" {
		t.Errorf("asked for zones %q, want b", got)
	}
}

// Gap T-6.
func TestNodesWithOtherKeysCountWithTheirOwn(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.WithPlaces(zone("a")))
	env.PutNode("a", zone("a"))
	env.PutNode("r", map[string]string{zoneKey: "a", "demo.example/rack": "1"})
	env.StartProvisioner()
	env.Create(env.Claim("data"), env.Claim("more-1"))
	env.WaitBound("data", "more-1")
	for _, claim := range []string{"data", "more-1"} {
		var got []string
		for _, t := range requestFor(t, env, claim).GetAccessibilityRequirements().GetRequisite() {
			got = append(got, fmt.Sprint(t.GetSegments()))
		}
		want := []string{"map[demo.example/zone:a]", "map[demo.example/rack:1 demo.example/zone:a]"}
		if !slices.Equal(got, want) {
			t.Errorf("asked for %v, want %v", got, want)
		}
	}
}

// Gap T-1, and the row of CSINode in the specification.
func TestASelectedNodeThatIsGoneIsGivenBack(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(env *kit.Env){
		"Node":    func(env *kit.Env) { env.DropNode("b") },
		"CSINode": func(env *kit.Env) { env.Unregister("b") },
		"both":    func(env *kit.Env) { env.Unregister("b"); env.DropNode("b") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := zoned(t, kit.WaitForFirstConsumer())
			remove(env)
			env.StartProvisioner(noBackOff, noBackOffMax)
			env.Create(env.Claim("data", onNode(env, "b")))
			env.WaitEvent("data", "SelectedNodeNotFound")
			env.Eventually("the node is taken off", func() error { return withoutNode(env, "data") })
			if n := len(env.Faults.Calls("CreateVolume")); n > 0 {
				t.Errorf("the driver was called %d times", n)
			}
			env.Update("data", onNode(env, "c"))
			env.WaitBound("data")
			if got := zoneOf(t, env, "data"); got != "c" {
				t.Errorf("the volume is in zone %q, want c", got)
			}
		})
	}
}

// withoutNode returns an error unless the claim has neither node nor record.
func withoutNode(env *kit.Env, claim string) error {
	if node, found := env.Get(claim).Annotations[selectedNode]; found {
		return fmt.Errorf("node %q is selected", node)
	}
	return unmarked(env, claim)
}

// A node that goes while the claim is on record and nothing exists.
func TestASelectedNodeThatGoesLaterIsGivenBack(t *testing.T) {
	t.Parallel()
	env := zoned(t, kit.WaitForFirstConsumer())
	env.StartProvisioner(noBackOff, noBackOffMax)
	outcomes()["clean"](env.Faults.On("CreateVolume"))
	env.Create(env.Claim("data", onNode(env, "b")))
	env.WaitEvent("data", "ProvisioningFailed")
	if err := onRecord(env, "data"); err != nil {
		t.Fatal(err)
	}
	env.DropNode("b")
	env.WaitEvent("data", "SelectedNodeNotFound")
	env.Eventually("node and record are taken off", func() error { return withoutNode(env, "data") })
}

func TestAClaimWaitsUntilThePlaceOfItsNodeIsKnown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reason  string
		prepare func(env *kit.Env)
		cure    func(env *kit.Env)
	}{
		"the driver is not registered there": {
			"SelectedNodeWithoutDriver",
			func(env *kit.Env) { registerOther(env, "b") },
			func(env *kit.Env) { env.Register("b", zoneKey) },
		},
		"the driver tells no keys": {
			"SelectedNodeWithoutTopology",
			func(env *kit.Env) { env.Register("b") },
			func(env *kit.Env) { env.Register("b", zoneKey) },
		},
		"the node has no such label": {
			"SelectedNodeWithoutTopology",
			func(env *kit.Env) { env.Register("b", zoneKey, "demo.example/rack") },
			func(env *kit.Env) { env.PutNode("b", map[string]string{"demo.example/rack": "1", zoneKey: "b"}) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := kit.New(t, kit.WithPlaces(map[string]string{zoneKey: "b", "demo.example/rack": "1"}), kit.WaitForFirstConsumer())
			env.PutNode("b", zone("b"))
			c.prepare(env)
			env.StartProvisioner(noBackOff, noBackOffMax)
			env.Create(env.Claim("data", onNode(env, "b")))
			event := env.WaitEvent("data", c.reason)
			if event.Type != v1.EventTypeNormal || !strings.Contains(event.Message, env.Namespace+"-b") {
				t.Errorf("event is %s %q, want a Normal one that names the node", event.Type, event.Message)
			}
			c.cure(env)
			env.WaitBound("data")
		})
	}
}

// registerOther says that some other driver runs on the node.
func registerOther(env *kit.Env, node string) {
	mine := env.DriverName
	env.DriverName = "other.example"
	defer func() { env.DriverName = mine }()
	env.Register(node, zoneKey)
}

func TestAClaimWaitsUntilThereIsAPlace(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.WithPlaces(zone("a")))
	env.StartProvisioner(noBackOff, noBackOffMax)
	env.Create(env.Claim("data"))
	env.WaitEvent("data", "NoTopology")
	env.PutNode("a", zone("a"))
	env.WaitBound("data")
}

// The request of a process that was killed is repeated as it was, although there are other
// nodes now: a driver that finds volumes by name and place would else make another one.
func TestTheSamePlacesAreAskedForAfterARestart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options func(env *kit.Env) []kit.ClaimOption
		class   []kit.Option
		change  func(env *kit.Env)
	}{
		"nodes in new zones": {
			func(*kit.Env) []kit.ClaimOption { return nil }, nil,
			func(env *kit.Env) {
				for _, name := range []string{"A", "d", "e"} {
					env.PutNode(strings.ToLower(name)+"-new", zone(name))
				}
			},
		},
		"a node that is gone": {
			func(*kit.Env) []kit.ClaimOption { return nil }, nil,
			func(env *kit.Env) { env.Unregister("a"); env.DropNode("a") },
		},
		"a selected node that is gone": {
			func(env *kit.Env) []kit.ClaimOption { return []kit.ClaimOption{onNode(env, "b")} },
			[]kit.Option{kit.WaitForFirstConsumer()},
			func(env *kit.Env) { env.Unregister("b"); env.DropNode("b") },
		},
		"a selected node that was moved": {
			func(env *kit.Env) []kit.ClaimOption { return []kit.ClaimOption{onNode(env, "b")} },
			[]kit.Option{kit.WaitForFirstConsumer()},
			func(env *kit.Env) { env.PutNode("b", zone("c")) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := zoned(t, c.class...)
			p := env.StartProvisioner()
			rule := env.Faults.On("CreateVolume").LoseReply()
			env.Create(env.Claim("data", c.options(env)...))
			env.WaitEvent("data", "ProvisioningFailed")
			p.Kill()
			c.change(env)
			rule.Remove()
			before := len(callsFor(env, "data"))
			env.StartProvisioner()
			env.WaitBound("data")
			calls := callsFor(env, "data")
			if len(calls) <= before {
				t.Fatal("the driver was not called again")
			}
			for _, call := range calls {
				if !proto.Equal(call.Request, calls[0].Request) {
					t.Errorf("a later request differs: %v, first was %v", call.Request, calls[0].Request)
				}
			}
		})
	}
}

// With a place for each node not all places are on record; those that were asked for first
// come first again.
func TestTheFirstPlacesOfManyAreAskedForFirstAfterARestart(t *testing.T) {
	t.Parallel()
	const nodes = 12
	var places []map[string]string
	for i := range nodes {
		places = append(places, zone(fmt.Sprintf("%02d", i)))
	}
	env := kit.New(t, kit.WithPlaces(places...))
	for i, place := range places {
		env.PutNode(fmt.Sprintf("n%d", i), place)
	}
	p := env.StartProvisioner()
	rule := env.Faults.On("CreateVolume").LoseReply()
	env.Create(env.Claim("data-5"))
	env.WaitEvent("data-5", "ProvisioningFailed")
	p.Kill()
	env.PutNode("more", zone("0"))
	rule.Remove()
	env.StartProvisioner()
	env.WaitBound("data-5")
	calls := callsFor(env, "data-5")
	preferred := func(i int) []*csi.Topology {
		return calls[i].Request.(*csi.CreateVolumeRequest).GetAccessibilityRequirements().GetPreferred()
	}
	first, last := preferred(0), preferred(len(calls)-1)
	if len(first) != nodes || len(last) != nodes+1 {
		t.Fatalf("asked for %d places, then %d, want %d and one more", len(first), len(last), nodes)
	}
	if got, want := zones(last[:8]), zones(first[:8]); got != want {
		t.Errorf("first come %s, before it was %s", got, want)
	}
}

func TestReplicasAreSpreadOverZones(t *testing.T) {
	t.Parallel()
	env := zoned(t)
	env.StartProvisioner()
	const replicas = 6
	var names []string
	for i := range replicas {
		names = append(names, fmt.Sprintf("data-web-%d", i), fmt.Sprintf("logs-web-%d", i))
	}
	for _, name := range names {
		env.Create(env.Claim(name))
	}
	env.WaitBound(names...)
	count := map[string]int{}
	for i := range replicas {
		data, logs := zoneOf(t, env, fmt.Sprintf("data-web-%d", i)), zoneOf(t, env, fmt.Sprintf("logs-web-%d", i))
		if data != logs {
			t.Errorf("replica %d has its volumes in zones %q and %q, want one zone", i, data, logs)
		}
		count[data]++
	}
	for _, name := range []string{"a", "b", "c"} {
		if count[name] != replicas/3 {
			t.Errorf("the replicas are in zones %v, want as many in each", count)
		}
	}
}

func TestACloneIsMadeWhereItsSourceIs(t *testing.T) {
	t.Parallel()
	env := zoned(t)
	env.CreateClass(env.Class+"-c", kit.Zoned(zoneKey, "c"))
	env.StartProvisioner("--clone-policy=compatible")
	env.Create(env.Claim("src", kit.Class(env.Class+"-c")))
	env.WaitBound("src")
	var names []string
	for i := range 3 {
		names = append(names, fmt.Sprintf("clone-%d", i))
		env.Create(env.Claim(names[i], kit.CloneOf("src")))
	}
	env.WaitBound(names...)
	for _, name := range names {
		if got := zoneOf(t, env, name); got != "c" {
			t.Errorf("%s is in zone %q, its source in c", name, got)
		}
		sameContent(t, env, name, "src")
	}
	env.CreateClass(env.Class+"-ab", kit.Zoned(zoneKey, "a", "b"))
	env.Create(env.Claim("elsewhere", kit.CloneOf("src"), kit.Class(env.Class+"-ab")))
	env.WaitBound("elsewhere")
	if got := zoneOf(t, env, "elsewhere"); got == "c" {
		t.Error("the clone is in zone c, which its class does not allow")
	}
	leave(env, "src")
}

func TestACloneThatCannotReachItsSourceIsGivenBack(t *testing.T) {
	t.Parallel()
	env := zoned(t, kit.WaitForFirstConsumer(), kit.DriverConfig(func(c *demodriver.Config) { c.CopiesStay = true }))
	env.StartProvisioner("--strict-topology", noBackOff, noBackOffMax)
	env.Create(env.Claim("src", onNode(env, "a")))
	env.WaitBound("src")
	env.Create(env.Claim("clone", kit.CloneOf("src"), onNode(env, "b")))
	event := env.WaitEvent("clone", "CloneSourceOutOfReach")
	for _, words := range []string{env.Namespace + "-b", zoneKey + "=a", env.PV("src").Name} {
		if !strings.Contains(event.Message, words) {
			t.Errorf("event is %q, want %q in it", event.Message, words)
		}
	}
	env.Eventually("node and record are taken off", func() error { return withoutNode(env, "clone") })
	env.Update("clone", onNode(env, "a"))
	env.WaitBound("clone")
	sameContent(t, env, "clone", "src")
	leave(env, "src")
}

// A refusal on the source's own node is no matter of places.
func TestACloneThatIsRefusedBesideItsSourceIsNotGivenBack(t *testing.T) {
	t.Parallel()
	env := zoned(t, kit.WaitForFirstConsumer())
	env.StartProvisioner()
	env.Create(env.Claim("src", onNode(env, "a")))
	env.WaitBound("src")
	rule := outcomes()["clean"](env.Faults.On("CreateVolume").When(ofClones))
	env.Create(env.Claim("clone", kit.CloneOf("src"), onNode(env, "a")))
	env.Eventually("the driver was asked twice", func() error {
		if n := len(callsFor(env, "clone")); n < 2 {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	if node := env.Get("clone").Annotations[selectedNode]; node != env.Namespace+"-a" {
		t.Errorf("node %q is selected, want the one that was chosen", node)
	}
	rule.Remove()
	env.WaitBound("clone")
	leave(env, "src")
}

// A deleted claim's volume is looked for where it was asked for, whatever the nodes are
// now.
func TestWhatWasBegunElsewhereIsCleanedUp(t *testing.T) {
	t.Parallel()
	env := zoned(t, kit.WaitForFirstConsumer())
	p := env.StartProvisioner("--strict-topology")
	rule := env.Faults.On("CreateVolume").LoseReply()
	env.Create(env.Claim("data", onNode(env, "b")))
	env.WaitEvent("data", "ProvisioningFailed")
	p.Kill()
	env.Unregister("b")
	env.DropNode("b")
	env.Delete("data")
	rule.Remove()
	env.StartProvisioner("--strict-topology")
	env.WaitGone("data")
	env.Eventually("no volume is left", func() error { return volumes(env, 0) })
	calls := env.Faults.Calls("CreateVolume")
	if len(calls) < 2 {
		t.Errorf("the driver was called %d times, want it asked again", len(calls))
	}
	for _, call := range calls {
		if !proto.Equal(call.Request, calls[0].Request) {
			t.Errorf("a later request differs: %v, first was %v", call.Request, calls[0].Request)
		}
	}
}

// Signs of life of nodes are no news: nobody looks at claims for them.
func TestOnlyWhatSaysWhereANodeIsWakesClaims(t *testing.T) {
	t.Parallel()
	world := kit.StartCluster(t, cluster.Options{}) // nodes of other tests would be news
	env := kit.New(t, kit.On(world), kit.WithPlaces(zone("a")))
	node := env.PutNode("n", nil)
	p := env.StartProvisioner(noBackOff, noBackOffMax)
	env.Create(env.Claim("data"))
	env.WaitEvent("data", "NoTopology")
	judgedTimes := func() float64 { return p.Metric("workqueue_adds_total", "name", "intake") }
	before := judgedTimes()
	if before == 0 {
		t.Fatal("no look at a claim is counted")
	}
	for range 5 {
		err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
			object, err := env.Admin.CoreV1().Nodes().Get(env.Ctx, node, metav1.GetOptions{})
			if err != nil {
				return err
			}
			object.Status.Conditions = []v1.NodeCondition{{Type: v1.NodeReady, Status: v1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}
			_, err = env.Admin.CoreV1().Nodes().UpdateStatus(env.Ctx, object, metav1.UpdateOptions{})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	env.Steadily("the claim is not looked at", time.Second, func() error {
		if now := judgedTimes(); now > before {
			return errors.New("it was")
		}
		return nil
	})
	env.PutNode("n", zone("a"))
	env.WaitBound("data")
}
