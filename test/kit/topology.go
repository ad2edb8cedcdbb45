package kit

import (
	"maps"
	"path/filepath"
	"slices"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
)

// WithManifest adds the rules of another file of deploy/kubernetes to the ClusterRole of
// the test's account. The test gets an account of its own for that.
func WithManifest(file string) Option {
	return func(s *settings) {
		s.rights = append(s.rights, func(r *rights) error {
			more, err := readRights(filepath.Join(s.world.root, "deploy", "kubernetes", file))
			if err != nil {
				return err
			}
			r.cluster = append(r.cluster, more.cluster...)
			r.local = append(r.local, more.local...)
			return nil
		})
	}
}

// WithPlaces gives the test a driver with topology, whose volumes can be at these places,
// and its provisioners the rights for that. On which nodes the driver runs is for PutNode.
func WithPlaces(places ...map[string]string) Option {
	rights := WithManifest("rbac-topology.yaml")
	driver := DriverConfig(func(c *demodriver.Config) { c.Places = places })
	return func(s *settings) { rights(s); driver(s) }
}

// PutNode makes a node, or changes it: the driver runs there, and the segments are where
// the node is, by labels. See CreateNode for its name, which is returned.
func (e *Env) PutNode(name string, segments map[string]string) string {
	e.t.Helper()
	name = e.CreateNode(name)
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		node, err := e.Admin.CoreV1().Nodes().Get(e.Ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		maps.Copy(node.Labels, segments)
		_, err = e.Admin.CoreV1().Nodes().Update(e.Ctx, node, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		e.t.Fatalf("labelling node %q: %v", name, err)
	}
	e.Register(name, slices.Sorted(maps.Keys(segments))...)
	return name
}

// Register says that the driver runs on the node and has these topology keys.
func (e *Env) Register(node string, keys ...string) {
	e.t.Helper()
	node = e.nodeName(node)
	object := &storagev1.CSINode{
		ObjectMeta: metav1.ObjectMeta{Name: node},
		Spec:       storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: e.DriverName, NodeID: node, TopologyKeys: keys}}},
	}
	list := e.Admin.StorageV1().CSINodes()
	_, err := list.Create(e.Ctx, object, metav1.CreateOptions{})
	switch {
	case err == nil:
		e.t.Cleanup(func() { e.Unregister(node) })
	case apierrors.IsAlreadyExists(err):
		// Keys cannot be changed: the kubelet, too, takes the driver off and puts it back.
		for _, drivers := range [][]storagev1.CSINodeDriver{nil, object.Spec.Drivers} {
			err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
				found, err := list.Get(e.Ctx, node, metav1.GetOptions{})
				if err != nil {
					return err
				}
				found.Spec.Drivers = drivers
				_, err = list.Update(e.Ctx, found, metav1.UpdateOptions{})
				return err
			})
		}
	}
	if err != nil {
		e.t.Fatalf("registering driver %q on node %q: %v", e.DriverName, node, err)
	}
}

// Unregister removes the CSINode, if there is one.
func (e *Env) Unregister(node string) {
	e.t.Helper()
	err := e.Admin.StorageV1().CSINodes().Delete(e.Ctx, e.nodeName(node), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		e.t.Errorf("removing CSINode %q: %v", e.nodeName(node), err)
	}
}

// DropNode removes the node; what its CSINode says stays.
func (e *Env) DropNode(node string) {
	e.t.Helper()
	if err := e.Admin.CoreV1().Nodes().Delete(e.Ctx, e.nodeName(node), metav1.DeleteOptions{}); err != nil {
		e.t.Fatalf("removing node %q: %v", e.nodeName(node), err)
	}
}

// Zoned changes a class so that its volumes can only be in these zones.
func Zoned(key string, values ...string) func(*storagev1.StorageClass) {
	return func(class *storagev1.StorageClass) {
		class.AllowedTopologies = []v1.TopologySelectorTerm{{MatchLabelExpressions: []v1.TopologySelectorLabelRequirement{{Key: key, Values: values}}}}
	}
}
