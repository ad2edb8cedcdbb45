package cluster_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
)

func root(t *testing.T) string {
	t.Helper()
	path, err := repo.Root()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// binaries returns the folder of the compiled control plane.
func binaries(t *testing.T) string {
	t.Helper()
	path, err := repo.ControlPlane(root(t))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func options(t *testing.T) cluster.Options {
	t.Helper()
	return cluster.Options{Binaries: binaries(t), Parent: t.TempDir(), Log: t.Logf}
}

func start(t *testing.T, opts cluster.Options) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func client(t *testing.T, c *cluster.Cluster) kubernetes.Interface {
	t.Helper()
	client, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func createNamespace(t *testing.T, c *cluster.Cluster, name string) {
	t.Helper()
	namespace := &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := client(t, c).CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatalf("creating namespace %q: %v", name, err)
	}
}

func pids(c *cluster.Cluster) []int {
	var all []int
	for _, p := range c.Group().Processes() {
		all = append(all, p.PID())
	}
	return all
}

func TestAClusterServesSurvivesARestartAndLeavesNothing(t *testing.T) {
	t.Parallel()
	c := start(t, options(t))
	createNamespace(t, c, "before")
	running := pids(c)
	if len(running) != 3 {
		t.Fatalf("%d processes run, want 3: etcd, the API server and the controllers", len(running))
	}

	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		if err := c.RestartAPIServer(t.Context(), sig); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client(t, c).CoreV1().Namespaces().Get(t.Context(), "before", metav1.GetOptions{}); err != nil {
		t.Errorf("the restart lost a namespace: %v", err)
	}

	running = append(running, pids(c)...)
	if err := c.Stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
	for _, pid := range running {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is still there after Stop (%v)", pid, err)
		}
	}
	if _, err := os.Stat(c.Dir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("folder %s is still there after Stop", c.Dir())
	}
}

func TestClustersRunSideBySideAndServiceAccountsHaveOnlyTheirRights(t *testing.T) {
	t.Parallel()
	opts := options(t)
	opts.AuditLog = true
	c := start(t, opts)
	err := c.Apply(t.Context(), []byte(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: default}
rules:
- {apiGroups: [""], resources: [configmaps], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: default}]
`))
	if err != nil {
		t.Fatal(err)
	}
	path, err := c.ServiceAccountKubeconfig(t.Context(), "default", "reader")
	if err != nil {
		t.Fatal(err)
	}
	kubectl := filepath.Join(opts.Binaries, "kubectl")
	if out, err := exec.Command(kubectl, "--kubeconfig", path, "get", "configmaps").CombinedOutput(); err != nil {
		t.Errorf("the account may not do what its role says: %v\n%s", err, out)
	}
	if out, err := exec.Command(kubectl, "--kubeconfig", path, "get", "secrets").CombinedOutput(); err == nil {
		t.Errorf("the account may do what no role says:\n%s", out)
	}
	if audit, err := os.ReadFile(c.AuditLogPath()); err != nil || !strings.Contains(string(audit), "system:serviceaccount:default:reader") {
		t.Errorf("the audit log does not name the service account (%v)", err)
	}
}

func TestSchedulerSnapshotsAndGrantsAreThereWhenAskedFor(t *testing.T) {
	t.Parallel()
	opts := options(t)
	opts.Scheduler = true
	crds, err := repo.SnapshotCRDs(root(t))
	if err != nil {
		t.Fatal(err)
	}
	opts.SnapshotCRDs = crds
	if opts.ReferenceGrantCRD, err = repo.ReferenceGrantCRD(root(t)); err != nil {
		t.Fatal(err)
	}
	c := start(t, opts)
	if running := pids(c); len(running) != 5 {
		t.Errorf("%d processes run, want 5", len(running))
	}
	err = c.Apply(t.Context(), []byte(`
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshotClass
metadata: {name: snap}
driver: demo.example
deletionPolicy: Delete
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: grant, namespace: default}
spec:
  from: [{group: "", kind: PersistentVolumeClaim, namespace: other}]
  to: [{group: "", kind: PersistentVolumeClaim}]
`))
	if err != nil {
		t.Error(err)
	}
}

func TestALogTellsWhyAComponentDidNotStart(t *testing.T) {
	t.Parallel()
	opts := options(t)
	opts.APIServerArgs = []string{"--no-such-flag"}
	c, err := cluster.Start(t.Context(), opts)
	if err == nil {
		t.Fatalf("a cluster with a wrong flag started; stopped again: %v", c.Stop())
	}
	for _, want := range []string{"kube-apiserver", "it ended while starting", "unknown flag: --no-such-flag"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
}

func TestManifestsWithoutCRDsAreAnError(t *testing.T) {
	t.Parallel()
	c := start(t, options(t))
	empty := t.TempDir()
	other := filepath.Join(t.TempDir(), "other.yaml")
	if err := os.WriteFile(other, []byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{empty, other, filepath.Join(empty, "none")} {
		if err := c.InstallCRDs(t.Context(), path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("error is %v, want one that names %s", err, path)
		}
	}
}

func TestMissingProgramsAreNamed(t *testing.T) {
	t.Parallel()
	_, err := cluster.Start(t.Context(), cluster.Options{Binaries: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "make control-plane") {
		t.Errorf("error is %v, want one that says what to run", err)
	}
}
