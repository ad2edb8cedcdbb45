package informers

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// VolumeSnapshots is the resource of the snapshots that claims are restored from. Its Go
// types are not linked: a few fields are all that is read.
func VolumeSnapshots() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "snapshot.storage.k8s.io", Version: "v1", Resource: "volumesnapshots"}
}

// VolumeSnapshotContents is the resource of what the snapshots are bound to. They are read
// one by one: RBAC for the incumbent does not let us watch them.
func VolumeSnapshotContents() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "snapshot.storage.k8s.io", Version: "v1", Resource: "volumesnapshotcontents"}
}

// newSnapshots returns the informer of all VolumeSnapshots. While the API server does not
// serve them it asks again, less and less often, up to twice a minute.
func newSnapshots(client dynamic.Interface) cache.SharedIndexInformer {
	informer := dynamicinformer.NewFilteredDynamicInformer(client, VolumeSnapshots(), v1.NamespaceAll, safetyResync,
		cache.Indexers{byProtection: protectedSnapshot}, nil).Informer()
	prepare(informer, thinSnapshot)
	return informer
}

func protectedSnapshot(obj any) ([]string, error) {
	if snapshot, ok := obj.(*unstructured.Unstructured); ok {
		for _, f := range snapshot.GetFinalizers() {
			if f == wellknown.SnapshotProtection {
				return []string{f}, nil
			}
		}
	}
	return nil, nil
}

// thinSnapshot keeps of a VolumeSnapshot what the rules ask for.
func thinSnapshot(obj any) (any, error) {
	whole, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return obj, nil
	}
	kept := map[string]any{"apiVersion": whole.GetAPIVersion(), "kind": whole.GetKind()}
	for _, part := range []struct {
		name   string
		fields []string
	}{
		{"metadata", []string{"namespace", "name", "uid", "resourceVersion", "deletionTimestamp", "finalizers"}},
		{"spec", []string{"source"}},
		{"status", []string{"boundVolumeSnapshotContentName", "readyToUse", "restoreSize", "error"}},
	} {
		from, _ := whole.Object[part.name].(map[string]any)
		to := map[string]any{}
		for _, field := range part.fields {
			if value, found := from[field]; found {
				to[field] = value
			}
		}
		kept[part.name] = to
	}
	return &unstructured.Unstructured{Object: kept}, nil
}
