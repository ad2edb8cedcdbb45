package kit

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
)

// ReferenceGrantCRD returns the manifest for cluster.Options.ReferenceGrantCRD.
func ReferenceGrantCRD(t *testing.T) string {
	t.Helper()
	root, err := repo.Root()
	if err != nil {
		t.Fatal(err)
	}
	path, err := repo.ReferenceGrantCRD(root)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// InstallReferenceGrants installs the CRD on a cluster that was started without.
// Only for tests with a cluster of their own (On): other tests count on the
// absence of the kind.
func (e *Env) InstallReferenceGrants() {
	e.t.Helper()
	if e.world == shared {
		e.t.Fatal("installing the ReferenceGrant CRD: other tests use this cluster; start one with kit.StartCluster")
	}
	if err := e.Cluster.InstallCRDs(e.Ctx, ReferenceGrantCRD(e.t)); err != nil {
		e.t.Fatal(err)
	}
}

// Grant lets claims of a namespace name a PVC of another one, in which the
// ReferenceGrant is, as their source; every PVC if toName is "".
func (e *Env) Grant(namespace, name, fromNamespace, toName string) {
	e.t.Helper()
	from := map[string]any{"group": "", "kind": "PersistentVolumeClaim", "namespace": fromNamespace}
	to := map[string]any{"group": "", "kind": "PersistentVolumeClaim"}
	if toName != "" {
		to["name"] = toName
	}
	e.GrantObject(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": grants().GroupVersion().String(),
		"kind":       "ReferenceGrant",
		"metadata":   map[string]any{"namespace": namespace, "name": name},
		"spec":       map[string]any{"from": []any{from}, "to": []any{to}},
	}})
}

// GrantObject creates any ReferenceGrant, of any version.
func (e *Env) GrantObject(obj *unstructured.Unstructured) {
	e.t.Helper()
	resource := obj.GroupVersionKind().GroupVersion().WithResource(grants().Resource)
	if _, err := e.dynamic().Resource(resource).Namespace(obj.GetNamespace()).Create(e.Ctx, obj, metav1.CreateOptions{}); err != nil {
		e.t.Fatalf("creating ReferenceGrant %s/%s: %v", obj.GetNamespace(), obj.GetName(), err)
	}
}

// Revoke deletes a ReferenceGrant.
func (e *Env) Revoke(namespace, name string) {
	e.t.Helper()
	if err := e.dynamic().Resource(grants()).Namespace(namespace).Delete(e.Ctx, name, metav1.DeleteOptions{}); err != nil {
		e.t.Fatalf("deleting ReferenceGrant %s/%s: %v", namespace, name, err)
	}
}

// grants returns what the API server calls ReferenceGrants. The product reads
// this version.
func grants() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1beta1", Resource: "referencegrants"}
}

// dynamic returns a client of the administrator for kinds client-go does not know.
func (e *Env) dynamic() dynamic.Interface {
	e.t.Helper()
	client, err := dynamic.NewForConfig(e.Cluster.AdminConfig())
	if err != nil {
		e.t.Fatalf("making a dynamic client: %v", err)
	}
	return client
}
