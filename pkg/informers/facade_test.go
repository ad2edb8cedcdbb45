package informers_test

import (
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
)

// informer keeps the handler that it is given; the test plays the watch.
type informer struct {
	cache.SharedIndexInformer
	handler cache.ResourceEventHandler
	resync  time.Duration
}

func (i *informer) AddEventHandlerWithResyncPeriod(h cache.ResourceEventHandler, resync time.Duration) (cache.ResourceEventHandlerRegistration, error) {
	i.handler, i.resync = h, resync
	return nil, nil
}

// engine writes down what it sees.
type engine struct{ saw []string }

func (e *engine) OnAdd(obj any, _ bool) { e.note("add ", obj) }
func (e *engine) OnUpdate(_, obj any)   { e.note("update ", obj) }
func (e *engine) OnDelete(obj any)      { e.note("delete ", obj) }
func (e *engine) note(what string, obj any) {
	e.saw = append(e.saw, what+obj.(*v1.PersistentVolumeClaim).Name)
}

func named(name string, finalizers ...string) *v1.PersistentVolumeClaim {
	return &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: finalizers}}
}

func recorded(obj any) bool {
	claim, ok := obj.(*v1.PersistentVolumeClaim)
	return ok && len(claim.Finalizers) > 0
}

func TestFacade(t *testing.T) {
	on, off := named("copy", "record"), named("copy")
	for _, c := range []struct {
		name string
		do   func(*informers.Facade, cache.ResourceEventHandler)
		want []string
	}{
		{"a claim on record is seen", func(_ *informers.Facade, w cache.ResourceEventHandler) { w.OnAdd(on, true) }, []string{"add copy"}},
		{"one that is not is hidden", func(_ *informers.Facade, w cache.ResourceEventHandler) { w.OnAdd(off, false) }, nil},
		{"so are its changes", func(_ *informers.Facade, w cache.ResourceEventHandler) { w.OnUpdate(off, off) }, nil},
		{"and its end", func(_ *informers.Facade, w cache.ResourceEventHandler) { w.OnDelete(off) }, nil},
		{"it appears when it is put on record", func(_ *informers.Facade, w cache.ResourceEventHandler) { w.OnUpdate(off, on) }, []string{"add copy"}},
		{"its changes are seen then", func(_ *informers.Facade, w cache.ResourceEventHandler) { w.OnUpdate(on, on) }, []string{"update copy"}},
		{"it is gone when the record is off", func(_ *informers.Facade, w cache.ResourceEventHandler) { w.OnUpdate(on, off) }, []string{"delete copy"}},
		{"what is no claim is hidden", func(_ *informers.Facade, w cache.ResourceEventHandler) {
			w.OnDelete(cache.DeletedFinalStateUnknown{Key: "copy", Obj: on})
		}, nil},
		{"waking looks like a change", func(f *informers.Facade, _ cache.ResourceEventHandler) { f.Wake(on) }, []string{"update copy"}},
		{"nobody is woken for a claim that is not on record", func(f *informers.Facade, _ cache.ResourceEventHandler) { f.Wake(off) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			behind, seer := &informer{}, &engine{}
			facade := informers.NewFacade(behind, recorded)
			if _, err := facade.AddEventHandlerWithResyncPeriod(seer, time.Minute); err != nil {
				t.Fatal(err)
			}
			c.do(facade, behind.handler)
			if !slices.Equal(seer.saw, c.want) {
				t.Errorf("the engine saw %v, want %v", seer.saw, c.want)
			}
			if behind.resync != time.Minute {
				t.Errorf("resync is %s, want 1m", behind.resync)
			}
		})
	}
}

func TestWakeBeforeTheEngineIsThere(*testing.T) {
	informers.NewFacade(&informer{}, recorded).Wake(named("copy", "record"))
}
