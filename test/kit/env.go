package kit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/driver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/gateway"
)

// Env is the world of one test.
type Env struct {
	t     *testing.T
	world *World
	// dir is the test's folder, within the cluster's.
	dir string

	// Ctx ends when the test and its cleanup have ended.
	Ctx context.Context
	// Cluster is the control plane, usually shared with other tests.
	Cluster *cluster.Cluster
	// Admin may do everything and is not rate limited.
	Admin kubernetes.Interface
	// Namespace is the test's own.
	Namespace string
	// DriverName is the name of the test's own CSI driver.
	DriverName string
	// Class is the name of the test's own StorageClass.
	Class string
	// Driver is the CSI driver's server.
	Driver *driver.Server
	// Faults makes the driver's calls go wrong and keeps a list of them.
	Faults *faults.Injector

	// namespaces are all that belong to the test.
	namespaces   []string
	classes      []string
	provisioners []*Provisioner
	// environment of provisioners, as NAME=value.
	environment []string
	nodes       []*Node
	// account is whom the API server takes the provisioners for.
	account account
	// ownAccount is its name if it was made for this test alone.
	ownAccount string
	// gateway stands before the API server if the test asked for it.
	gateway *gateway.Gateway
	// program is run instead of the provisioner; see StartWith.
	program string
	allowed allowances
}

// settings is what options change.
type settings struct {
	world      *World
	driverName func(id string) string
	driver     demodriver.Config
	class      []func(*storagev1.StorageClass)
	account    Account
	rights     []func(*rights) error
}

// Option changes what New makes.
type Option func(*settings)

// On uses a cluster of the test's own instead of the one of Main.
func On(w *World) Option { return func(s *settings) { s.world = w } }

// DriverConfig changes the configuration of the demo driver. Name and Dir are
// set already.
func DriverConfig(change func(*demodriver.Config)) Option {
	return func(s *settings) { change(&s.driver) }
}

// DriverName changes how the driver's name is made from the test's id; the name
// must hold the id to be unique.
func DriverName(name func(id string) string) Option {
	return func(s *settings) { s.driverName = name }
}

// ReclaimPolicy sets the policy of the test's class. Default: Delete.
func ReclaimPolicy(policy v1.PersistentVolumeReclaimPolicy) Option {
	return ChangeClass(func(class *storagev1.StorageClass) { class.ReclaimPolicy = &policy })
}

// WaitForFirstConsumer gives the test's class delayed binding.
func WaitForFirstConsumer() Option {
	return ChangeClass(func(class *storagev1.StorageClass) {
		mode := storagev1.VolumeBindingWaitForFirstConsumer
		class.VolumeBindingMode = &mode
	})
}

// Parameters sets the parameters of the test's class.
func Parameters(parameters map[string]string) Option {
	return ChangeClass(func(class *storagev1.StorageClass) { class.Parameters = parameters })
}

// ChangeClass changes anything about the test's class.
func ChangeClass(change func(*storagev1.StorageClass)) Option {
	return func(s *settings) { s.class = append(s.class, change) }
}

// New makes a namespace, a driver and a class for the test. No provisioner runs
// yet. At the end of the test the books are checked, then everything is stopped.
func New(t *testing.T, options ...Option) *Env {
	t.Helper()
	s := settings{world: shared, account: ShippedRBAC, driverName: func(id string) string { return id + ".demo.csi.example" }}
	s.driver.NoSync = true
	for _, option := range options {
		option(&s)
	}
	if s.world == nil {
		t.Fatal("kit.New needs a cluster: call kit.Main from TestMain")
	}
	id := newID()
	env := &Env{
		t: t, world: s.world, dir: filepath.Join(s.world.Cluster.Dir(), id),
		Cluster: s.world.Cluster, Namespace: id, Class: id, DriverName: s.driverName(id),
		allowed: allowances{logTail: logTail},
	}
	ctx, cancel := context.WithCancel(context.Background())
	env.Ctx = ctx
	t.Cleanup(func() {
		defer cancel()
		defer env.removeAccount()
		env.finish()
	})
	env.setUp(s)
	return env
}

// setUp makes what the test owns.
func (e *Env) setUp(s settings) {
	e.t.Helper()
	admin, err := e.Cluster.Client()
	if err != nil {
		e.t.Fatal(err)
	}
	e.Admin = admin
	if err := os.MkdirAll(e.dir, 0o755); err != nil {
		e.t.Fatalf("making the test's folder: %v", err)
	}
	e.AddNamespace(e.Namespace)
	e.chooseAccount(s)
	e.startDriver(s.driver)
	e.CreateClass(e.Class, s.class...)
	e.t.Logf("namespace %s, driver %s, logs in %s", e.Namespace, e.DriverName, e.dir)
}

// AddNamespace creates one more namespace, whose name should begin with
// env.Namespace to be unique. The books watch it too.
func (e *Env) AddNamespace(name string) {
	e.t.Helper()
	namespace := &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := e.Admin.CoreV1().Namespaces().Create(e.Ctx, namespace, metav1.CreateOptions{}); err != nil {
		e.t.Fatalf("creating namespace %q: %v", name, err)
	}
	e.namespaces = append(e.namespaces, name)
}

// Beside returns the world of a subtest that shares this test's driver and
// provisioners, which are started before; namespace and class are its own. Many
// small tests cost less that way. Its books are those of this test, which has to
// be its parent. Call it before t.Parallel.
func (e *Env) Beside(t *testing.T) *Env {
	t.Helper()
	other := *e
	id := newID()
	other.t, other.Namespace, other.Class, other.classes = t, id, id, nil
	other.AddNamespace(other.Namespace)
	e.namespaces = append(e.namespaces, other.Namespace)
	other.namespaces = []string{other.Namespace}
	other.CreateClass(other.Class)
	e.classes = append(e.classes, other.Class)
	t.Logf("namespace %s, driver %s, logs in %s", other.Namespace, other.DriverName, other.dir)
	return &other
}

// DefaultClass marks a StorageClass as the one that claims without a class get.
// Only for tests with a cluster of their own (On): the default is the cluster's,
// and claims of other tests would get it too.
func (e *Env) DefaultClass(name string) {
	e.t.Helper()
	if e.world == shared {
		e.t.Fatalf("making StorageClass %q the default: other tests use this cluster; start one with kit.StartCluster", name)
	}
	patch := []byte(`{"metadata":{"annotations":{"storageclass.kubernetes.io/is-default-class":"true"}}}`)
	_, err := e.Admin.StorageV1().StorageClasses().Patch(e.Ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		e.t.Fatalf("making StorageClass %q the default: %v", name, err)
	}
}

// CreateClass creates one more StorageClass of the test's driver. Its name
// should begin with env.Class, to be unique. Default: policy Delete, immediate
// binding.
func (e *Env) CreateClass(name string, changes ...func(*storagev1.StorageClass)) *storagev1.StorageClass {
	e.t.Helper()
	class := &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: name},
		Provisioner: e.DriverName,
	}
	for _, change := range changes {
		change(class)
	}
	created, err := e.Admin.StorageV1().StorageClasses().Create(e.Ctx, class, metav1.CreateOptions{})
	if err != nil {
		e.t.Fatalf("creating StorageClass %q: %v", name, err)
	}
	e.classes = append(e.classes, name)
	return created
}

// newID returns a name that no other test has: a letter and seven characters,
// of which there are 78 thousand million.
func newID() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	var id strings.Builder
	id.WriteString("t")
	for range 7 {
		fmt.Fprintf(&id, "%c", letters[rand.IntN(len(letters))])
	}
	return id.String()
}
