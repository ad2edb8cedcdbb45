package integration

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// polled waits until the driver was asked about everything once more, several times.
func polled(env *kit.Env, calls int) {
	asked := len(env.Faults.Calls("GetCapacity"))
	env.Eventually("the driver was asked some more times", func() error {
		if now := len(env.Faults.Calls("GetCapacity")); now < asked+calls {
			return fmt.Errorf("%d times", now-asked)
		}
		return nil
	})
}

// While the cache is behind, what is in it is not written back: a conflict is met once,
// an object that has just been made is not made again, and one that is gone is made
// again when that is known.
func TestCapacityWhileTheCacheIsBehind(t *testing.T) {
	t.Parallel()
	env, room := publishing(t, placed())
	gateway := env.Gateway()
	const resource = "csistoragecapacities"
	// An update is seen in the API before its answer is on record: until then it is 0.
	answers := func(verb string) (list []int) {
		for _, request := range gateway.Requests(verb, resource) {
			list = append(list, request.Status)
		}
		return list
	}
	env.PutNode("a", map[string]string{hostKey: "h1"})
	env.StartProvisioner(capacityArgs("--capacity-poll-interval=100ms")...)
	waitPublished(t, env, "there is one object", "CLASS [host=h1] 1Gi")
	name := env.Capacities()[0].Name

	stall := gateway.Stall(resource)
	env.ChangeCapacity(name, `{"metadata":{"annotations":{"of":"others"}}}`)
	room.set("host=h1", 2*gi)
	waitPublished(t, env, "the live object is changed", "CLASS [host=h1] 2Gi")
	polled(env, 5)
	room.set("host=h1", 3*gi)
	waitPublished(t, env, "it is changed again", "CLASS [host=h1] 3Gi")
	env.Eventually("one update conflicts and two are answered", func() error {
		want := []int{http.StatusConflict, http.StatusOK, http.StatusOK}
		if got := answers("update"); !slices.Equal(got, want) {
			return fmt.Errorf("updates are answered %v, want %v", got, want)
		}
		return nil
	})
	if got := env.Capacities()[0].Annotations["of"]; got != "others" {
		t.Errorf("what somebody else has written is %q now", got)
	}

	env.PutNode("b", map[string]string{hostKey: "h2"})
	waitPublished(t, env, "there is another one", "CLASS [host=h1] 3Gi", "CLASS [host=h2] 1Gi")
	polled(env, 10)
	if got := len(answers("create")); got != 2 {
		t.Errorf("%d objects were made, want 2", got)
	}
	if err := env.Admin.StorageV1().CSIStorageCapacities(env.Namespace).Delete(env.Ctx, name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	room.set("host=h1", 4*gi)
	env.Eventually("it is noticed that the object is gone", func() error {
		if got := answers("update"); got[len(got)-1] != http.StatusNotFound {
			return fmt.Errorf("updates are answered %v", got)
		}
		return nil
	})
	stall.Release()
	waitPublished(t, env, "it is made again", "CLASS [host=h1] 4Gi", "CLASS [host=h2] 1Gi")
	polled(env, 10)
	if got := len(answers("create")); got != 3 {
		t.Errorf("%d objects were made, want 3", got)
	}
}
