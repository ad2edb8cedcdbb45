package informers

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
)

// ReferenceGrants is the resource of the Gateway API that says which namespaces may
// refer to objects of another one. Its Go types are not linked: two lists of names
// are all that is read.
func ReferenceGrants() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1beta1", Resource: "referencegrants"}
}

// newGrants returns the informer of all ReferenceGrants. While the API server does
// not serve them it asks again, less and less often, up to twice a minute.
func newGrants(client dynamic.Interface) cache.SharedIndexInformer {
	informer := dynamicinformer.NewFilteredDynamicInformer(client, ReferenceGrants(), v1.NamespaceAll, safetyResync,
		cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}, nil).Informer()
	if err := informer.SetTransform(newPacker("").transform); err != nil {
		panic(err) // only for an informer that runs
	}
	return informer
}
