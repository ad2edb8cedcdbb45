package informers

import (
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
)

// Facade is the claim informer as the engine sees it: events of claims that
// are not on record never reach the engine's queue, and Wake puts one there
// that is. It keeps the engine's handler for that.
type Facade struct {
	cache.SharedIndexInformer
	recorded func(*v1.PersistentVolumeClaim) bool

	mu      sync.Mutex
	handler cache.ResourceEventHandler
}

// NewFacade stands in front of the informer. recorded says whether a claim may
// be seen.
func NewFacade(informer cache.SharedIndexInformer, recorded func(*v1.PersistentVolumeClaim) bool) *Facade {
	return &Facade{SharedIndexInformer: informer, recorded: recorded}
}

// AddEventHandlerWithResyncPeriod is the method by which the engine registers.
func (f *Facade) AddEventHandlerWithResyncPeriod(handler cache.ResourceEventHandler, resync time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	f.mu.Lock()
	f.handler = handler
	f.mu.Unlock()
	return f.SharedIndexInformer.AddEventHandlerWithResyncPeriod(cache.FilteringResourceEventHandler{
		FilterFunc: func(obj any) bool {
			claim, ok := obj.(*v1.PersistentVolumeClaim)
			return ok && f.recorded(claim)
		},
		Handler: handler,
	}, resync)
}

// Wake makes the engine look at the claim again now, whatever back-off it is in.
func (f *Facade) Wake(claim *v1.PersistentVolumeClaim) {
	f.mu.Lock()
	handler := f.handler
	f.mu.Unlock()
	if handler != nil && f.recorded(claim) {
		handler.OnUpdate(claim, claim)
	}
}
