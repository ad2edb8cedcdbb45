package integration

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
)

const crossNamespaceGate = "--feature-gates=CrossNamespaceVolumeDataSource=true"

// TestSourcesInOtherNamespaces shares one cluster: its API server has the gate that
// the others lack, and the grants are installed while it runs.
func TestSourcesInOtherNamespaces(t *testing.T) {
	t.Parallel()
	world := crossNamespace(t)
	root, err := repo.Root()
	if err != nil {
		t.Fatal(err)
	}
	if err := world.Cluster.ApplyFile(t.Context(), filepath.Join(root, "deploy", "kubernetes", "rbac-cross-namespace.yaml")); err != nil {
		t.Fatal(err)
	}
	// The first part of this one is without grants, and nobody else runs.
	t.Run("grants are installed later", func(t *testing.T) { installGrantsLater(t, kit.New(t, kit.On(world))) })
	for name, try := range map[string]func(*testing.T, *kit.Env){
		"a grant that fits starts the clone":             startByGrant,
		"nobody learns whether a source exists":          hideSources,
		"a grant that goes stops what is not on record":  revokeBefore,
		"a grant that goes does not stop work on record": revokeDuring,
		"a source is held for a clone":                   holdAcross,
		"pods of the source's namespace are looked at":   usedAcross,
		"a record that somebody forged":                  forgeRecord,
		"a record that a dead process wrote":             restartBetween,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			try(t, kit.New(t, kit.On(world)))
		})
	}
	t.Run("the rule about grants is missing", func(t *testing.T) {
		t.Parallel()
		withoutRuleForGrants(t, kit.New(t, kit.On(world), kit.WithRules()))
	})
}

// grantRule is what rbac-cross-namespace.yaml grants.
func grantRule() rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{"gateway.networking.k8s.io"}, Resources: []string{"referencegrants"}, Verbs: []string{"list", "watch"}}
}

// prodOf makes a second namespace with a bound source "src", and returns its name.
func prodOf(env *kit.Env) string {
	prod := env.Namespace + "-prod"
	env.AddNamespace(prod)
	env.Create(env.Claim("src", kit.InNamespace(prod)))
	env.WaitBound(prod + "/src")
	env.WriteFile(prod+"/src", "file", []byte("content of production"))
	env.Eventually("the source is off record", func() error { return unmarked(env, prod+"/src") })
	return prod
}

// withProd starts a provisioner with the gate, and makes such a namespace.
func withProd(env *kit.Env, args ...string) (p *kit.Provisioner, prod string) {
	p = env.StartProvisioner(append([]string{crossNamespaceGate}, args...)...)
	return p, prodOf(env)
}

// notGranted is the event of a clone that waits for a grant.
func notGranted(env *kit.Env, namespace, source string) told {
	return told{"Normal", "CloneNotGranted", fmt.Sprintf(
		`clone waits for permission: no ReferenceGrant in namespace %q lets PersistentVolumeClaims of namespace %q use PVC %q; it starts by itself when one does`,
		namespace, env.Namespace, source)}
}

// waitsAcross is waitsFor for a source in another namespace.
func waitsAcross(t *testing.T, env *kit.Env, p *kit.Provisioner, source string, events ...told) {
	t.Helper()
	waitsFor(env, p, events...)
	if err := unmarked(env, source); err != nil {
		t.Error(err)
	}
}

func installGrantsLater(t *testing.T, env *kit.Env) {
	p, prod := withProd(env, noBackOff, noBackOffMax)
	bindSource()(t, env)
	env.Create(env.Claim("near", kit.CloneOf("src")), env.Claim("copy", kit.CloneOfIn(prod, "src")))
	env.WaitBound("near")
	env.Eventually("the clone waits", func() error { return heard(env, "copy", notGranted(env, prod, "src")) })
	if want := `"The API server has no ReferenceGrants; clones of sources in other namespaces wait until it has"`; strings.Count(p.Log(), want) != 1 {
		t.Errorf("the log does not say once %s", want)
	}
	env.InstallReferenceGrants()
	env.Grant(prod, "all", env.Namespace, "")
	granted := time.Now()
	t.Parallel() // from here on the other tests run, too
	env.WaitBound("copy")
	logDelays(t, env, granted, "the grant was created, right after its kind", "copy")
	sameContent(t, env, "copy", prod+"/src")
	leave(env, "src", prod+"/src")
}

// oddGrant is one from a kind to a kind.
func oddGrant(namespace, name string, from, to map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "gateway.networking.k8s.io/v1beta1",
		"kind":       "ReferenceGrant",
		"metadata":   map[string]any{"namespace": namespace, "name": name},
		"spec":       map[string]any{"from": []any{from}, "to": []any{to}},
	}}
}

func startByGrant(t *testing.T, env *kit.Env) {
	p, prod := withProd(env, noBackOff, noBackOffMax)
	bindSource()(t, env) // of the same name: it must not be taken for the other
	env.WriteFile("src", "file", []byte("not this one"))
	env.Create(env.Claim("copy", kit.CloneOfIn(prod, "src")))
	waiting := notGranted(env, prod, "src")
	waitsAcross(t, env, p, prod+"/src", waiting)

	claims := map[string]any{"group": "", "kind": "PersistentVolumeClaim"}
	from := func(group, kind, namespace string) map[string]any {
		return map[string]any{"group": group, "kind": kind, "namespace": namespace}
	}
	before := judgements(p, env, "copy")
	env.Grant(prod, "somebody-else", env.Namespace+"-x", "")
	env.Grant(prod, "another-name", env.Namespace, "other")
	env.GrantObject(oddGrant(prod, "from-another-kind", from("", "Service", env.Namespace), claims))
	env.GrantObject(oddGrant(prod, "from-another-group", from("example.com", "PersistentVolumeClaim", env.Namespace), claims))
	env.GrantObject(oddGrant(prod, "to-another-kind", from("", "PersistentVolumeClaim", env.Namespace), map[string]any{"group": "", "kind": "Secret"}))
	env.GrantObject(oddGrant(prod, "to-another-group", from("", "PersistentVolumeClaim", env.Namespace), map[string]any{"group": "example.com", "kind": "PersistentVolumeClaim"}))
	env.Grant(env.Namespace, "at-the-wrong-end", env.Namespace, "")
	env.Eventually("the clone was judged for grants that do not fit", func() error { return judged(p, env, "copy", before+1) })
	waitsAcross(t, env, p, prod+"/src", waiting)

	grant, err := grantsOf(t, env, prod).Get(env.Ctx, "another-name", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := unstructured.SetNestedSlice(grant.Object, []any{map[string]any{"group": "", "kind": "PersistentVolumeClaim", "name": "src"}}, "spec", "to"); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if _, err := grantsOf(t, env, prod).Update(env.Ctx, grant, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	startsAfter(t, env, begun, "a grant was changed to fit", "copy")
	sameContent(t, env, "copy", prod+"/src")
	if got, want := requestFor(t, env, "copy").GetVolumeContentSource().GetVolume().GetVolumeId(), env.PV(prod+"/src").Spec.CSI.VolumeHandle; got != want {
		t.Errorf("content source is %q, want %q", got, want)
	}
	hearAll(env, "copy", append(made(env, "copy"), waiting)...)
	leave(env, "src", prod+"/src")
}

func hideSources(t *testing.T, env *kit.Env) {
	p, prod := withProd(env, noBackOff, noBackOffMax)
	env.Create(env.Claim("copy", kit.CloneOfIn(prod, "later")))
	waiting := notGranted(env, prod, "later")
	waitsFor(env, p, waiting)
	env.Create(env.Claim("later", kit.InNamespace(prod)))
	env.WaitBound(prod + "/later")
	waitsAcross(t, env, p, prod+"/later", waiting)
	env.Delete(prod + "/later")
	env.WaitGone(prod + "/later")
	waitsFor(env, p, waiting)

	env.Grant(prod, "all", env.Namespace, "")
	missing := waitingFor(prod + "/later")
	waitsFor(env, p, waiting, missing)
	env.Create(env.Claim("later", kit.InNamespace(prod)))
	begun := time.Now()
	startsAfter(t, env, begun, "the source was created", "copy")
	// One's own namespace may be named, and needs no grant.
	bindSource()(t, env)
	env.Create(env.Claim("near", kit.CloneOfIn(env.Namespace, "src")))
	env.WaitBound("near")
	hearAll(env, "near", made(env, "near")...)
	leave(env, "src", prod+"/src", prod+"/later")
}

func revokeBefore(t *testing.T, env *kit.Env) {
	p, prod := withProd(env, noBackOff, noBackOffMax)
	env.Grant(prod, "one", env.Namespace, "")
	env.Grant(prod, "two", env.Namespace, "late")
	gate := env.Faults.On("CreateVolume").When(func(req any) bool { return !ofClones(req) }).Gate()
	env.Create(env.Claim("late", kit.InNamespace(prod)), env.Claim("copy", kit.CloneOfIn(prod, "late")))
	pending := told{"Normal", "CloneSourceNotBound", fmt.Sprintf(`clone waits until source PVC "%s/late" is bound (it is Pending); it then starts by itself`, prod)}
	waiting := notGranted(env, prod, "late")
	env.Eventually("the clone waits for its source", func() error { return heardOnce(env, "copy", pending) })
	await(t, gate.Entered(), "the source is being made")
	early := said(env, "copy") // the grants may have come after the claim
	judge := func(name string) {
		before := judgements(p, env, "copy")
		env.Revoke(prod, name)
		env.Eventually("the clone is judged again", func() error { return judged(p, env, "copy", before+1) })
	}
	judge("one")
	env.Steadily("the other grant is enough", 300*time.Millisecond, func() error {
		if now := said(env, "copy"); len(now) != len(early) {
			return fmt.Errorf("there are %d events, there were %d", len(now), len(early))
		}
		return nil
	})
	judge("two")
	env.Eventually("the clone waits for a grant", func() error { return heardAll(env, "copy", pending, waiting) })
	gate.Release()
	env.WaitBound(prod + "/late")
	env.Eventually("the source is off record", func() error { return unmarked(env, prod+"/late") })
	waitsAcross(t, env, p, prod+"/late", pending, waiting)
	begun := time.Now()
	env.Grant(prod, "three", env.Namespace, "late")
	startsAfter(t, env, begun, "another grant was created", "copy")
	leave(env, prod+"/src", prod+"/late")
}

func revokeDuring(t *testing.T, env *kit.Env) {
	_, prod := withProd(env, "--timeout=2m")
	env.Grant(prod, "all", env.Namespace, "")
	clones := env.Faults.On("CreateVolume").When(ofClones)
	gate := clones.Nth(1).Gate()
	env.Create(env.Claim("hanging", kit.CloneOfIn(prod, "src")))
	await(t, gate.Entered(), "the driver is called")
	clones.Next(3).Fail(codes.ResourceExhausted, "no room")
	env.Create(env.Claim("failing", kit.CloneOfIn(prod, "src")))
	env.WaitEvent("failing", "ProvisioningFailed")
	env.Revoke(prod, "all")
	// When this one waits, the provisioner knows.
	env.Create(env.Claim("copy", kit.CloneOfIn(prod, "src")))
	env.Eventually("a third clone waits", func() error { return heard(env, "copy", notGranted(env, prod, "src")) })
	env.WaitBound("failing")
	if src := env.Get(prod + "/src"); !slices.Contains(src.Finalizers, cloningProtection) {
		t.Errorf("finalizers of the source are %v while the driver is called, want %s among them", src.Finalizers, cloningProtection)
	}
	gate.Release()
	env.WaitBound("hanging")
	for _, clone := range []string{"hanging", "failing"} {
		sameContent(t, env, clone, prod+"/src")
		if n := env.CountEvents(clone, "CloneNotGranted"); n != 0 {
			t.Errorf("%d events say that clone %q waits for a grant", n, clone)
		}
	}
	if calls := callsFor(env, "copy"); len(calls) > 0 {
		t.Errorf("the driver was called for a clone without a grant: %v", calls[0].Request)
	}
	leave(env, prod+"/src")
}

func holdAcross(t *testing.T, env *kit.Env) {
	_, prod := withProd(env, "--timeout=2m")
	env.Grant(prod, "all", env.Namespace, "src")
	content := env.Checksum(prod + "/src")
	gate := gateClones(env)
	env.Create(env.Claim("copy", kit.CloneOfIn(prod, "src")))
	await(t, gate.Entered(), "the driver is called")
	if src := env.Get(prod + "/src"); !slices.Contains(src.Finalizers, cloningProtection) {
		t.Errorf("finalizers of the source are %v while the driver is called, want %s among them", src.Finalizers, cloningProtection)
	}
	env.Revoke(prod, "all") // makes no difference
	env.Delete(prod + "/src")
	held := told{"Normal", "CloneSourceHeld", fmt.Sprintf(
		`deletion of source PVC "src" waits for clones being made of it (first: "%s/copy"); nothing to do`, env.Namespace)}
	env.Eventually("the source tells why it stays", func() error { return heardOnce(env, prod+"/src", held) })
	env.Steadily("the source stays", 500*time.Millisecond, func() error {
		if src := env.Get(prod + "/src"); src.DeletionTimestamp == nil || !slices.Contains(src.Finalizers, cloningProtection) {
			return fmt.Errorf("its finalizers are %v", src.Finalizers)
		}
		return nil
	})
	gate.Release()
	env.WaitBound("copy")
	begun := time.Now()
	env.WaitGone(prod + "/src")
	t.Logf("the source was gone %s after its clone was bound", time.Since(begun).Round(time.Millisecond))
	if got := env.Checksum("copy"); got != content {
		t.Errorf("checksum of the clone is %s, of the source it was %s", got, content)
	}
}

func usedAcross(t *testing.T, env *kit.Env) {
	p, prod := withProd(env, noBackOff, noBackOffMax)
	bindSource()(t, env)
	env.Grant(prod, "all", env.Namespace, "")
	env.CreatePod(
		env.Pod("near", kit.OnNode("a"), kit.Mounts("src")), // does not matter
		env.Pod("app", kit.PodInNamespace(prod), kit.OnNode("a"), kit.Mounts("src")),
		env.Pod("then", kit.PodInNamespace(prod), kit.OnNode("b"), kit.Mounts("src")))
	env.Create(env.Claim("copy", kit.CloneOfIn(prod, "src")))
	first, second, waiting := mounted(env, prod+"/src", "app", "a"), mounted(env, prod+"/src", "then", "b"), notGranted(env, prod, "src")
	waitsAcross(t, env, p, prod+"/src", first)
	// Who waits for a pod waits for a grant that goes, too.
	env.Revoke(prod, "all")
	waitsAcross(t, env, p, prod+"/src", first, waiting)
	env.DeletePod(prod + "/app")
	waitsAcross(t, env, p, prod+"/src", first, waiting)
	env.Grant(prod, "again", env.Namespace, "src")
	waitsAcross(t, env, p, prod+"/src", first, waiting, second)
	begun := time.Now()
	env.DeletePod(prod + "/then")
	startsAfter(t, env, begun, "the last pod was gone", "copy")
	hearAll(env, "copy", append(made(env, "copy"), first, waiting, second)...)
	leaveAll(t, env, "src", prod+"/src")
}

// forgeRecord is about a user of one namespace who wants what is in another.
func forgeRecord(t *testing.T, env *kit.Env) {
	p, prod := withProd(env)
	env.Create(env.Claim("kept", kit.InNamespace(prod)))
	env.WaitBound(prod + "/kept")
	env.WriteFile(prod+"/kept", "file", []byte("kept"))
	env.Eventually("the other source is off record", func() error { return unmarked(env, prod+"/kept") })
	prefix := env.DriverName + "/"
	forge := func(name, source string) {
		pv := env.PV(prod + "/" + source).Name
		env.Create(env.Claim(name, kit.CloneOfIn(prod, source), kit.Finalizer(prefix+"provisioning"),
			kit.Annotation(prefix+"volume-name", pv), kit.Annotation(prefix+"required-bytes", "1073741824")))
	}
	forge("forged", "src")
	forge("second", "kept")
	for name, source := range map[string]string{"forged": "src", "second": "kept"} {
		event := env.WaitEvent(name, "CloneNotGranted")
		if want := notGranted(env, prod, source).message; event.Message != want {
			t.Errorf("event is %q, want %q", event.Message, want)
		}
	}
	harmless := func() error {
		if calls := cloneCalls(env); len(calls) > 0 {
			return fmt.Errorf("the driver was called: %v", calls[0].Request)
		}
		return unmarked(env, prod+"/kept")
	}
	env.Steadily("nothing is done", 2*time.Second, harmless)
	// A new process believes no more.
	p.Kill()
	env.StartProvisioner(crossNamespaceGate)
	env.Create(env.Claim("later")) // when this one is through, the others were looked at
	env.WaitBound("later")
	env.Steadily("nothing is done by another process", time.Second, harmless)

	env.Delete(prod + "/src")
	begun := time.Now()
	env.WaitGone(prod + "/src")
	t.Logf("the source was gone %s after its deletion", time.Since(begun).Round(time.Millisecond))
	if err := harmless(); err != nil {
		t.Error(err)
	}
	env.Delete("forged", "second")
	env.WaitGone("forged", "second")
	// What a forger gets are blank volumes that go at once.
	if err := harmless(); err != nil {
		t.Error(err)
	}
	env.Eventually("only two volumes are left", func() error { return volumes(env, 2) })
	if got := string(env.ReadFile(prod+"/kept", "file")); got != "kept" {
		t.Errorf("the source that was left has content %q", got)
	}
}

func restartBetween(t *testing.T, env *kit.Env) {
	p, prod := withProd(env, alone)
	env.Grant(prod, "all", env.Namespace, "")
	gate := env.Faults.On("CreateVolume").When(ofClones).HangUntilReleased()
	env.Create(env.Claim("doomed", kit.CloneOfIn(prod, "src")), env.Claim("kept", kit.CloneOfIn(prod, "src")))
	awaitCalls(env, "doomed", "kept")
	p.Kill()
	env.Revoke(prod, "all")
	gate.Release() // the driver finishes what nobody waits for
	if err := env.Faults.WaitIdle(env.Ctx); err != nil {
		t.Fatal(err)
	}
	before := len(cloneCalls(env))
	env.StartProvisioner(crossNamespaceGate, alone)
	for _, name := range []string{"doomed", "kept"} {
		event := env.WaitEvent(name, "CloneNotGranted")
		if want := notGranted(env, prod, "src").message; event.Message != want {
			t.Errorf("event is %q, want %q", event.Message, want)
		}
	}
	env.Steadily("nobody gets the data", time.Second, func() error {
		for _, name := range []string{"doomed", "kept"} {
			if phase := env.Get(name).Status.Phase; phase != v1.ClaimPending {
				return fmt.Errorf("claim %q is %s", name, phase)
			}
		}
		if after := len(cloneCalls(env)); after > before {
			return fmt.Errorf("%d more calls were made", after-before)
		}
		return nil
	})
	env.Delete("doomed")
	env.WaitGone("doomed")
	env.Eventually("its volume is deleted", func() error { return volumes(env, 2) })
	env.Grant(prod, "again", env.Namespace, "src")
	env.WaitBound("kept")
	sameContent(t, env, "kept", prod+"/src")
	leave(env, prod+"/src")
}

func withoutRuleForGrants(t *testing.T, env *kit.Env) {
	env.AllowForbidden()
	p, prod := withProd(env, noBackOff, noBackOffMax)
	bindSource()(t, env)
	env.Grant(prod, "all", env.Namespace, "")
	env.Create(env.Claim("near", kit.CloneOf("src")), env.Claim("copy", kit.CloneOfIn(prod, "src")))
	env.WaitBound("near")
	env.Eventually("the clone waits", func() error { return heard(env, "copy", notGranted(env, prod, "src")) })
	want := `"A rule of RBAC is missing" rule="apiGroups: [gateway.networking.k8s.io], resources: [referencegrants], verbs: [list, watch]"`
	if n := strings.Count(p.Log(), want); n != 1 {
		t.Errorf("the log says %d times %s, want once", n, want)
	}
	mayAlso(t, env, grantRule())
	begun := time.Now()
	env.WaitBound("copy")
	logDelays(t, env, begun, "the rule was granted", "copy")
	leave(env, "src", prod+"/src")
}

func TestWithoutTheGateTheAPIServerForgetsSourcesInOtherNamespaces(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.WithRules(grantRule()))
	_, prod := withProd(env)
	env.Create(env.Claim("copy", kit.CloneOfIn(prod, "src")))
	env.WaitBound("copy")
	claim := env.Get("copy")
	compare(t, []field{
		{"dataSource", claim.Spec.DataSource, (*v1.TypedLocalObjectReference)(nil)},
		{"dataSourceRef", claim.Spec.DataSourceRef, (*v1.TypedObjectReference)(nil)},
		{"calls to copy a source", len(cloneCalls(env)), 0},
	})
	hearAll(env, "copy", made(env, "copy")...)
}
