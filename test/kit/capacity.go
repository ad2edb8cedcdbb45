package kit

import (
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Capacities returns the CSIStorageCapacity objects of the test's namespace.
func (e *Env) Capacities() []storagev1.CSIStorageCapacity {
	e.t.Helper()
	list, err := e.Admin.StorageV1().CSIStorageCapacities(e.Namespace).List(e.Ctx, metav1.ListOptions{})
	if err != nil {
		e.t.Fatalf("listing CSIStorageCapacity objects of namespace %q: %v", e.Namespace, err)
	}
	return list.Items
}

// ChangeCapacity changes a CSIStorageCapacity object of the test's namespace by a merge
// patch.
func (e *Env) ChangeCapacity(name, patch string) {
	e.t.Helper()
	_, err := e.Admin.StorageV1().CSIStorageCapacities(e.Namespace).Patch(e.Ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		e.t.Fatalf("changing CSIStorageCapacity %s/%s: %v", e.Namespace, name, err)
	}
}
