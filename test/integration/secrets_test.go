package integration

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
)

// secretRule is what rbac-secrets.yaml grants.
func secretRule() rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"}}
}

const (
	deletionName      = "volume.kubernetes.io/provisioner-deletion-secret-name"
	deletionNamespace = "volume.kubernetes.io/provisioner-deletion-secret-namespace"
)

// credentials are what the driver of these tests wants.
func credentials() map[string]string {
	return map[string]string{"user": "demo", "password": "open sesame"}
}

func wantsCredentials(c *demodriver.Config) { c.Secrets = credentials() }

// named are class parameters that name the Secret of that name in the claim's namespace.
func named(name string) map[string]string {
	return map[string]string{
		"csi.storage.k8s.io/provisioner-secret-name":      name,
		"csi.storage.k8s.io/provisioner-secret-namespace": "${pvc.namespace}",
	}
}

// secretive returns a test world whose class has such parameters.
func secretive(t *testing.T, parameters map[string]string, options ...kit.Option) *kit.Env {
	t.Helper()
	return kit.New(t, append([]kit.Option{kit.Parameters(parameters), kit.WithRules(secretRule())}, options...)...)
}

func putSecret(t *testing.T, env *kit.Env, name string, content map[string]string) {
	t.Helper()
	object := &v1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: content}
	if _, err := env.Admin.CoreV1().Secrets(env.Namespace).Create(env.Ctx, object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func dropSecret(t *testing.T, env *kit.Env, name string) {
	t.Helper()
	if err := env.Admin.CoreV1().Secrets(env.Namespace).Delete(env.Ctx, name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// eventsOfPV returns what we have said about a PV, whether it is still there or not.
func eventsOfPV(env *kit.Env, pv string) []v1.Event {
	list, err := env.Admin.CoreV1().Events(metav1.NamespaceDefault).List(env.Ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.kind=PersistentVolume,involvedObject.name=" + pv,
	})
	if err != nil {
		return nil // tried again
	}
	return list.Items
}

// waitPVEvent waits until a PV has an event with the reason whose message has all words.
func waitPVEvent(env *kit.Env, pv, reason string, words ...string) {
	env.Eventually(fmt.Sprintf("PV %q has an event %s with %q", pv, reason, words), func() error {
		var seen []string
		for _, event := range eventsOfPV(env, pv) {
			seen = append(seen, event.Reason+": "+event.Message)
			missing := event.Reason != reason
			for _, word := range words {
				missing = missing || !strings.Contains(event.Message, word)
			}
			if !missing {
				return nil
			}
		}
		return fmt.Errorf("it has %q", seen)
	})
}

// secretsOfDeletions returns the secrets of all DeleteVolume calls.
func secretsOfDeletions(env *kit.Env) []map[string]string {
	var all []map[string]string
	for _, call := range env.Faults.Calls("DeleteVolume") {
		if req, ok := call.Request.(*csi.DeleteVolumeRequest); ok {
			all = append(all, req.GetSecrets())
		}
	}
	return all
}

func TestSecretsOfAClassReachTheDriverAndThePV(t *testing.T) {
	t.Parallel()
	env := secretive(t, map[string]string{
		"tier": "fast",
		"csi.storage.k8s.io/provisioner-secret-name":            "${pvc.annotations['team']}-credentials",
		"csi.storage.k8s.io/provisioner-secret-namespace":       "${pvc.namespace}",
		"csiNodeStageSecretName":                                "stage-${pvc.name}",
		"csi.storage.k8s.io/node-stage-secret-namespace":        "vault",
		"csi.storage.k8s.io/controller-modify-secret-name":      "${pv.name}",
		"csi.storage.k8s.io/controller-modify-secret-namespace": "modify",
		"csi.storage.k8s.io/secret-name":                        "rest",
		"csi.storage.k8s.io/secret-namespace":                   "elsewhere",
	}, kit.DriverConfig(wantsCredentials))
	putSecret(t, env, "blue-credentials", credentials())
	p := env.StartProvisioner()
	env.Create(env.Claim("data", kit.Annotation("team", "blue")))
	env.WaitBound("data")
	env.Create(env.Claim("copy", kit.Annotation("team", "blue"), kit.CloneOf("data")))
	env.WaitBound("copy")

	pv := env.PV("copy")
	rest := v1.SecretReference{Namespace: "elsewhere", Name: "rest"}
	compare(t, []field{
		{"secrets", requestFor(t, env, "copy").GetSecrets(), credentials()},
		{"parameters", requestFor(t, env, "copy").GetParameters(), map[string]string{"tier": "fast", "csiNodeStageSecretName": "stage-${pvc.name}"}},
		{"annotations", pv.Annotations, map[string]string{
			"pv.kubernetes.io/provisioned-by": env.DriverName,
			deletionName:                      "blue-credentials",
			deletionNamespace:                 env.Namespace,
			"volume.kubernetes.io/controller-modify-secret-name":      pv.Name,
			"volume.kubernetes.io/controller-modify-secret-namespace": "modify",
		}},
		{"controllerPublishSecretRef", *pv.Spec.CSI.ControllerPublishSecretRef, rest},
		{"nodeStageSecretRef", *pv.Spec.CSI.NodeStageSecretRef, v1.SecretReference{Namespace: "vault", Name: "stage-copy"}},
		{"nodePublishSecretRef", *pv.Spec.CSI.NodePublishSecretRef, rest},
		{"controllerExpandSecretRef", *pv.Spec.CSI.ControllerExpandSecretRef, rest},
		{"nodeExpandSecretRef", *pv.Spec.CSI.NodeExpandSecretRef, rest},
	})
	if !strings.Contains(p.Log(), `deprecated parameters`) || !strings.Contains(p.Log(), "csiNodeStageSecretName") {
		t.Error("the log does not warn of the old spelling")
	}
	env.Delete("copy", "data")
	env.WaitGone("copy", "data")
	env.Eventually("the volumes are gone", func() error { return volumes(env, 0) })
	for _, secrets := range secretsOfDeletions(env) {
		if !maps.Equal(secrets, credentials()) {
			t.Errorf("DeleteVolume has secrets %v", secrets)
		}
	}
}

func TestAClaimWaitsForItsSecret(t *testing.T) {
	t.Parallel()
	env := secretive(t, named("credentials"), kit.DriverConfig(wantsCredentials))
	env.StartProvisioner(noBackOff, noBackOffMax)
	env.Create(env.Claim("data"), env.Claim("given-up"))
	waits := told{"Normal", "SecretNotFound", fmt.Sprintf(
		"the claim waits for Secret %q, which its StorageClass names for creating the volume, and which does not exist; provisioning starts by itself soon after it is there", env.Namespace+"/credentials")}
	for _, claim := range []string{"data", "given-up"} {
		env.Eventually("the claim waits", func() error { return errors.Join(heard(env, claim, waits), unmarked(env, claim)) })
	}
	env.Delete("given-up")
	env.WaitGone("given-up")
	if calls := env.Faults.Calls("CreateVolume"); len(calls) > 0 {
		t.Errorf("the driver was called: %v", calls[0].Request)
	}
	putSecret(t, env, "credentials", credentials())
	created := time.Now()
	env.WaitBound("data")
	t.Logf("bound %s after the Secret was created", time.Since(created).Round(time.Millisecond))
	env.Eventually("nothing else was told", func() error { return heard(env, "data", append([]told{waits}, success(env, "data")...)...) })
	env.Delete("data")
	env.WaitGone("data")
	env.Eventually("the volume is gone", func() error { return volumes(env, 0) })
}

// Claims that wait are not to make the API server's life hard.
func TestManyClaimsThatWaitForOneSecretAskForItTogether(t *testing.T) {
	t.Parallel()
	const count = 50
	env := secretive(t, named("credentials"))
	g := env.Gateway()
	env.StartProvisioner(alone)
	var claims []string
	for i := range count {
		claims = append(claims, fmt.Sprintf("data-%d", i))
		env.Create(env.Claim(claims[i]))
	}
	for _, claim := range claims {
		env.WaitEvent(claim, "SecretNotFound")
	}
	began, before := time.Now(), len(g.Requests("get", "secrets"))
	if before > count/5 {
		t.Errorf("%d claims have asked %d times", count, before)
	}
	env.Eventually("they have looked again, twice", func() error {
		if asked := len(g.Requests("get", "secrets")) - before; asked < 2 {
			return fmt.Errorf("%d requests", asked)
		}
		return nil
	})
	asked, passed := len(g.Requests("get", "secrets"))-before, time.Since(began)
	t.Logf("%d claims have asked %d times at first, and %d times in %s", count, before, asked, passed.Round(time.Second))
	if most := 2 + int(passed/(5*time.Second)); asked > most {
		t.Errorf("they have asked %d times in %s, want at most %d", asked, passed, most)
	}
	putSecret(t, env, "credentials", credentials())
	env.WaitBound(claims...)
}

func TestAClaimStartsWhenItIsAnnotated(t *testing.T) {
	t.Parallel()
	env := secretive(t, named("${pvc.annotations['team']}-credentials"))
	putSecret(t, env, "blue-credentials", credentials())
	env.StartProvisioner()
	env.Create(env.Claim("data"))
	env.WaitEvent("data", "SecretNameInvalid")
	env.Update("data", func(claim *v1.PersistentVolumeClaim) { kit.Annotation("team", "blue")(claim) })
	env.WaitBound("data")
	if got := requestFor(t, env, "data").GetSecrets(); !maps.Equal(got, credentials()) {
		t.Errorf("CreateVolume has secrets %v", got)
	}
}

// The tests take the rule from here; what ships must be the same.
func TestTheManifestForSecretsGrantsNothingElse(t *testing.T) {
	t.Parallel()
	root, err := repo.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "deploy", "kubernetes", "rbac-secrets.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := bytes.Cut(text, []byte("\n---\n"))
	var role rbacv1.ClusterRole
	if err := yaml.UnmarshalStrict(first, &role); err != nil {
		t.Fatal(err)
	}
	if want := []rbacv1.PolicyRule{secretRule()}; !reflect.DeepEqual(role.Rules, want) {
		t.Errorf("the manifest grants %v, want %v", role.Rules, want)
	}
}

// A Secret with which the driver is not content is read again for each attempt.
func TestASecretThatIsCorrectedIsUsed(t *testing.T) {
	t.Parallel()
	env := secretive(t, named("credentials"), kit.DriverConfig(wantsCredentials))
	putSecret(t, env, "credentials", map[string]string{"user": "demo", "password": "a guess"})
	env.StartProvisioner()
	env.Create(env.Claim("data"))
	env.WaitEvent("data", "ProvisioningFailed")
	patch := []byte(`{"stringData":{"password":"open sesame"}}`)
	if _, err := env.Admin.CoreV1().Secrets(env.Namespace).Patch(env.Ctx, "credentials", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	env.WaitBound("data")
}

func TestASecretThatMayNotBeReadIsTold(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.Parameters(named("credentials")))
	env.AllowForbidden()
	putSecret(t, env, "credentials", credentials())
	env.StartProvisioner()
	env.Create(env.Claim("data"))
	event := env.WaitEvent("data", "SecretNotReadable")
	for _, words := range []string{`Secret "` + env.Namespace + `/credentials"`, "deploy/kubernetes/rbac-secrets.yaml", "forbidden"} {
		if event.Type != v1.EventTypeWarning || !strings.Contains(event.Message, words) {
			t.Errorf("event is %s %q, want a Warning with %q", event.Type, event.Message, words)
		}
	}
	if err := unmarked(env, "data"); err != nil {
		t.Error(err)
	}
	env.Delete("data")
	env.WaitGone("data")
}

func TestADeletionWhoseSecretIsGone(t *testing.T) {
	t.Parallel()
	t.Run("and the driver wants it", func(t *testing.T) {
		t.Parallel()
		env := secretive(t, named("credentials"), kit.DriverConfig(wantsCredentials))
		putSecret(t, env, "credentials", credentials())
		env.StartProvisioner()
		env.Create(env.Claim("data"))
		env.WaitBound("data")
		pv := env.PV("data").Name
		dropSecret(t, env, "credentials")
		env.Delete("data")
		missing := fmt.Sprintf("Secret %q", env.Namespace+"/credentials")
		waitPVEvent(env, pv, "DeletionSecretNotFound", missing, "does not exist")
		waitPVEvent(env, pv, "VolumeFailedDelete", missing, "create it again", "Unauthenticated")
		putSecret(t, env, "credentials", credentials())
		env.WaitPVGone(pv)
	})
	t.Run("and the driver can do without", func(t *testing.T) {
		t.Parallel()
		env := secretive(t, named("credentials"))
		putSecret(t, env, "credentials", credentials())
		env.StartProvisioner()
		env.Create(env.Claim("data"))
		env.WaitBound("data")
		pv := env.PV("data").Name
		dropSecret(t, env, "credentials")
		env.Delete("data")
		env.WaitPVGone(pv)
		waitPVEvent(env, pv, "DeletionSecretNotFound", "is asked without it")
	})
}

// That the Secret cannot be read now says nothing about whether it exists: the driver is
// not called without it.
func TestADeletionWhoseSecretCannotBeRead(t *testing.T) {
	t.Parallel()
	env := secretive(t, named("credentials"))
	env.AllowForbidden()
	g := env.Gateway()
	putSecret(t, env, "credentials", credentials())
	env.StartProvisioner(alone)
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	pv := env.PV("data").Name
	refusal := apierrors.NewForbidden(v1.Resource("secrets"), "credentials", errors.New("no more"))
	g.On("get", "secrets").Answer(refusal)
	env.Delete("data")
	waitPVEvent(env, pv, "VolumeFailedDelete", fmt.Sprintf("Secret %q", env.Namespace+"/credentials"), "rbac-secrets.yaml", "forbidden")
	if calls := env.Faults.Calls("DeleteVolume"); len(calls) > 0 {
		t.Errorf("the driver was called: %v", calls[0].Request)
	}
	g.Reset()
	env.WaitPVGone(pv)
	if got := secretsOfDeletions(env); len(got) != 1 || !maps.Equal(got[0], credentials()) {
		t.Errorf("DeleteVolume has secrets %v", got)
	}
}

// annotatePV changes the deletion annotations of a PV; nil takes them off.
func annotatePV(t *testing.T, env *kit.Env, pv string, name, namespace any) {
	t.Helper()
	quote := func(v any) string {
		if v == nil {
			return "null"
		}
		return fmt.Sprintf("%q", v)
	}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%s,%q:%s}}}`, deletionName, quote(name), deletionNamespace, quote(namespace))
	if _, err := env.Admin.CoreV1().PersistentVolumes().Patch(env.Ctx, pv, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// PVs from before there were annotations have their class asked.
func TestTheDeletionOfAPVThatDoesNotNameItsSecret(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		parameters map[string]string
		// asked: the class can tell.
		asked bool
	}{
		{"a class that tells", named("${pvc.name}-credentials"), true},
		{"a class that asks for an annotation of the claim", named("${pvc.annotations['team']}-credentials"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			env := secretive(t, c.parameters, kit.DriverConfig(wantsCredentials))
			putSecret(t, env, "data-credentials", credentials())
			p := env.StartProvisioner(alone)
			env.Create(env.Claim("data", kit.Annotation("team", "data")))
			env.WaitBound("data")
			env.Eventually("the record is off", func() error { return unmarked(env, "data") })
			pv := env.PV("data").Name
			annotatePV(t, env, pv, nil, nil)
			p.Stop() // else the claim might be seen for a moment longer than the PV is bound
			env.Delete("data")
			env.WaitGone("data")
			env.StartProvisioner(alone)
			if !c.asked {
				waitPVEvent(env, pv, "VolumeFailedDelete", "does not say which Secret", "annotation \"team\"", deletionName, deletionNamespace)
				if calls := env.Faults.Calls("DeleteVolume"); len(calls) > 0 {
					t.Errorf("the driver was called: %v", calls[0].Request)
				}
				annotatePV(t, env, pv, "data-credentials", env.Namespace)
			}
			env.WaitPVGone(pv)
			if got := secretsOfDeletions(env); len(got) != 1 || !maps.Equal(got[0], credentials()) {
				t.Errorf("DeleteVolume has secrets %v", got)
			}
		})
	}
}
