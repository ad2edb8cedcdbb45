package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// ownersOf says who owns an object; * is the controller.
func ownersOf(object storagev1.CSIStorageCapacity) string {
	var owners []string
	for _, reference := range object.OwnerReferences {
		owner := reference.Kind
		if reference.Controller != nil && *reference.Controller {
			owner += "*"
		}
		owners = append(owners, owner)
	}
	slices.Sort(owners)
	return strings.Join(owners, " ")
}

// waitOwners waits until the one object of the test's namespace belongs to them.
func waitOwners(t *testing.T, env *kit.Env, what, want string) {
	t.Helper()
	env.Eventually(what, func() error {
		objects := env.Capacities()
		if len(objects) != 1 || ownersOf(objects[0]) != want {
			var got []string
			for _, object := range objects {
				got = append(got, object.Name+" of "+ownersOf(object))
			}
			return fmt.Errorf("there are %v, want one of %s", got, want)
		}
		return nil
	})
}

// deployedPod creates a Deployment, and returns the name of its pod.
func deployedPod(t *testing.T, env *kit.Env) string {
	t.Helper()
	labels := map[string]string{"app": "csi"}
	_, err := env.Admin.AppsV1().Deployments(env.Namespace).Create(env.Ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "csi"},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(1)), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: v1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "main", Image: "none.example/none"}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod := ""
	env.Eventually("the Deployment has a pod", func() error {
		pods, err := env.Admin.CoreV1().Pods(env.Namespace).List(env.Ctx, metav1.ListOptions{LabelSelector: "app=csi"})
		if err != nil || len(pods.Items) == 0 {
			return fmt.Errorf("%d pods, %w", len(pods.Items), err)
		}
		pod = pods.Items[0].Name
		return nil
	})
	return pod
}

// C-6: an object that somebody else controls is ours, too, and brought up to date. All
// levels, and what becomes of the objects when their owners go.
func TestCapacityObjectsHaveOwners(t *testing.T) {
	t.Parallel()
	env, room := publishing(t)
	env.Setenv("POD_NAME", deployedPod(t, env))
	other, err := env.Admin.CoreV1().ConfigMaps(env.Namespace).Create(env.Ctx, &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "other"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	taken := &storagev1.CSIStorageCapacity{
		ObjectMeta: metav1.ObjectMeta{
			Name: "taken", Namespace: env.Namespace,
			Labels:          map[string]string{"csi.storage.k8s.io/drivername": env.DriverName, "csi.storage.k8s.io/managed-by": "external-provisioner"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "other", UID: other.UID, Controller: new(true)}},
		},
		StorageClassName: env.Class, NodeTopology: &metav1.LabelSelector{},
	}
	if _, err := env.Admin.StorageV1().CSIStorageCapacities(env.Namespace).Create(env.Ctx, taken, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p := env.StartProvisioner(capacityArgs("--capacity-ownerref-level=2")...)
	waitOwners(t, env, "it is the other's and ours", "ConfigMap* Deployment")
	waitPublished(t, env, "it is up to date", "CLASS [] 1Gi")
	if err := env.Admin.CoreV1().ConfigMaps(env.Namespace).Delete(env.Ctx, "other", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	waitOwners(t, env, "it is ours alone when the other is gone", "Deployment*")

	// With another level who owned it before still does.
	p.Stop()
	p = env.StartProvisioner(capacityArgs("--capacity-ownerref-level=1")...)
	waitOwners(t, env, "level 1 is the ReplicaSet", "Deployment* ReplicaSet")
	p.Stop()
	room.set("", 3*gi)
	p = env.StartProvisioner(capacityArgs()...)
	waitPublished(t, env, "without an owner it is kept up to date, too", "CLASS [] 3Gi")
	waitOwners(t, env, "its owners are as they were", "Deployment* ReplicaSet")

	p.Stop()
	if err := env.Admin.AppsV1().Deployments(env.Namespace).Delete(env.Ctx, "csi", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	waitPublished(t, env, "it goes with its owners")
}

// Whom the objects are to belong to may not be there yet: nothing else waits for that.
func TestCapacityWaitsForItsOwner(t *testing.T) {
	t.Parallel()
	env, _ := publishing(t)
	env.CreateClass(env.Class + "-now")
	env.Setenv("POD_NAME", "late")
	p := env.StartProvisioner(capacityArgs("--capacity-ownerref-level=0")...)
	env.Create(env.Claim("data", kit.Class(env.Class+"-now")))
	env.WaitBound("data")
	env.Eventually("the log says why nothing is published", func() error {
		if words := `reading Pod \"late\", with --capacity-ownerref-level=0`; !strings.Contains(p.Log(), words) {
			return fmt.Errorf("it does not say %s", words)
		}
		return nil
	})
	if got := publishedTexts(env); len(got) > 0 {
		t.Errorf("published is %v", got)
	}
	env.CreatePod(env.Pod("late"))
	waitOwners(t, env, "the pod is there", "Pod*")
}
