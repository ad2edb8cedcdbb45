package integration

import (
	"errors"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
)

// Here nodes are chosen by the real kube-scheduler, in a cluster of its own. No kubelet
// runs, so no pod ever starts.
func TestWithTheScheduler(t *testing.T) {
	t.Parallel()
	world := kit.StartCluster(t, cluster.Options{Scheduler: true})
	for name, try := range map[string]func(t *testing.T, world *kit.World){
		"a volume is made for the node of its pod":                     scheduledVolume,
		"the pods of a StatefulSet go where their volumes were made":   scheduledReplicas,
		"a clone goes round until its pod is where it can be made":     scheduledClone,
		"a node that goes is replaced by another one by the scheduler": scheduledAway,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			try(t, world)
		})
	}
}

// roomy returns a test world like zoned, whose nodes take pods of this test.
func roomy(t *testing.T, world *kit.World, options ...kit.Option) *kit.Env {
	t.Helper()
	env := zoned(t, append([]kit.Option{kit.On(world)}, options...)...)
	for _, name := range []string{"a", "b", "c"} {
		room(t, env, name)
	}
	return env
}

// room says that pods can be put on the node.
func room(t *testing.T, env *kit.Env, name string) {
	t.Helper()
	const status = `{"status":{"capacity":{"cpu":"4","memory":"8Gi","pods":"110"},"allocatable":{"cpu":"4","memory":"8Gi","pods":"110"}}}`
	_, err := env.Admin.CoreV1().Nodes().Patch(env.Ctx, env.Namespace+"-"+name, types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
}

// fits lets the test's pods onto this node, or takes that back.
func fits(t *testing.T, env *kit.Env, name string, yes bool) {
	t.Helper()
	label := "null"
	if yes {
		label = fmt.Sprintf("%q", env.Namespace)
	}
	patch := fmt.Sprintf(`{"metadata":{"labels":{"fits":%s}}}`, label)
	_, err := env.Admin.CoreV1().Nodes().Patch(env.Ctx, env.Namespace+"-"+name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// wherever makes a pod that mounts the claim, on a node that it fits on.
func wherever(env *kit.Env, name, claim string) *v1.Pod {
	return env.Pod(name, kit.Mounts(claim), func(pod *v1.Pod) { pod.Spec.NodeSelector = map[string]string{"fits": env.Namespace} })
}

// scheduledTo waits until the pod has a node, and returns its name in the test.
func scheduledTo(t *testing.T, env *kit.Env, pod string) string {
	t.Helper()
	var node string
	env.Eventually(fmt.Sprintf("pod %q has a node", pod), func() error {
		found := podNow(t, env, env.Namespace, pod)
		if found == nil {
			return errors.New("there is no such pod")
		}
		if found.Spec.NodeName == "" {
			return fmt.Errorf("it has none: %v", found.Status.Conditions)
		}
		node = found.Spec.NodeName[len(env.Namespace)+1:]
		return nil
	})
	return node
}

func scheduledVolume(t *testing.T, world *kit.World) {
	env := roomy(t, world, kit.WaitForFirstConsumer())
	fits(t, env, "b", true)
	env.StartProvisioner()
	env.Create(env.Claim("data"))
	env.CreatePod(wherever(env, "user", "data"))
	env.WaitBound("data")
	compare(t, []field{
		{"zone of the volume", zoneOf(t, env, "data"), "b"},
		{"node of the pod", scheduledTo(t, env, "user"), "b"},
	})
}

func scheduledReplicas(t *testing.T, world *kit.World) {
	env := roomy(t, world)
	for _, name := range []string{"a", "b", "c"} {
		fits(t, env, name, true)
	}
	env.StartProvisioner()
	const replicas = 3
	pod := wherever(env, "", "none")
	pod.Spec.Volumes, pod.Spec.Containers[0].VolumeMounts = nil, []v1.VolumeMount{{Name: "data", MountPath: "/data"}}
	pod.Spec.RestartPolicy = v1.RestartPolicyAlways
	labels := map[string]string{"app": "web"}
	set := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: ptr.To[int32](replicas), PodManagementPolicy: appsv1.ParallelPodManagement,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: v1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod.Spec},
			VolumeClaimTemplates: []v1.PersistentVolumeClaim{{
				ObjectMeta: metav1.ObjectMeta{Name: "data"},
				Spec: v1.PersistentVolumeClaimSpec{
					StorageClassName: &env.Class, AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
					Resources: v1.VolumeResourceRequirements{Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")}},
				},
			}},
			PersistentVolumeClaimRetentionPolicy: &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{
				WhenDeleted: appsv1.DeletePersistentVolumeClaimRetentionPolicyType,
			},
		},
	}
	if _, err := env.Admin.AppsV1().StatefulSets(env.Namespace).Create(env.Ctx, set, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i := range replicas {
		node := scheduledTo(t, env, fmt.Sprintf("web-%d", i))
		claim := fmt.Sprintf("data-web-%d", i)
		env.WaitBound(claim)
		if zone := zoneOf(t, env, claim); zone != node {
			t.Errorf("pod web-%d is in zone %q, its volume in %q", i, node, zone)
		}
		seen[node] = true
	}
	if len(seen) != replicas {
		t.Errorf("the replicas are in zones %v, want one in each", seen)
	}
	if err := env.Admin.AppsV1().StatefulSets(env.Namespace).Delete(env.Ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for i := range replicas {
		env.Eventually("the pod is gone", func() error {
			if pod := podNow(t, env, env.Namespace, fmt.Sprintf("web-%d", i)); pod != nil {
				return env.Admin.CoreV1().Pods(env.Namespace).Delete(env.Ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)})
			}
			return nil
		})
	}
	env.WaitGone("data-web-0", "data-web-1", "data-web-2")
}

func scheduledClone(t *testing.T, world *kit.World) {
	env := roomy(t, world, kit.WaitForFirstConsumer(), kit.DriverConfig(func(c *demodriver.Config) { c.CopiesStay = true }))
	env.StartProvisioner("--strict-topology")
	env.Create(env.Claim("src", onNode(env, "a")))
	env.WaitBound("src")
	fits(t, env, "b", true)
	env.Create(env.Claim("clone", kit.CloneOf("src")))
	env.CreatePod(wherever(env, "user", "clone"))
	env.WaitEvent("clone", "CloneSourceOutOfReach")
	fits(t, env, "a", true)
	fits(t, env, "b", false)
	env.WaitBound("clone")
	compare(t, []field{
		{"zone of the clone", zoneOf(t, env, "clone"), "a"},
		{"node of the pod", scheduledTo(t, env, "user"), "a"},
	})
	sameContent(t, env, "clone", "src")
	leave(env, "src")
}

// The node is gone when the provisioner, which was not running, looks at the claim.
func scheduledAway(t *testing.T, world *kit.World) {
	env := roomy(t, world, kit.WaitForFirstConsumer())
	fits(t, env, "b", true)
	env.Create(env.Claim("data"))
	env.CreatePod(wherever(env, "user", "data"))
	env.Eventually("the scheduler has chosen a node", func() error {
		if node := env.Get("data").Annotations[selectedNode]; node != env.Namespace+"-b" {
			return fmt.Errorf("node %q is selected", node)
		}
		return nil
	})
	env.Unregister("b")
	env.DropNode("b")
	fits(t, env, "c", true)
	env.StartProvisioner()
	env.WaitBound("data")
	compare(t, []field{
		{"zone of the volume", zoneOf(t, env, "data"), "c"},
		{"node of the pod", scheduledTo(t, env, "user"), "c"},
	})
}
