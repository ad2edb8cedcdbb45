package informers

import (
	"time"

	"k8s.io/client-go/tools/cache"
)

// thin is an informer whose cache holds packed objects: what goes in and out of it is
// whole. Foreign objects are in no index.
type thin struct {
	cache.SharedIndexInformer
	// own: events of foreign objects are left out.
	own bool
}

func (t thin) AddEventHandler(handler cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) {
	return t.SharedIndexInformer.AddEventHandler(t.whole(handler))
}

func (t thin) AddEventHandlerWithResyncPeriod(handler cache.ResourceEventHandler, resync time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	return t.SharedIndexInformer.AddEventHandlerWithResyncPeriod(t.whole(handler), resync)
}

func (t thin) AddEventHandlerWithOptions(handler cache.ResourceEventHandler, options cache.HandlerOptions) (cache.ResourceEventHandlerRegistration, error) {
	return t.SharedIndexInformer.AddEventHandlerWithOptions(t.whole(handler), options)
}

func (t thin) GetStore() cache.Store { return t.GetIndexer() }

func (t thin) GetIndexer() cache.Indexer {
	return wholeIndexer{t.SharedIndexInformer.GetIndexer(), t.own}
}

func (t thin) AddIndexers(indexers cache.Indexers) error {
	unpacked := cache.Indexers{}
	for name, index := range indexers {
		unpacked[name] = func(obj any) ([]string, error) {
			if _, foreign := obj.(*packed); foreign {
				return nil, nil
			}
			return index(obj)
		}
	}
	return t.SharedIndexInformer.AddIndexers(unpacked)
}

func (t thin) whole(handler cache.ResourceEventHandler) cache.ResourceEventHandler {
	handler = wholeHandler{handler}
	if !t.own {
		return handler
	}
	return cache.FilteringResourceEventHandler{
		FilterFunc: func(obj any) bool {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			_, foreign := obj.(*packed)
			return !foreign
		},
		Handler: handler,
	}
}

// ForeignHandler is what a handler may be besides, to be told of objects that are none
// of ours, and were none before.
type ForeignHandler interface {
	OnForeign(namespace, name string)
}

// wholeHandler shows whole objects to the handler. Foreign ones are seen when they are
// deleted, become ours or are ours no more; else by name at most, for there are many,
// and nobody asks more of them.
type wholeHandler struct{ handler cache.ResourceEventHandler }

func (h wholeHandler) OnAdd(obj any, first bool) {
	if !h.onForeign(obj) {
		h.handler.OnAdd(obj, first)
	}
}

func (h wholeHandler) OnUpdate(old, obj any) {
	if _, was := old.(*packed); !was || !h.onForeign(obj) {
		h.handler.OnUpdate(unpack(old), unpack(obj))
	}
}

func (h wholeHandler) onForeign(obj any) bool {
	p, foreign := obj.(*packed)
	if handler, wanted := h.handler.(ForeignHandler); foreign && wanted {
		handler.OnForeign(p.GetNamespace(), p.GetName())
	}
	return foreign
}

func (h wholeHandler) OnDelete(obj any) { h.handler.OnDelete(unpack(obj)) }

// wholeIndexer returns whole objects from the cache.
type wholeIndexer struct {
	cache.Indexer
	own bool
}

// List leaves foreign objects out where their events are left out.
func (i wholeIndexer) List() []any {
	var list []any
	for _, obj := range i.Indexer.List() {
		if _, foreign := obj.(*packed); !foreign || !i.own {
			list = append(list, unpack(obj))
		}
	}
	return list
}

func (i wholeIndexer) Get(obj any) (any, bool, error) {
	found, exists, err := i.Indexer.Get(obj)
	return unpack(found), exists, err
}

func (i wholeIndexer) GetByKey(key string) (any, bool, error) {
	found, exists, err := i.Indexer.GetByKey(key)
	return unpack(found), exists, err
}
