package informers

import (
	"context"
	"errors"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
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
	prepare(informer, newPacker("", noInTree{}).transform)
	return informer
}

// prepare sets how an informer of what the API server need not have keeps its objects,
// and keeps it from logging an error each time that the API server has none.
func prepare(informer cache.SharedIndexInformer, transform cache.TransformFunc) {
	patient := func(ctx context.Context, r *cache.Reflector, err error) {
		if apierrors.IsNotFound(err) {
			klog.FromContext(ctx).V(4).Info("The API server does not serve this yet", "type", r.TypeDescription(), "err", err)
			return
		}
		cache.DefaultWatchErrorHandler(ctx, r, err)
	}
	if err := errors.Join(informer.SetTransform(transform), informer.SetWatchErrorHandlerWithContext(patient)); err != nil {
		panic(err) // only for an informer that runs
	}
}
