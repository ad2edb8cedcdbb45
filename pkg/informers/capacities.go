package informers

import (
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	storageinformers "k8s.io/client-go/informers/storage/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const byPair = "what it is about"

// Capacities is an informer of the CSIStorageCapacity objects of one namespace that have
// certain labels. It stands by itself, for it has a client of its own and only the one
// who publishes capacity waits for it.
type Capacities struct{ cache.SharedIndexInformer }

// NewCapacities returns the informer; it does not run. pair says by what an object is
// found.
func NewCapacities(client kubernetes.Interface, namespace string, wanted map[string]string, pair func(*storagev1.CSIStorageCapacity) string) (Capacities, error) {
	informer := storageinformers.NewFilteredCSIStorageCapacityInformer(client, namespace, 0,
		cache.Indexers{byPair: func(obj any) ([]string, error) {
			if object, ok := obj.(*storagev1.CSIStorageCapacity); ok {
				return []string{pair(object)}, nil
			}
			return nil, nil
		}},
		func(options *metav1.ListOptions) { options.LabelSelector = labels.SelectorFromSet(wanted).String() })
	return Capacities{informer}, informer.SetTransform(newPacker("", noInTree{}).transform)
}

// About returns the objects that are found by that; they are shared.
func (c Capacities) About(pair string) []*storagev1.CSIStorageCapacity {
	return find[*storagev1.CSIStorageCapacity](c.SharedIndexInformer, byPair, pair)
}
