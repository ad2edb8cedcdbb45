package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	authorizationv1 "k8s.io/api/authorization/v1"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// The tests in this file are of the kit itself, where it needs a cluster to be
// tried: that what it makes is accepted, stays, and goes.

// podNow returns a pod, nil if there is none.
func podNow(t *testing.T, env *kit.Env, namespace, name string) *v1.Pod {
	t.Helper()
	pod, err := env.Admin.CoreV1().Pods(namespace).Get(env.Ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

func TestKitPodsStayEndAndGo(t *testing.T) {
	t.Parallel()
	env := kit.New(t) // no provisioner: a claim need not be bound to be in use
	other := env.Namespace + "-other"
	env.AddNamespace(other)
	env.Create(env.Claim("data"), env.Claim("more"), env.Claim("far", kit.InNamespace(other)))
	env.CreatePod(
		env.Pod("user", kit.OnNode("a"), kit.Mounts("data", "more")),
		env.Pod("other", kit.PodInNamespace(other), kit.OnNode(env.CreateNode("a")), kit.Mounts("far")),
		env.Pod("scratch", kit.OnNode("b"), kit.MountsEphemeral("work", env.Claim("").Spec)),
		env.Pod("nowhere"))
	// This one's node does not exist: when the cluster has removed it, it has looked
	// at the others, too.
	lost := env.Pod("lost")
	lost.Spec.NodeName = env.Namespace + "-none"
	if _, err := env.Admin.CoreV1().Pods(env.Namespace).Create(env.Ctx, lost, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	env.Eventually("the ephemeral volume has its claim", func() error {
		_, err := env.Admin.CoreV1().PersistentVolumeClaims(env.Namespace).Get(env.Ctx, "scratch-work", metav1.GetOptions{})
		return err
	})
	if owner := metav1.GetControllerOf(env.Get("scratch-work")); owner == nil || owner.Kind != "Pod" || owner.Name != "scratch" {
		t.Errorf("the claim of the ephemeral volume belongs to %v, want pod scratch", owner)
	}
	env.Delete("data", other+"/far")
	env.Eventually("the pod without a node is removed", func() error {
		if podNow(t, env, env.Namespace, "lost") != nil {
			return fmt.Errorf("it is still there")
		}
		return nil
	})
	for name, node := range map[string]string{"user": "-a", "scratch": "-b", "nowhere": ""} {
		pod := podNow(t, env, env.Namespace, name)
		switch {
		case pod == nil || pod.DeletionTimestamp != nil:
			t.Errorf("pod %s did not stay", name)
		case strings.TrimPrefix(pod.Spec.NodeName, env.Namespace) != node:
			t.Errorf("pod %s is on node %q", name, pod.Spec.NodeName)
		}
	}
	for _, claim := range []string{"data", other + "/far"} {
		if env.Get(claim).DeletionTimestamp == nil {
			t.Errorf("claim %s is not being deleted", claim)
		}
	}

	env.EndPod("user", v1.PodSucceeded)
	env.EndPod(other+"/other", v1.PodFailed)
	if phase := podNow(t, env, env.Namespace, "user").Status.Phase; phase != v1.PodSucceeded {
		t.Errorf("pod user is %s, want Succeeded", phase)
	}
	env.DeletePod("user")
	env.DeletePod(other + "/other")
	env.DeletePod("scratch")
	env.WaitGone("data", other+"/far", "scratch-work")
}

func TestKitAttachmentsHoldVolumes(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.Faults.On("ControllerGetCapabilities").MutateReply(faults.Reply(func(reply *csi.ControllerGetCapabilitiesResponse) {
		reply.Capabilities = append(reply.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{
				Type: csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
			}},
		})
	}))
	p := env.StartProvisioner()
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	pv := env.PV("data").Name
	attachment := env.Attach(pv, "a")
	if name := env.Attach(pv, "b"); name == attachment {
		t.Errorf("two attachments are called %s", name)
	} else {
		env.Detach(name)
	}
	env.Delete("data")
	env.WaitGone("data")
	env.Eventually("the volume is not deleted, for it is attached", func() error {
		if p.Metric("controller_persistentvolume_delete_failed_total") == 0 {
			return fmt.Errorf("nobody has tried")
		}
		return nil
	})
	if calls := env.Faults.Calls("DeleteVolume"); len(calls) > 0 {
		t.Errorf("the driver was called: %v", calls)
	}
	env.Detach(attachment)
	env.WaitPVGone(pv)
}

// crossNamespace starts a cluster of the test's own on which claims may name
// sources in other namespaces; ReferenceGrants are not installed.
func crossNamespace(t *testing.T) *kit.World {
	t.Helper()
	return kit.StartCluster(t, cluster.Options{
		AuditLog:      true,
		APIServerArgs: []string{"--feature-gates=CrossNamespaceVolumeDataSource=true"},
	})
}

// grantsOf returns the ReferenceGrants of a namespace.
func grantsOf(t *testing.T, env *kit.Env, namespace string) dynamic.ResourceInterface {
	t.Helper()
	client, err := dynamic.NewForConfig(env.Cluster.AdminConfig())
	if err != nil {
		t.Fatal(err)
	}
	return client.Resource(schema.GroupVersionResource{
		Group: "gateway.networking.k8s.io", Version: "v1beta1", Resource: "referencegrants",
	}).Namespace(namespace)
}

func TestKitOnAClusterOfItsOwn(t *testing.T) {
	t.Parallel()
	world := crossNamespace(t)
	t.Run("grants", func(t *testing.T) {
		t.Parallel()
		tryGrants(t, kit.New(t, kit.On(world)))
	})
	t.Run("classes", func(t *testing.T) {
		t.Parallel()
		tryClasses(t, kit.New(t, kit.On(world)))
	})
	for name, options := range map[string][]kit.Option{
		"shipped":   nil,
		"incumbent": {kit.As(kit.IncumbentRBAC)},
		"own":       {kit.WithoutRule("events", "patch")},
	} {
		t.Run("user of the "+name+" account", func(t *testing.T) {
			t.Parallel()
			tryUser(t, kit.New(t, append(options, kit.On(world))...))
		})
	}
}

func tryGrants(t *testing.T, env *kit.Env) {
	other := env.Namespace + "-other"
	env.AddNamespace(other)
	if _, err := grantsOf(t, env, other).List(env.Ctx, metav1.ListOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("before the CRD is installed the API server says %v, want not found", err)
	}
	env.InstallReferenceGrants()
	env.Grant(other, "all", env.Namespace, "")
	env.Grant(other, "one", env.Namespace, "src")
	const manifest = `{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "ReferenceGrant",
		"metadata": {"name": "newer", "namespace": "%s"}, "spec": {
		"from": [{"group": "", "kind": "PersistentVolumeClaim", "namespace": "x"}],
		"to": [{"group": "", "kind": "PersistentVolumeClaim"}]}}`
	newer := &unstructured.Unstructured{}
	if err := json.Unmarshal(fmt.Appendf(nil, manifest, other), newer); err != nil {
		t.Fatal(err)
	}
	env.GrantObject(newer)

	from := func(namespace string) string {
		return fmt.Sprintf(`{"from":[{"group":"","kind":"PersistentVolumeClaim","namespace":%q}],`, namespace)
	}
	want := map[string]string{
		"all":   from(env.Namespace) + `"to":[{"group":"","kind":"PersistentVolumeClaim"}]}`,
		"newer": from("x") + `"to":[{"group":"","kind":"PersistentVolumeClaim"}]}`,
		"one":   from(env.Namespace) + `"to":[{"group":"","kind":"PersistentVolumeClaim","name":"src"}]}`,
	}
	for name, spec := range want {
		grant, err := grantsOf(t, env, other).Get(env.Ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(grant.Object["spec"]); err != nil || string(got) != spec {
			t.Errorf("grant %s is %s (%v), want %s", name, got, err, spec)
		}
	}
	env.Revoke(other, "one")
	if _, err := grantsOf(t, env, other).Get(env.Ctx, "one", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after it was revoked the API server says %v, want not found", err)
	}

	// The API server drops the namespace without the gate.
	env.Create(env.Claim("copy", kit.CloneOfIn(other, "src")))
	if ref := env.Get("copy").Spec.DataSourceRef; ref == nil || ref.Namespace == nil || *ref.Namespace != other {
		t.Errorf("the source is %v, want one in namespace %s", ref, other)
	}
}

func tryClasses(t *testing.T, env *kit.Env) {
	env.StartProvisioner()
	env.DefaultClass(env.Class)
	env.Create(env.Claim("default", kit.NoClass()), env.Claim("beta", kit.BetaClass(env.Class)))
	env.WaitBound("default", "beta")
	if class := env.Get("default").Spec.StorageClassName; class == nil || *class != env.Class {
		t.Errorf("the claim without a class got %v, want the default", class)
	}
	if class := env.Get("beta").Spec.StorageClassName; class != nil {
		t.Errorf("the claim with the annotation has class %q, too", *class)
	}
}

// tryUser looks for a request that every account may make.
func tryUser(t *testing.T, env *kit.Env) {
	env.StartProvisioner()
	env.Create(env.Claim("copy", kit.CloneOf("nothing")))
	env.WaitEvent("copy", "CloneSourceNotFound")
	env.Eventually("the audit log names the user", func() error {
		lines := requests(t, env)
		for _, line := range lines {
			if line.what() == "create events" && line.Response.Code == http.StatusCreated && line.Object.Namespace == env.Namespace {
				return nil
			}
		}
		return fmt.Errorf("of %s there are these: %v", env.User(), lines)
	})
}

// question is one about a right: verb, resource with its group, and whether the
// answer is to be yes.
type question struct {
	verb, resource string
	yes            bool
}

// askRights asks the API server, as the test's account, what it may do. Leases
// and what else belongs to the Role is asked about in the account's namespace.
func askRights(t *testing.T, env *kit.Env, questions ...question) {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", env.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range questions {
		resource, group, _ := strings.Cut(q.resource, ".")
		namespace := ""
		if strings.HasPrefix(resource, "leases") || resource == "pods" {
			namespace = "default"
		}
		answer, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(env.Ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: namespace, Group: group, Resource: resource, Verb: q.verb,
			}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if answer.Status.Allowed != q.yes {
			t.Errorf("may %s %s %s: %t, want %t", env.User(), q.verb, q.resource, answer.Status.Allowed, q.yes)
		}
	}
}

func TestKitAccountsHaveTheirRights(t *testing.T) {
	t.Parallel()
	secrets := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"}}
	cases := map[string]struct {
		options   []kit.Option
		user      string
		questions []question
	}{
		"shipped": {nil, "csi-clone-provisioner", []question{
			{"patch", "persistentvolumeclaims", true}, {"update", "persistentvolumeclaims", false},
			{"update", "leases.coordination.k8s.io", true}, {"get", "secrets", false},
		}},
		"incumbent": {[]kit.Option{kit.As(kit.IncumbentRBAC)}, "csi-provisioner", []question{
			{"update", "persistentvolumeclaims", true}, {"patch", "persistentvolumeclaims", false},
			{"patch", "persistentvolumes", true}, {"update", "volumesnapshots.snapshot.storage.k8s.io", true},
			{"get", "volumesnapshotcontents.snapshot.storage.k8s.io", true}, {"watch", "volumesnapshotcontents.snapshot.storage.k8s.io", false},
			{"list", "csinodes.storage.k8s.io", true}, {"list", "nodes", true}, {"patch", "events", true},
			{"update", "leases.coordination.k8s.io", true}, {"get", "pods", true}, {"list", "pods", false},
			{"get", "secrets", false}, {"get", "referencegrants.gateway.networking.k8s.io", false},
		}},
		"without one verb": {[]kit.Option{kit.WithoutRule("persistentvolumes", "delete")}, "csi-clone-provisioner-{id}", []question{
			{"delete", "persistentvolumes", false}, {"create", "persistentvolumes", true}, {"list", "volumeattachments.storage.k8s.io", true},
		}},
		"without a resource": {[]kit.Option{kit.WithoutRule("leases")}, "csi-clone-provisioner-{id}", []question{
			{"get", "leases.coordination.k8s.io", false}, {"list", "persistentvolumes", true},
		}},
		"with more than the incumbent": {[]kit.Option{kit.As(kit.IncumbentRBAC), kit.WithRules(secrets)}, "csi-provisioner-{id}", []question{
			{"get", "secrets", true}, {"list", "secrets", false}, {"patch", "persistentvolumeclaims", false}, {"get", "leases.coordination.k8s.io", true},
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := kit.New(t, c.options...)
			if want := "system:serviceaccount:default:" + strings.ReplaceAll(c.user, "{id}", env.Namespace); env.User() != want {
				t.Errorf("user is %s, want %s", env.User(), want)
			}
			askRights(t, env, c.questions...)
		})
	}
}

func TestKitAMissingRuleIsMissed(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.WithoutRule("events"))
	env.AllowForbidden()
	p := env.StartProvisioner()
	env.Create(env.Claim("copy", kit.CloneOf("nothing")))
	env.Eventually("the provisioner is denied events", func() error {
		for line := range strings.Lines(p.Log()) {
			if strings.Contains(line, env.User()) && strings.Contains(line, "cannot create resource") && strings.Contains(line, "events") {
				return nil
			}
		}
		return fmt.Errorf("its log does not say so")
	})
	if n := env.CountEvents("copy", "CloneSourceNotFound"); n != 0 {
		t.Errorf("there are %d events nevertheless", n)
	}
}

func TestKitLeavesNothingForOtherTests(t *testing.T) {
	var look []func(ctx context.Context, admin kubernetes.Interface) error
	left := func(what string, get func(ctx context.Context, admin kubernetes.Interface) error) {
		look = append(look, func(ctx context.Context, admin kubernetes.Interface) error {
			if err := get(ctx, admin); !apierrors.IsNotFound(err) {
				return fmt.Errorf("%s: %v, want not found", what, err)
			}
			return nil
		})
	}
	var admin kubernetes.Interface
	t.Run("a test that leaves everything", func(t *testing.T) {
		env := kit.New(t, kit.WithRules())
		admin = env.Admin
		env.StartProvisioner()
		env.Create(env.Claim("data"))
		env.WaitBound("data")
		pv := env.PV("data").Name
		node := env.CreateNode("a")
		env.CreatePod(env.Pod("user", kit.OnNode(node), kit.Mounts("data")))
		attachment := env.Attach(pv, node)
		env.Delete("data")

		account := strings.TrimPrefix(env.User(), "system:serviceaccount:default:")
		opts := metav1.GetOptions{}
		left("pod", func(ctx context.Context, admin kubernetes.Interface) error {
			_, err := admin.CoreV1().Pods(env.Namespace).Get(ctx, "user", opts)
			return err
		})
		left("node", func(ctx context.Context, admin kubernetes.Interface) error {
			_, err := admin.CoreV1().Nodes().Get(ctx, node, opts)
			return err
		})
		left("attachment", func(ctx context.Context, admin kubernetes.Interface) error {
			_, err := admin.StorageV1().VolumeAttachments().Get(ctx, attachment, opts)
			return err
		})
		left("account", func(ctx context.Context, admin kubernetes.Interface) error {
			_, err := admin.CoreV1().ServiceAccounts("default").Get(ctx, account, opts)
			return err
		})
		left("cluster role", func(ctx context.Context, admin kubernetes.Interface) error {
			_, err := admin.RbacV1().ClusterRoles().Get(ctx, account, opts)
			return err
		})
		left("role binding", func(ctx context.Context, admin kubernetes.Interface) error {
			_, err := admin.RbacV1().RoleBindings("default").Get(ctx, account, opts)
			return err
		})
	})
	for _, check := range look {
		if err := check(t.Context(), admin); err != nil {
			t.Error(err)
		}
	}
}

func TestKitChangesTheStatusOfAClaim(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.Create(env.Claim("data", kit.Ref("src")))
	pending := v1.PersistentVolumeClaimCondition{Type: v1.PersistentVolumeClaimFileSystemResizePending, Status: v1.ConditionTrue}
	env.UpdateStatus("data", func(claim *v1.PersistentVolumeClaim) {
		claim.Spec.VolumeName = "not-saved"
		claim.Status.Conditions = append(claim.Status.Conditions, pending)
	})
	claim := env.Get("data")
	if conditions := claim.Status.Conditions; !slices.Contains(conditions, pending) {
		t.Errorf("conditions are %v, want %v among them", conditions, pending)
	}
	if name := claim.Spec.VolumeName; name != "" {
		t.Errorf("volumeName %q was saved, too", name)
	}
	// The API server fills in the older field.
	if source := claim.Spec.DataSource; source == nil || source.Name != "src" {
		t.Errorf("dataSource is %v, want src", source)
	}
}

func TestKitTellsWhatAProvisionerUses(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	p := env.StartProvisioner()
	// The program says the same of itself.
	before := p.Metric("process_cpu_seconds_total")
	cpu := p.CPU().Seconds()
	after := p.Metric("process_cpu_seconds_total")
	if cpu <= 0 || cpu < before-0.01 || cpu > after+0.01 {
		t.Errorf("processor time is %.2f s, by its own metric between %.2f s and %.2f s", cpu, before, after)
	}
	rss, own := float64(p.RSS()), p.Metric("process_resident_memory_bytes")
	if rss < own/2 || rss > own*2 {
		t.Errorf("memory is %.0f bytes, by its own metric %.0f", rss, own)
	}
}

func TestKitDoesNotTakeAnEventOfThePVControllerForOneOfTheProvisioner(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.Create(env.Claim("data", kit.Class(env.Class+"-none")))
	env.Eventually("the PV controller says that there is no such class", func() error {
		for _, event := range env.Events("data") {
			if event.Reason == "ProvisioningFailed" && event.Source.Component == "persistentvolume-controller" {
				return nil
			}
		}
		return errors.New("it does not")
	})
	if n := env.CountEvents("data", "ProvisioningFailed"); n != 0 {
		t.Errorf("claim has %d events of a provisioner that does not run", n)
	}
}
