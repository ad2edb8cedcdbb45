package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// stale is how many objects the provisioner could not bring up to date.
func stale(p *kit.Provisioner) float64 {
	return p.Metric("csi_clone_provisioner_csistoragecapacities_stale")
}

// C-1: while the driver fails, polls come on top of retries, and there is no more to do
// for all that. C-7: what is published stays, and that it is old is told.
func TestCapacityThatCannotBeHadDoesNotPileUp(t *testing.T) {
	t.Parallel()
	env, room := publishing(t, placed())
	env.PutNode("a", map[string]string{hostKey: "h1"})
	env.PutNode("b", map[string]string{hostKey: "h2"})
	p := env.StartProvisioner(capacityArgs("--capacity-poll-interval=20ms", "--capacity-threads=4")...)
	before := []string{"CLASS [host=h1] 1Gi", "CLASS [host=h2] 1Gi"}
	waitPublished(t, env, "there are two objects", before...)
	room.change(func() { room.broken, room.usual = true, 2*gi })
	asked := len(env.Faults.Calls("GetCapacity"))
	env.Eventually("the driver has failed many times", func() error {
		if now := len(env.Faults.Calls("GetCapacity")); now < asked+100 {
			return fmt.Errorf("%d times", now-asked)
		}
		return nil
	})
	if depth := p.Metric("workqueue_depth", "name", "csistoragecapacity"); depth > 3 {
		t.Errorf("%v things are queued for two objects", depth)
	}
	if got := stale(p); got != 2 {
		t.Errorf("%v objects are known to be old, want 2", got)
	}
	if got := publishedTexts(env); !slices.Equal(got, before) {
		t.Errorf("published is %v", got)
	}
	if told := strings.Count(p.Log(), `"Capacity could not be brought up to date; what is published stays`); told != 1 {
		t.Errorf("that is an error in the log %d times, want once", told)
	}

	// While a call is under way nobody makes the same, whatever comes.
	held := make(chan struct{})
	room.change(func() { room.hold = held })
	env.Eventually("both are being asked about", func() error {
		var under int
		room.change(func() { under = room.now["host=h1"] + room.now["host=h2"] })
		if under != 2 {
			return fmt.Errorf("%d calls are under way", under)
		}
		return nil
	})
	env.Steadily("no more calls are made", 500*time.Millisecond, func() error {
		var most int
		room.change(func() { most = room.most })
		if most > 1 {
			return fmt.Errorf("%d calls at once are about the same", most)
		}
		return nil
	})
	room.change(func() { room.hold, room.broken = nil, false })
	close(held)
	waitPublished(t, env, "the driver has recovered", "CLASS [host=h1] 2Gi", "CLASS [host=h2] 2Gi")
	env.Eventually("nothing is old", func() error {
		if got := stale(p); got != 0 {
			return fmt.Errorf("%v objects are", got)
		}
		return nil
	})
}

// C-7: a driver without GET_CAPACITY is not asked, and leaves nothing behind.
func TestCapacityOfADriverThatCannotTell(t *testing.T) {
	t.Parallel()
	env, _ := publishing(t, kit.DriverConfig(func(c *demodriver.Config) {
		c.Without = []csi.ControllerServiceCapability_RPC_Type{csi.ControllerServiceCapability_RPC_GET_CAPACITY}
	}))
	env.CreateClass(env.Class + "-now")
	left := &storagev1.CSIStorageCapacity{
		ObjectMeta: metav1.ObjectMeta{Name: "left", Namespace: env.Namespace, Labels: map[string]string{
			"csi.storage.k8s.io/drivername": env.DriverName, "csi.storage.k8s.io/managed-by": "external-provisioner",
		}},
		StorageClassName: env.Class, NodeTopology: &metav1.LabelSelector{},
	}
	if _, err := env.Admin.StorageV1().CSIStorageCapacities(env.Namespace).Create(env.Ctx, left, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p := env.StartProvisioner(capacityArgs("--capacity-poll-interval=20ms")...)
	waitPublished(t, env, "nothing is published")
	env.Create(env.Claim("data", kit.Class(env.Class+"-now")))
	env.WaitBound("data")
	if calls := env.Faults.Calls("GetCapacity"); len(calls) > 0 {
		t.Errorf("the driver was asked: %v", calls)
	}
	if told := strings.Count(p.Log(), "GET_CAPACITY"); told != 1 {
		t.Errorf("the log tells why %d times, want once", told)
	}
}

// C-9: without the rights the provisioner does everything else, and it needs no restart
// when they are granted.
func TestCapacityWithoutRights(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.WaitForFirstConsumer(), kit.WithRules(rbacv1.PolicyRule{APIGroups: []string{"x.example"}, Resources: []string{"nothing"}, Verbs: []string{"get"}}))
	env.AllowForbidden()
	env.Setenv("NAMESPACE", env.Namespace)
	env.CreateClass(env.Class + "-now")
	p := env.StartProvisioner(capacityArgs()...)
	env.Create(env.Claim("data", kit.Class(env.Class+"-now")))
	env.WaitBound("data")
	for _, words := range []string{"A rule of RBAC is missing", "resources: [csistoragecapacities]", "no capacity is published before it is granted"} {
		if !strings.Contains(p.Log(), words) {
			t.Errorf("the log does not say %q", words)
		}
	}
	parts := strings.Split(env.User(), ":")
	subject := rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: parts[2], Name: parts[3]}
	meta := metav1.ObjectMeta{Name: "capacity", Namespace: env.Namespace}
	_, errRole := env.Admin.RbacV1().Roles(env.Namespace).Create(env.Ctx, &rbacv1.Role{ObjectMeta: meta, Rules: capacityRules(t)}, metav1.CreateOptions{})
	_, errBinding := env.Admin.RbacV1().RoleBindings(env.Namespace).Create(env.Ctx, &rbacv1.RoleBinding{
		ObjectMeta: meta, Subjects: []rbacv1.Subject{subject}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "capacity"},
	}, metav1.CreateOptions{})
	if errRole != nil || errBinding != nil {
		t.Fatal(errRole, errBinding)
	}
	env.Eventually("there is an object", func() error {
		if got := publishedTexts(env); len(got) != 1 {
			return fmt.Errorf("published is %v", got)
		}
		return nil
	})
}

// F-5: a limit for capacity holds up nothing but capacity.
func TestTheLimitForCapacityIsForCapacityAlone(t *testing.T) {
	t.Parallel()
	env, _ := publishing(t, placed())
	for i := range 3 {
		env.PutNode(fmt.Sprint("n", i), map[string]string{zoneKey: "z1", hostKey: fmt.Sprint("h", i)})
	}
	env.CreateClass(env.Class + "-now")
	p := env.StartProvisioner(capacityArgs("--kube-api-capacity-qps=0.001", "--kube-api-capacity-burst=2", "--immediate-topology=false")...)
	env.Create(env.Claim("data", kit.Class(env.Class+"-now")))
	env.WaitBound("data")
	for range 3 {
		last := env.Lease().Spec.RenewTime
		env.Eventually("the lease is renewed", func() error {
			if now := env.Lease().Spec.RenewTime; now.Equal(last) {
				return fmt.Errorf("it was renewed at %s", now)
			}
			return nil
		})
	}
	if got := len(env.Capacities()); got >= 3 {
		t.Errorf("there are %d objects, which the limit should not allow", got)
	}
	leave(env, "data") // and its PV, which needs the provisioner
	if code := p.Stop(); code != 0 {
		t.Errorf("it ended with code %d", code)
	}
}
