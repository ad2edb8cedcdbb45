package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// The tests of --node-deployment: one provisioner and one driver for each node, as processes
// and sockets of one machine.

// nodesOf returns a world in which provisioners may look for nodes, as
// deploy/kubernetes/rbac-node-deployment.yaml lets them.
func nodesOf(t *testing.T, options ...kit.Option) *kit.Env {
	t.Helper()
	rule := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get"}}
	return kit.New(t, append([]kit.Option{kit.WithRules(rule)}, options...)...)
}

// startNodes makes that many nodes and starts their provisioners.
func startNodes(env *kit.Env, count int, change func(*demodriver.Config), args ...string) {
	for i := range count {
		node := env.AddNode(fmt.Sprintf("node-%d", i+1), func(c *demodriver.Config) {
			if change != nil {
				change(c)
			}
		})
		node.Start(args...)
	}
}

// nodesAskedFor returns the nodes whose driver was asked for the claim's volume, once for each
// call.
func nodesAskedFor(env *kit.Env, claim string) []string {
	name := "pvc-" + string(env.Get(claim).UID)
	var nodes []string
	for _, node := range env.Nodes() {
		for _, call := range node.Faults.Calls("CreateVolume") {
			if req, ok := call.Request.(*csi.CreateVolumeRequest); ok && req.GetName() == name {
				nodes = append(nodes, node.Name)
			}
		}
	}
	return nodes
}

// nodeOf returns the node that was asked for the claim's volume, which must be one alone, and
// the one that is chosen.
func nodeOf(t *testing.T, env *kit.Env, claim string) string {
	t.Helper()
	asked := slices.Compact(nodesAskedFor(env, claim))
	if chosen := env.Get(claim).Annotations[selectedNode]; len(asked) != 1 || asked[0] != chosen {
		t.Fatalf("the volume of claim %q was asked for on nodes %v, and %q is chosen", claim, asked, chosen)
	}
	return asked[0]
}

func nodeNamed(t *testing.T, env *kit.Env, name string) *kit.Node {
	t.Helper()
	for _, node := range env.Nodes() {
		if node.Name == name || strings.HasSuffix(node.Name, "-"+name) {
			return node
		}
	}
	t.Fatalf("there is no node %q", name)
	return nil
}

// deletedOn returns the nodes whose driver was asked to delete the volume.
func deletedOn(env *kit.Env, handle string) []string {
	var nodes []string
	for _, node := range env.Nodes() {
		for _, call := range node.Faults.Calls("DeleteVolume") {
			if req, ok := call.Request.(*csi.DeleteVolumeRequest); ok && req.GetVolumeId() == handle {
				nodes = append(nodes, node.Name)
			}
		}
	}
	return nodes
}

// N-2, N-8, N-10: claims that bind immediately are made once, and deleted where they were
// made; nobody else counts that.
func TestNodeDeploymentClaimsAreProvisionedAndDeletedOnce(t *testing.T) {
	t.Parallel()
	env := nodesOf(t)
	var provisioners []*kit.Provisioner
	for _, name := range []string{"a", "b", "c"} {
		provisioners = append(provisioners, env.AddNode(name).Start())
	}
	var claims []string
	for i := range 30 {
		claims = append(claims, fmt.Sprintf("data-%d", i))
		env.Create(env.Claim(claims[i]))
	}
	env.WaitBound(claims...)
	type made struct{ node, pv, handle string }
	var all []made
	for _, claim := range claims {
		node, pv := nodeOf(t, env, claim), env.PV(claim)
		terms := pv.Spec.NodeAffinity.Required.NodeSelectorTerms
		identity := pv.Spec.CSI.VolumeAttributes["storage.kubernetes.io/csiProvisionerIdentity"]
		compare(t, []field{
			{"affinity of " + claim, terms, []v1.NodeSelectorTerm{{MatchExpressions: []v1.NodeSelectorRequirement{{Key: env.TopologyKey(), Operator: v1.NodeSelectorOpIn, Values: []string{node}}}}}},
			{"end of the identity", strings.HasSuffix(identity, "-"+env.DriverName+"-"+node), true},
		})
		all = append(all, made{node, pv.Name, pv.Spec.CSI.VolumeHandle})
	}
	env.Delete(claims...)
	for _, m := range all {
		env.WaitPVGone(m.pv)
		if got := slices.Compact(deletedOn(env, m.handle)); !slices.Equal(got, []string{m.node}) {
			t.Errorf("volume %q of node %q was deleted on nodes %v", m.handle, m.node, got)
		}
	}
	env.Eventually("30 deletions are counted by all nodes together", func() error {
		deleted := 0.0
		for _, p := range provisioners {
			deleted += p.Metric("controller_persistentvolume_delete_total")
		}
		if deleted != 30 {
			return fmt.Errorf("%v are", deleted)
		}
		return nil
	})
}

// With delayed binding the scheduler chooses, and the chosen node alone works.
func TestNodeDeploymentDelayedClaims(t *testing.T) {
	t.Parallel()
	env := nodesOf(t, kit.WaitForFirstConsumer())
	startNodes(env, 3, nil)
	one, two := nodeNamed(t, env, "node-1").Name, nodeNamed(t, env, "node-2").Name
	env.Create(env.Claim("here", kit.SelectedNode(one)), env.Claim("there", kit.SelectedNode(two)))
	env.WaitBound("here", "there")
	compare(t, []field{
		{"node of here", nodeOf(t, env, "here"), one},
		{"node of there", nodeOf(t, env, "there"), two},
	})
}

// A clone needs its source at hand: the nodes that do not reach it do not compete, and with
// delayed binding the claim is given back.
func TestNodeDeploymentClonesLandOnTheNodeOfTheirSource(t *testing.T) {
	t.Parallel()
	env := nodesOf(t)
	startNodes(env, 3, nil)
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	home := nodeOf(t, env, "src")
	var clones []string
	for i := range 6 {
		clones = append(clones, fmt.Sprintf("copy-%d", i))
		env.Create(env.Claim(clones[i], kit.CloneOf("src")))
	}
	env.WaitBound(clones...)
	for _, clone := range clones {
		compare(t, []field{{"node of " + clone, nodeOf(t, env, clone), home}})
	}

	var other string
	for _, node := range env.Nodes() {
		if node.Name != home {
			other = node.Name
		}
	}
	wait := delayedClass(env)
	env.Create(env.Claim("base", wait, kit.SelectedNode(home)))
	env.WaitBound("base")
	env.Create(env.Claim("late", wait, kit.CloneOf("base"), kit.SelectedNode(other)))
	env.WaitEvent("late", "CloneSourceOutOfReach")
	env.Eventually("the node is taken off", func() error {
		if node := env.Get("late").Annotations[selectedNode]; node != "" {
			return fmt.Errorf("node %q is chosen", node)
		}
		return nil
	})
	env.Update("late", kit.SelectedNode(home))
	env.WaitBound("late")
	leave(env, "src", "base")
}
