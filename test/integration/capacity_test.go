package integration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// One object for each place and class, as the incumbent has it; C-3, C-10.
func TestCapacityIsPublishedForEachPlaceAndClass(t *testing.T) {
	t.Parallel()
	env, room := publishing(t, placed(), kit.Parameters(map[string]string{"pool": "fast", "csi.storage.k8s.io/fstype": "ext4"}))
	env.CreateClass(env.Class + "-now")
	env.PutNode("a", map[string]string{zoneKey: "z1", hostKey: "h1"})
	env.PutNode("b", map[string]string{zoneKey: "z1", hostKey: "h2"})
	env.PutNode("c", map[string]string{zoneKey: "z1", hostKey: "h2"}) // the same place
	env.CreateNode("without-driver")
	room.set("host=h1,zone=z1", 5*gi)
	room.set("host=h2,zone=z1", 0)
	p := env.StartProvisioner(capacityArgs()...)
	waitPublished(t, env, "there is an object for each place", "CLASS [host=h1,zone=z1] 5Gi", "CLASS [host=h2,zone=z1] 0")
	for _, object := range env.Capacities() {
		if !strings.HasPrefix(object.Name, "csisc-") || object.GenerateName != "csisc-" || len(object.OwnerReferences) > 0 {
			t.Errorf("its metadata are %+v", object.ObjectMeta)
		}
		want := map[string]string{"csi.storage.k8s.io/drivername": env.DriverName, "csi.storage.k8s.io/managed-by": "external-provisioner"}
		if !maps.Equal(object.Labels, want) {
			t.Errorf("its labels are %v, want %v", object.Labels, want)
		}
	}
	for _, call := range env.Faults.Calls("GetCapacity") {
		req := call.Request.(*csi.GetCapacityRequest)
		if want := map[string]string{"pool": "fast"}; !maps.Equal(req.GetParameters(), want) || len(req.GetVolumeCapabilities()) > 0 {
			t.Errorf("the driver is asked %v, want parameters %v and no more", req, want)
		}
	}
	for name, want := range map[string]float64{"desired_goal": 2, "desired_current": 2, "obsolete": 0} {
		p.WaitMetric(want, "csistoragecapacities_"+name)
	}

	env.PutNode("c", map[string]string{zoneKey: "z1", hostKey: "h3"})
	waitPublished(t, env, "a node has moved", "CLASS [host=h1,zone=z1] 5Gi", "CLASS [host=h2,zone=z1] 0", "CLASS [host=h3,zone=z1] 1Gi")
	if err := env.Admin.StorageV1().CSINodes().Delete(env.Ctx, env.CreateNode("b"), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	waitPublished(t, env, "the driver does not run there any more", "CLASS [host=h1,zone=z1] 5Gi", "CLASS [host=h3,zone=z1] 1Gi")
	other := env.CreateClass(env.Class+"-too", func(class *storagev1.StorageClass) {
		mode := storagev1.VolumeBindingWaitForFirstConsumer
		class.VolumeBindingMode = &mode
	})
	waitPublished(t, env, "there is another class", "CLASS [host=h1,zone=z1] 5Gi", "CLASS [host=h3,zone=z1] 1Gi",
		"CLASS-too [host=h1,zone=z1] 5Gi", "CLASS-too [host=h3,zone=z1] 1Gi")
	if err := env.Admin.StorageV1().StorageClasses().Delete(env.Ctx, other.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	waitPublished(t, env, "it is gone again", "CLASS [host=h1,zone=z1] 5Gi", "CLASS [host=h3,zone=z1] 1Gi")
}

func TestCapacityForImmediateBinding(t *testing.T) {
	t.Parallel()
	env, _ := publishing(t, kit.ChangeClass(func(class *storagev1.StorageClass) {
		mode := storagev1.VolumeBindingImmediate
		class.VolumeBindingMode = &mode
	}))
	env.Faults.Reset()
	env.Faults.On("GetCapacity").MutateReply(faults.Reply(func(resp *csi.GetCapacityResponse) {
		resp.AvailableCapacity, resp.MaximumVolumeSize = 3*gi, wrapperspb.Int64(0)
	}))
	env.StartProvisioner(capacityArgs("--capacity-for-immediate-binding")...)
	waitPublished(t, env, "there is an object for the class", "CLASS [] 3Gi at most 0")
}

// C-2: an object for everywhere is recognised again. Who takes over writes nothing, and a
// standby does nothing.
func TestCapacityWithoutTopologyIsOneObjectThatStays(t *testing.T) {
	t.Parallel()
	env, room := publishing(t)
	room.set("", 7*gi)
	first := env.StartProvisioner(capacityArgs("--capacity-poll-interval=100ms")...)
	waitPublished(t, env, "there is one object", "CLASS [] 7Gi")
	before := identities(env, true)
	polled(env, 5)
	second := env.StartProvisioner(capacityArgs("--capacity-poll-interval=100ms")...)
	if goal := second.Metric("csistoragecapacities_desired_goal"); goal != 0 {
		t.Errorf("the standby wants %v objects", goal)
	}
	first.Stop()
	polled(env, 5)
	second.WaitMetric(1, "csistoragecapacities_desired_goal")
	if after := identities(env, true); !slices.Equal(before, after) {
		t.Errorf("polls and a restart have made %v of %v", after, before)
	}
	room.set("", 6*gi)
	waitPublished(t, env, "it says something else", "CLASS [] 6Gi")
	if before, after := strings.Fields(before[0])[:2], strings.Fields(identities(env, false)[0]); !slices.Equal(before, after) {
		t.Errorf("the object was made anew: %v, was %v", after, before)
	}
}

// A driver may report topology and tell of no place, as long as there is one node.
func TestCapacityOfADriverThatTellsNoPlaces(t *testing.T) {
	t.Parallel()
	env, _ := publishing(t, placed())
	env.PutNode("a", nil)
	env.StartProvisioner(capacityArgs()...)
	waitPublished(t, env, "there is an object for everywhere", "CLASS [] 1Gi")
	env.PutNode("b", map[string]string{hostKey: "h1"})
	waitPublished(t, env, "only nodes count that tell", "CLASS [host=h1] 1Gi")
	env.Unregister("b")
	waitPublished(t, env, "it is as before", "CLASS [] 1Gi")
	env.Unregister("a")
	waitPublished(t, env, "the driver runs nowhere")
}

// What the manifests of the incumbent grant is enough.
func TestCapacityWithTheIncumbentsRights(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.WaitForFirstConsumer(), kit.As(kit.IncumbentRBAC), kit.DriverConfig(func(c *demodriver.Config) {
		c.Places = []map[string]string{{hostKey: "h1"}, {hostKey: "h2"}}
	}))
	env.Setenv("NAMESPACE", metav1.NamespaceDefault)
	env.PutNode("a", map[string]string{hostKey: "h1"})
	env.PutNode("b", map[string]string{hostKey: "h2"})
	ours := metav1.ListOptions{LabelSelector: "csi.storage.k8s.io/drivername=" + env.DriverName}
	api := env.Admin.StorageV1().CSIStorageCapacities(metav1.NamespaceDefault)
	count := func(what string, want int) {
		t.Helper()
		env.Eventually(what, func() error {
			list, err := api.List(env.Ctx, ours)
			if err != nil || len(list.Items) != want {
				return fmt.Errorf("there are %d objects (%v), want %d", len(list.Items), err, want)
			}
			return nil
		})
	}
	p := env.StartProvisioner(capacityArgs("--capacity-poll-interval=50ms")...)
	count("both places have an object", 2)
	list, err := api.List(env.Ctx, ours)
	if err != nil || list.Items[0].Capacity.Sign() != 1 {
		t.Fatalf("the demo driver says %v (%v)", list.Items, err)
	}
	_, err = api.Patch(env.Ctx, list.Items[0].Name, types.MergePatchType, []byte(`{"capacity":"0"}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	env.Eventually("it may be changed", func() error {
		object, err := api.Get(env.Ctx, list.Items[0].Name, metav1.GetOptions{})
		if err != nil || object.Capacity.IsZero() {
			return fmt.Errorf("it is not: %w", err)
		}
		return nil
	})
	env.Unregister("b")
	count("it may be deleted", 1)
	p.Stop()
	if err := api.DeleteCollection(env.Ctx, metav1.DeleteOptions{}, ours); err != nil {
		t.Error(err)
	}
}

// What others do to the objects is undone, what is not ours is left alone.
func TestCapacityObjectsAreKeptTrue(t *testing.T) {
	t.Parallel()
	env, room := publishing(t, placed())
	env.PutNode("a", map[string]string{hostKey: "h1"})
	room.set("host=h1", 5*gi)
	ours := map[string]string{"csi.storage.k8s.io/drivername": env.DriverName, "csi.storage.k8s.io/managed-by": "external-provisioner"}
	object := func(name, class string, labels map[string]string, topology *metav1.LabelSelector) *storagev1.CSIStorageCapacity {
		return &storagev1.CSIStorageCapacity{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: env.Namespace, Labels: labels}, StorageClassName: class, NodeTopology: topology,
			Capacity: resource.NewQuantity(1, resource.BinarySI),
		}
	}
	create := func(o *storagev1.CSIStorageCapacity) {
		t.Helper()
		if _, err := env.Admin.StorageV1().CSIStorageCapacities(env.Namespace).Create(env.Ctx, o, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	at := func(value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{hostKey: value}}
	}
	remove := func(name string) {
		t.Helper()
		if err := env.Admin.StorageV1().CSIStorageCapacities(env.Namespace).Delete(env.Ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	// What a provisioner before has left: one to be taken over, and what is not wanted.
	create(object("kept", env.Class, ours, at("h1")))
	create(object("kept-too-many", env.Class, ours, at("h1")))
	create(object("old-place", env.Class, ours, at("gone")))
	create(object("old-class", "gone", ours, at("h1")))
	create(object("nowhere", env.Class, ours, nil))
	create(object("odd", env.Class, ours, &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: hostKey, Operator: metav1.LabelSelectorOpExists}}}))
	create(object("foreign", env.Class, nil, at("h1")))
	env.StartProvisioner(capacityArgs()...)
	foreign := "CLASS [host=h1] 1"
	waitPublished(t, env, "one object is left, and that of others", "CLASS [host=h1] 5Gi", foreign)
	kept := env.Capacities()
	slices.SortFunc(kept, func(a, b storagev1.CSIStorageCapacity) int { return strings.Compare(a.Name, b.Name) })
	if kept[0].Name != "foreign" || kept[1].Name != "kept" {
		t.Fatalf("kept are %s and %s", kept[0].Name, kept[1].Name)
	}

	env.ChangeCapacity("kept", `{"capacity":"1Ti","metadata":{"annotations":{"a":"b"}}}`)
	waitPublished(t, env, "a change is undone", "CLASS [host=h1] 5Gi", foreign)
	env.ChangeCapacity("kept", `{"metadata":{"labels":{"csi.storage.k8s.io/managed-by":null}}}`)
	waitPublished(t, env, "one that is not ours any more has a successor", "CLASS [host=h1] 5Gi", "CLASS [host=h1] 5Gi", foreign)
	remove("kept")
	for _, o := range env.Capacities() {
		if o.Name != "foreign" {
			remove(o.Name)
		}
	}
	waitPublished(t, env, "one that is deleted is made again", "CLASS [host=h1] 5Gi", foreign)
	create(object("second", env.Class, ours, at("h1")))
	waitPublished(t, env, "a second one goes", "CLASS [host=h1] 5Gi", foreign)
	if asked := len(env.Faults.Calls("GetCapacity")); asked != 1 {
		t.Errorf("the driver was asked %d times, want once: nothing has happened to it", asked)
	}
}
