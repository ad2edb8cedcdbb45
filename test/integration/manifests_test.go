package integration

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/options"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// render returns what kustomize makes of a folder, given from the root.
func render(t *testing.T, env *kit.Env, folder string) []byte {
	t.Helper()
	return kustomize(t, env, filepath.Join("..", "..", folder))
}

// kustomize is render for a folder anywhere.
func kustomize(t *testing.T, env *kit.Env, folder string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	command := exec.CommandContext(t.Context(), env.Cluster.Binary("kubectl"), "kustomize", folder)
	command.Stderr = &stderr
	manifests, err := command.Output()
	if err != nil {
		t.Fatalf("rendering %s: %v\n%s", folder, err, stderr.String())
	}
	return manifests
}

// objectsOf returns the objects of a kind among manifests.
func objectsOf[T any](t *testing.T, manifests []byte, kind string) []T {
	t.Helper()
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	var found []T
	for {
		var object unstructured.Unstructured
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if kind != "" && object.GetKind() != kind {
			continue
		}
		var typed T
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &typed); err != nil {
			t.Fatal(err)
		}
		found = append(found, typed)
	}
}

// TestManifests has the API server judge all that is shipped, as it is and as
// kustomize renders it.
func TestManifests(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	for _, namespace := range []string{"storage", "acme-storage", "csi-clone-demo"} {
		env.AddNamespace(namespace)
	}
	plain, err := filepath.Glob(filepath.Join("..", "..", "deploy", "kubernetes", "*.yaml"))
	if err != nil || len(plain) < 5 {
		t.Fatalf("these manifests were found: %v (%v)", plain, err)
	}
	accepted := func(t *testing.T, manifests []byte) {
		t.Helper()
		if err := env.Cluster.Check(env.Ctx, manifests); err != nil {
			t.Error(err)
		}
	}
	for _, path := range plain {
		if filepath.Base(path) == "kustomization.yaml" {
			continue
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			manifests, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			accepted(t, manifests)
			checkPods(t, manifests)
		})
	}
	for name, check := range map[string]func(*testing.T, *kit.Env, []byte){
		"deploy/kubernetes":                  baseIsRBAC,
		"hack/demo/cluster":                  nil,
		"test/manifests/existing-driver":     nil,
		"test/manifests/replaced":            onlyTheImageIsReplaced,
		"test/manifests/replaced-compatible": flagAndRightsAreAdded,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			manifests := render(t, env, name)
			accepted(t, manifests)
			if check != nil {
				check(t, env, manifests)
				checkPods(t, manifests)
			}
		})
	}
	t.Run("all components, in a namespace of the user's choice", func(t *testing.T) {
		t.Parallel()
		manifests := kustomize(t, env, allComponents(t))
		accepted(t, manifests)
		inNamespaceStorage(t, manifests)
		checkPods(t, manifests)
	})
	t.Run("what is wrong is seen", func(t *testing.T) {
		t.Parallel()
		wrong := bytes.Replace(render(t, env, "test/manifests/existing-driver"), []byte("livenessProbe:"), []byte("livelinessProbe:"), 1)
		if err := env.Cluster.Check(env.Ctx, wrong); err == nil || !strings.Contains(err.Error(), "livelinessProbe") {
			t.Errorf("a field that does not exist is answered with %v", err)
		}
	})
}

func baseIsRBAC(t *testing.T, _ *kit.Env, manifests []byte) {
	plain, err := os.ReadFile(filepath.Join("..", "..", "deploy", "kubernetes", "rbac.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	sameRules(t, manifests, plain)
}

// allComponents makes a kustomization of all that is shipped, but for the component that
// changes the manifests of others, and returns its folder.
func allComponents(t *testing.T) string {
	t.Helper()
	// Links would lead kustomize astray: it looks where it really is.
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := filepath.Abs(filepath.Join("..", "..", "deploy", "kubernetes"))
	if err != nil {
		t.Fatal(err)
	}
	base, err := filepath.Rel(dir, shipped)
	if err != nil {
		t.Fatal(err)
	}
	components, err := os.ReadDir(filepath.Join(shipped, "components"))
	if err != nil {
		t.Fatal(err)
	}
	text := "namespace: storage\nresources:\n  - " + base + "\ncomponents:\n"
	for _, component := range components {
		if component.Name() != "replace-csi-provisioner" {
			text += "  - " + filepath.Join(base, "components", component.Name()) + "\n"
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func inNamespaceStorage(t *testing.T, manifests []byte) {
	t.Helper()
	for _, object := range objectsOf[unstructured.Unstructured](t, manifests, "") {
		if namespace := object.GetNamespace(); namespace != "" && namespace != "storage" {
			t.Errorf("%s %q is in namespace %q", object.GetKind(), object.GetName(), namespace)
		}
	}
	bindings := objectsOf[rbacv1.ClusterRoleBinding](t, manifests, "ClusterRoleBinding")
	if len(bindings) < 4 {
		t.Errorf("there are only %d bindings", len(bindings))
	}
	for _, binding := range bindings {
		want := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: string(kit.ShippedRBAC), Namespace: "storage"}}
		if !slices.Equal(binding.Subjects, want) {
			t.Errorf("the subjects of %q are %v", binding.Name, binding.Subjects)
		}
	}
}

// sameRules compares what roles grant, whatever their order.
func sameRules(t *testing.T, got, want []byte) {
	t.Helper()
	for _, kind := range []string{"ClusterRole", "Role"} {
		rules := map[bool][]rbacv1.PolicyRule{}
		for isWanted, manifests := range map[bool][]byte{true: want, false: got} {
			for _, role := range objectsOf[rbacv1.ClusterRole](t, manifests, kind) {
				rules[isWanted] = append(rules[isWanted], role.Rules...)
			}
		}
		if len(rules[true]) == 0 || !equality.Semantic.DeepEqual(rules[false], rules[true]) {
			t.Errorf("the %ss grant %v, want %v", kind, rules[false], rules[true])
		}
	}
}

// onlyTheImageIsReplaced: that is all it takes.
func onlyTheImageIsReplaced(t *testing.T, env *kit.Env, manifests []byte) {
	const theirs, ours = "registry.acme.example/sig-storage/csi-provisioner:v6.3.0", "csi-clone-provisioner:dev"
	want := bytes.Replace(render(t, env, "test/manifests/existing-driver"), []byte(theirs), []byte(ours), 1)
	if !bytes.Equal(manifests, want) {
		t.Errorf("the driver's manifests are now\n%s", manifests)
	}
}

func flagAndRightsAreAdded(t *testing.T, _ *kit.Env, manifests []byte) {
	for _, container := range ourContainers(t, manifests) {
		if !slices.Contains(container.Args, "--clone-policy=compatible") || !slices.Contains(container.Args, "--timeout=60s") {
			t.Errorf("the arguments are %v", container.Args)
		}
		compare(t, []field{{"image", container.Image, "registry.acme.example/csi-clone-provisioner:v1.0.0"}})
	}
	for _, binding := range objectsOf[rbacv1.ClusterRoleBinding](t, manifests, "ClusterRoleBinding") {
		want := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: "acme-csi-controller", Namespace: "acme-storage"}}
		if !slices.Equal(binding.Subjects, want) {
			t.Errorf("the subjects of %q are %v", binding.Name, binding.Subjects)
		}
		if !strings.HasPrefix(binding.Name, "acme-") {
			t.Errorf("another driver that does the same takes binding %q over", binding.Name)
		}
	}
	accounts := objectsOf[v1.ServiceAccount](t, manifests, "ServiceAccount")
	compare(t, []field{{"number of accounts", len(accounts), 1}})
}

// ourContainers returns the containers with the provisioner's image. It fails the test
// if there is none.
func ourContainers(t *testing.T, manifests []byte) []v1.Container {
	t.Helper()
	var found []v1.Container
	for _, deployment := range objectsOf[appsv1.Deployment](t, manifests, "Deployment") {
		for _, container := range deployment.Spec.Template.Spec.Containers {
			if strings.Contains(container.Image, "csi-clone-provisioner:") {
				found = append(found, container)
			}
		}
	}
	if len(found) == 0 {
		t.Fatal("no container has the image of the provisioner: this would prove nothing")
	}
	return found
}

// checkPods looks at the pods that manifests make: the provisioner understands its
// arguments, and what is ours alone runs without root and cannot write.
func checkPods(t *testing.T, manifests []byte) {
	t.Helper()
	for _, deployment := range objectsOf[appsv1.Deployment](t, manifests, "Deployment") {
		for _, container := range ourContainers(t, manifests) {
			if _, err := options.Parse(container.Args, noVariables); err != nil {
				t.Errorf("the provisioner does not understand its arguments: %v", err)
			}
		}
		if !strings.HasPrefix(deployment.Name, "demo-") {
			continue // somebody else's
		}
		pod := deployment.Spec.Template.Spec
		if s := pod.SecurityContext; s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot {
			t.Errorf("the pods of %q may run as root", deployment.Name)
		}
		for _, container := range pod.Containers {
			s := container.SecurityContext
			if s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
				s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
				s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []v1.Capability{"ALL"}) {
				t.Errorf("container %q of %q may do more than it needs: %v", container.Name, deployment.Name, s)
			}
		}
	}
}

// noVariables is an empty environment.
func noVariables(string) (string, bool) { return "", false }
