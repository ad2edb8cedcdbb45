package integration

import (
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
)

// hasRoomForPods says of a node that it can run pods.
func hasRoomForPods(t *testing.T, env *kit.Env, node string) {
	t.Helper()
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		found, err := env.Admin.CoreV1().Nodes().Get(env.Ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		found.Status.Allocatable = v1.ResourceList{
			v1.ResourcePods: resource.MustParse("100"), v1.ResourceCPU: resource.MustParse("8"), v1.ResourceMemory: resource.MustParse("8Gi"),
		}
		found.Status.Capacity = found.Status.Allocatable
		_, err = env.Admin.CoreV1().Nodes().UpdateStatus(env.Ctx, found, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The real scheduler chooses a node by what is published, and waits for room where there
// is none.
func TestTheSchedulerChoosesNodesWithRoom(t *testing.T) {
	t.Parallel()
	world := kit.StartCluster(t, cluster.Options{Scheduler: true})
	env, room := publishing(t, kit.On(world), kit.WithPlaces(zone("full"), zone("free")))
	_, err := env.Admin.StorageV1().CSIDrivers().Create(env.Ctx, &storagev1.CSIDriver{
		ObjectMeta: metav1.ObjectMeta{Name: env.DriverName},
		Spec:       storagev1.CSIDriverSpec{StorageCapacity: new(true), AttachRequired: new(false)},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	nodes := map[string]string{}
	for _, name := range []string{"full", "free"} {
		nodes[name] = env.PutNode(name, zone(name))
		hasRoomForPods(t, env, nodes[name])
	}
	room.set("zone=full", 16<<20)
	room.set("zone=free", 100*gi)
	env.StartProvisioner(capacityArgs("--capacity-poll-interval=200ms")...)
	waitPublished(t, env, "both nodes have their object", "CLASS [zone=full] 16Mi", "CLASS [zone=free] 100Gi")

	for _, name := range []string{"one", "two", "three", "four"} {
		env.Create(env.Claim(name))
		env.CreatePod(env.Pod(name, kit.Mounts(name)))
		env.WaitBound(name)
		if got := env.Get(name).Annotations[selectedNode]; got != nodes["free"] {
			t.Errorf("for claim %q node %q is selected, want %q, which has room", name, got, nodes["free"])
		}
		waitScheduled(t, env, name, nodes["free"])
	}

	// More than there is anywhere: the pod waits until there is.
	env.Create(env.Claim("large", kit.Size("200Gi")))
	env.CreatePod(env.Pod("large", kit.Mounts("large")))
	env.Eventually("the scheduler says that there is no room", func() error {
		for _, condition := range podNow(t, env, env.Namespace, "large").Status.Conditions {
			if condition.Type == v1.PodScheduled && strings.Contains(condition.Message, "did not have enough free storage") {
				return nil
			}
		}
		return fmt.Errorf("the pod's conditions are %v", podNow(t, env, env.Namespace, "large").Status.Conditions)
	})
	if node := env.Get("large").Annotations[selectedNode]; node != "" {
		t.Errorf("node %q is selected", node)
	}
	room.set("zone=full", 1000*gi)
	waitScheduled(t, env, "large", nodes["full"])
	env.WaitBound("large")
}

// waitScheduled waits until the pod is on the node.
func waitScheduled(t *testing.T, env *kit.Env, pod, node string) {
	t.Helper()
	env.Eventually(fmt.Sprintf("pod %s is scheduled", pod), func() error {
		if got := podNow(t, env, env.Namespace, pod).Spec.NodeName; got != node {
			return fmt.Errorf("it is on node %q, want %q", got, node)
		}
		return nil
	})
}
