package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// N-1, N-4: a claim that no node has room for is told so, once and for all of them, and
// starts when there is room; nodes whose driver does not answer do not take it.
func TestNodeDeploymentWithoutRoomAnywhere(t *testing.T) {
	t.Parallel()
	env := nodesOf(t)
	startNodes(env, 2, func(c *demodriver.Config) { c.Capacity = 1 << 30 })
	for _, claim := range []string{"one", "two"} { // at once both may take the same node first
		env.Create(env.Claim(claim))
		env.WaitBound(claim)
	}
	if a, b := nodeOf(t, env, "one"), nodeOf(t, env, "two"); a == b {
		t.Fatalf("both are on node %q, which has room for one", a)
	}
	env.Create(env.Claim("three"))
	const want = `the claim waits for a node: one takes it where driver %q has 1Gi free, and none has within 2s; it starts by itself when one can`
	if got := env.WaitEvent("three", "NotTakenByAnyNode").Message; got != fmt.Sprintf(want, env.DriverName) {
		t.Errorf("the event says %q", got)
	}
	deaf := nodeNamed(t, env, nodeOf(t, env, "two"))
	hung := deaf.Faults.On("GetCapacity").Hang()
	env.Eventually("the driver of the other node was asked and does not answer", func() error {
		if hung.Hits() == 0 {
			return errors.New("it was not asked")
		}
		return nil
	})
	asked := len(deaf.Faults.Calls("GetCapacity"))
	env.Eventually("it is asked again, so the call has ended", func() error {
		if n := len(deaf.Faults.Calls("GetCapacity")); n <= asked {
			return fmt.Errorf("it was asked %d times", n)
		}
		return nil
	})
	compare(t, []field{
		{"events", env.CountEvents("three", "NotTakenByAnyNode"), 1},
		{"calls", len(nodesAskedFor(env, "three")), 0},
	})
	room := nodeOf(t, env, "one")
	env.Delete("one")
	env.WaitBound("three")
	compare(t, []field{{"node of three", nodeOf(t, env, "three"), room}})
}

// A node that has taken a claim and cannot make it gives it back, and the race begins again.
func TestNodeDeploymentANodeThatHasNoRoomAfterAll(t *testing.T) {
	t.Parallel()
	env := nodesOf(t)
	startNodes(env, 2, nil)
	full, other := nodeNamed(t, env, "node-1"), nodeNamed(t, env, "node-2")
	full.Faults.On("CreateVolume").Fail(codes.ResourceExhausted, "no room after all")
	var claims []string
	for i := range 6 {
		claims = append(claims, fmt.Sprintf("data-%d", i))
		env.Create(env.Claim(claims[i]))
	}
	env.WaitBound(claims...)
	for _, claim := range claims {
		compare(t, []field{{"node of " + claim, env.Get(claim).Annotations[selectedNode], other.Name}})
	}
}

// A provisioner that is killed with a call in flight finds its work again, and nobody else
// has touched it meanwhile.
func TestNodeDeploymentKilledInMidWork(t *testing.T) {
	t.Parallel()
	env := nodesOf(t)
	running, hung := map[string]*kit.Provisioner{}, map[string]*faults.Rule{}
	for _, name := range []string{"a", "b"} {
		node := env.AddNode(name)
		hung[node.Name] = node.Faults.On("CreateVolume").Hang()
		running[node.Name] = node.Start()
	}
	env.Create(env.Claim("data"), env.Claim("gone"))
	victims := map[string]string{}
	for _, claim := range []string{"data", "gone"} {
		env.Eventually("a driver is at it", func() error {
			if len(nodesAskedFor(env, claim)) == 0 {
				return fmt.Errorf("nobody was asked for claim %q", claim)
			}
			return nil
		})
		victims[claim] = nodeOf(t, env, claim)
	}
	for _, node := range victims {
		running[node].Kill()
	}
	env.Delete("gone")
	env.Steadily("nobody else works on them", 4*time.Second, func() error {
		for claim, node := range victims {
			if asked := slices.Compact(nodesAskedFor(env, claim)); !slices.Equal(asked, []string{node}) {
				return fmt.Errorf("claim %q was asked for on nodes %v", claim, asked)
			}
		}
		return nil
	})
	started := map[string]bool{}
	for _, node := range victims {
		if !started[node] {
			started[node] = true
			hung[node].Remove()
			nodeNamed(t, env, node).Start()
		}
	}
	env.WaitBound("data")
	env.WaitGone("gone")
	compare(t, []field{{"node of data", nodeOf(t, env, "data"), victims["data"]}})
}

// N-6: a claim whose node is gone is taken by another one, if nothing was begun for it; else
// it says what to do, and goes on when that is done.
func TestNodeDeploymentANodeThatIsGone(t *testing.T) {
	t.Parallel()
	env := nodesOf(t)
	gone := env.AddNode("gone")
	provisioner := gone.Start()
	gate := gone.Faults.On("CreateVolume").Gate()
	env.Create(env.Claim("begun"))
	env.Eventually("the node is at it", func() error {
		if len(nodesAskedFor(env, "begun")) == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	provisioner.Kill()
	env.Create(env.Claim("fresh", kit.SelectedNode(gone.Name)))
	left := env.AddNode("left")
	left.Start("--node-deployment-base-delay=100ms", "--node-deployment-max-delay=300ms")
	env.Steadily("nobody takes what belongs to a node that is there", 4*time.Second, func() error {
		for _, claim := range []string{"begun", "fresh"} {
			if node := env.Get(claim).Annotations[selectedNode]; node != gone.Name {
				return fmt.Errorf("node %q is chosen for claim %q", node, claim)
			}
		}
		return nil
	})
	if err := env.Admin.CoreV1().Nodes().Delete(env.Ctx, gone.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	env.WaitBound("fresh")
	compare(t, []field{{"node of fresh", nodeOf(t, env, "fresh"), left.Name}})

	if text := env.WaitEvent("begun", "RecordOfAnotherProvisioner").Message; !strings.Contains(text, fmt.Sprintf("node %q", gone.Name)) {
		t.Errorf("the event says %q", text)
	}
	compare(t, []field{
		{"node of begun", env.Get("begun").Annotations[selectedNode], gone.Name},
		{"calls on the other node", slices.Contains(nodesAskedFor(env, "begun"), left.Name), false},
	})
	// What docs/node-deployment.md says.
	for _, finalizer := range env.Get("begun").Finalizers {
		if !strings.HasPrefix(finalizer, strings.ToLower(env.DriverName)+"/provisioning-") {
			continue
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
			"$deleteFromPrimitiveList/finalizers": []string{finalizer}, "annotations": map[string]any{selectedNode: nil},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := env.Admin.CoreV1().PersistentVolumeClaims(env.Namespace).Patch(env.Ctx, "begun", types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	env.WaitBound("begun")
	compare(t, []field{{"node of begun", env.Get("begun").Annotations[selectedNode], left.Name}})
	gate.Release()
}

// N-5: neither a class that is named by the annotation alone nor a driver without topology
// ends a provisioner; PVs that name no place are deleted where they were made.
func TestNodeDeploymentWithoutTopology(t *testing.T) {
	t.Parallel()
	env := nodesOf(t)
	startNodes(env, 2, func(c *demodriver.Config) { c.Segments = nil })
	claims := []string{"data", "old", "copy"}
	env.Create(env.Claim("data"), env.Claim("old", kit.BetaClass(env.Class)), env.Claim("more", kit.BetaClass("none-"+env.Class)))
	env.WaitBound("data", "old")
	home := nodeOf(t, env, "data")
	env.Create(env.Claim("copy", kit.SelectedNode(home), kit.CloneOf("data")))
	env.WaitBound("copy")
	type made struct{ node, pv, handle string }
	var all []made
	for _, claim := range claims {
		pv := env.PV(claim)
		compare(t, []field{{"affinity of " + claim, pv.Spec.NodeAffinity == nil, true}})
		all = append(all, made{nodeOf(t, env, claim), pv.Name, pv.Spec.CSI.VolumeHandle})
	}
	env.Delete("copy")
	env.WaitGone("copy")
	leave(env, "data", "old")
	for _, m := range all {
		env.WaitPVGone(m.pv)
		if got := slices.Compact(deletedOn(env, m.handle)); !slices.Equal(got, []string{m.node}) {
			t.Errorf("volume %q of node %q was deleted on nodes %v", m.handle, m.node, got)
		}
	}
}

// N-7: what a populator fills is taken by nobody, and told in one event.
func TestNodeDeploymentLeavesPopulatorsAlone(t *testing.T) {
	t.Parallel()
	env := nodesOf(t)
	startNodes(env, 3, nil)
	ref := v1.TypedObjectReference{APIGroup: ptr.To("example.org"), Kind: "Image", Name: "linux"}
	env.Create(env.Claim("filled", kit.DataSourceRef(ref)), env.Claim("data"))
	env.WaitEvent("filled", "Provisioning")
	env.WaitBound("data")
	env.Steadily("nobody takes it", 4*time.Second, func() error {
		if node := env.Get("filled").Annotations[selectedNode]; node != "" {
			return fmt.Errorf("node %q has", node)
		}
		if n := env.CountEvents("filled", "Provisioning"); n != 1 {
			return fmt.Errorf("there are %d events", n)
		}
		return nil
	})
}

// Without --node-deployment-immediate-binding a claim that binds immediately is told so.
func TestNodeDeploymentForDelayedBindingAlone(t *testing.T) {
	t.Parallel()
	env := nodesOf(t)
	startNodes(env, 2, nil, "--node-deployment-immediate-binding=false")
	env.Create(env.Claim("now"), env.Claim("later", delayedClass(env), kit.SelectedNode(nodeNamed(t, env, "node-2").Name)))
	env.WaitEvent("now", "ImmediateBindingDisabled")
	env.WaitBound("later")
	compare(t, []field{
		{"node of later", nodeOf(t, env, "later"), nodeNamed(t, env, "node-2").Name},
		{"events", env.CountEvents("now", "ImmediateBindingDisabled"), 1},
		{"calls", len(nodesAskedFor(env, "now")), 0},
	})
}

// N-8: a source that is deleted while its clone is made stays until that is through, also
// when several nodes reach it, and only one of them makes the clone.
func TestNodeDeploymentSourcesAreProtectedForTheClonesOfAllNodes(t *testing.T) {
	t.Parallel()
	env := nodesOf(t)
	shared := map[string]string{env.DriverName + "/zone": "z"}
	startNodes(env, 3, func(c *demodriver.Config) { c.Segments = shared })
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	maker := nodeNamed(t, env, nodeOf(t, env, "src"))
	maker.Faults.On("CreateVolume").HangUntilReleased()
	env.Create(env.Claim("copy", kit.CloneOf("src"), kit.SelectedNode(maker.Name)))
	env.Eventually("the clone is being made", func() error {
		if len(nodesAskedFor(env, "copy")) == 0 {
			return errors.New("nobody was asked for it")
		}
		return nil
	})
	env.Delete("src")
	env.WaitEvent("src", "CloneSourceHeld")
	env.Steadily("the source stays", 3*time.Second, func() error {
		if !slices.Contains(env.Get("src").Finalizers, "provisioner.storage.kubernetes.io/cloning-protection") {
			return errors.New("it is not protected any more")
		}
		return nil
	})
	maker.Faults.Reset()
	env.WaitBound("copy")
	env.WaitGone("src")
}

// N-5: a driver that does not tell where its node is ends the start with a sentence.
func TestNodeDeploymentWithABrokenStart(t *testing.T) {
	t.Parallel()
	env := nodesOf(t)
	node := env.AddNode("node")
	for name, c := range map[string]struct {
		fault func()
		text  string
	}{
		"no answer": {func() { node.Faults.On("NodeGetInfo").Fail(codes.Internal, "no idea") }, "for the topology of its node (NodeGetInfo)"},
		"no place": {func() {
			node.Faults.On("NodeGetInfo").MutateReply(faults.Reply(func(info *csi.NodeGetInfoResponse) { info.AccessibleTopology = nil }))
		}, fmt.Sprintf("but NodeGetInfo tells none of node %q", node.Name)},
	} {
		c.fault()
		p := node.Launch()
		if code := p.Wait(); code != 1 || !strings.Contains(p.Log(), c.text) {
			t.Errorf("%s: it ended with %d, and its log does not hold %q:\n%s", name, code, c.text, p.Log())
		}
		node.Faults.Reset()
	}
}

// A person takes a claim from a node whose driver does not make it: by taking the chosen node
// off, or by choosing another one. What may exist is found and deleted first.
func TestNodeDeploymentAClaimIsTakenFromItsNode(t *testing.T) {
	t.Parallel()
	env := nodesOf(t)
	startNodes(env, 2, nil)
	bad, good := nodeNamed(t, env, "node-1"), nodeNamed(t, env, "node-2")
	lost := bad.Faults.On("CreateVolume").LoseReply()
	env.Create(env.Claim("made", kit.SelectedNode(bad.Name)))
	env.Eventually("the volume is made, and its provisioner does not know", func() error {
		if len(bad.Driver.Driver.Volumes()) == 0 {
			return errors.New("there is none")
		}
		return nil
	})
	env.Update("made", kit.SelectedNode(good.Name))
	env.WaitEvent("made", "CleaningUp")
	lost.Remove()
	env.WaitBound("made")
	compare(t, []field{
		{"node of made", env.Get("made").Annotations[selectedNode], good.Name},
		{"volumes on the other node", len(bad.Driver.Driver.Volumes()), 0},
	})

	bad.Faults.On("GetCapacity").Fail(codes.Unavailable, "broken disk")
	bad.Faults.On("CreateVolume").Fail(codes.FailedPrecondition, "broken disk")
	env.Create(env.Claim("data", kit.SelectedNode(bad.Name)), env.Claim("more", kit.SelectedNode(bad.Name)))
	env.WaitEvent("data", "ProvisioningFailed")
	env.WaitEvent("more", "ProvisioningFailed")
	env.Update("data", withdrawNode)
	env.Update("more", kit.SelectedNode(good.Name))
	env.WaitBound("data", "more")
	compare(t, []field{
		{"node of data", env.Get("data").Annotations[selectedNode], good.Name},
		{"node of more", env.Get("more").Annotations[selectedNode], good.Name},
	})
}
