package informers

import (
	"sync"
	"time"

	"k8s.io/client-go/tools/cache"
)

// Facade is an informer as the engine sees it: events of objects that are not for the
// engine never reach its queue, and Wake puts one there that is. It keeps the engine's
// handler for that.
type Facade struct {
	cache.SharedIndexInformer
	seen func(obj any) bool

	mu      sync.Mutex
	handler cache.ResourceEventHandler
}

// NewFacade stands in front of the informer. seen says whether the engine may see an
// object.
func NewFacade(informer cache.SharedIndexInformer, seen func(obj any) bool) *Facade {
	return &Facade{SharedIndexInformer: informer, seen: seen}
}

// AddEventHandlerWithResyncPeriod is the method by which the engine registers.
func (f *Facade) AddEventHandlerWithResyncPeriod(handler cache.ResourceEventHandler, resync time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	f.mu.Lock()
	f.handler = handler
	f.mu.Unlock()
	return f.SharedIndexInformer.AddEventHandlerWithResyncPeriod(cache.FilteringResourceEventHandler{FilterFunc: f.seen, Handler: handler}, resync)
}

// Wake makes the engine look at the object again now, whatever back-off it is in.
func (f *Facade) Wake(obj any) {
	f.mu.Lock()
	handler := f.handler
	f.mu.Unlock()
	if handler != nil && f.seen(obj) {
		handler.OnUpdate(obj, obj)
	}
}
