package bench

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// times are moments by the name of a claim.
type times map[string]time.Time

// watcher notes when which claim and which PV gets where, as a user who watches
// would see it.
type watcher struct {
	env *kit.Env

	mu      sync.Mutex
	changed chan struct{} // closed and replaced with each note
	// bound and claimGone are about claims, saved and pvGone about their PVs.
	bound, claimGone, saved, pvGone times
	// recorded are the claims that carry the provisioner's finalizer.
	recorded map[string]bool
}

// watch watches the test's claims and PVs until its end.
func watch(t *testing.T, env *kit.Env) *watcher {
	t.Helper()
	config := rest.CopyConfig(env.Cluster.AdminConfig())
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{
		env: env, changed: make(chan struct{}), recorded: map[string]bool{},
		bound: times{}, claimGone: times{}, saved: times{}, pvGone: times{},
	}
	claims := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(env.Namespace))
	pvs := informers.NewSharedInformerFactory(client, 0)
	handle(t, claims.Core().V1().PersistentVolumeClaims().Informer(), w.claim)
	handle(t, pvs.Core().V1().PersistentVolumes().Informer(), w.pv)
	for _, factory := range []informers.SharedInformerFactory{claims, pvs} {
		stop := make(chan struct{})
		factory.Start(stop)
		factory.WaitForCacheSync(stop)
		t.Cleanup(func() {
			close(stop)
			factory.Shutdown()
		})
	}
	return w
}

// handle has note called for each object that is new, has changed or is gone.
func handle[T any](t *testing.T, informer cache.SharedIndexInformer, note func(object T, gone bool)) {
	t.Helper()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { note(obj.(T), false) },
		UpdateFunc: func(_, obj any) { note(obj.(T), false) },
		DeleteFunc: func(obj any) {
			if last, isLast := obj.(cache.DeletedFinalStateUnknown); isLast {
				obj = last.Obj
			}
			note(obj.(T), true)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (w *watcher) claim(claim *v1.PersistentVolumeClaim, gone bool) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	recorded := slices.ContainsFunc(claim.Finalizers, func(f string) bool {
		return strings.HasPrefix(f, strings.ToLower(w.env.DriverName)+"/")
	})
	if recorded && !gone {
		w.recorded[claim.Name] = true
	} else {
		delete(w.recorded, claim.Name)
	}
	if claim.Status.Phase == v1.ClaimBound {
		w.bound.first(claim.Name, now)
	}
	if gone {
		w.claimGone.first(claim.Name, now)
	}
	w.notify()
}

func (w *watcher) pv(pv *v1.PersistentVolume, gone bool) {
	if pv.Spec.CSI == nil || pv.Spec.CSI.Driver != w.env.DriverName || pv.Spec.ClaimRef == nil {
		return
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.saved.first(pv.Spec.ClaimRef.Name, now)
	if gone {
		w.pvGone.first(pv.Spec.ClaimRef.Name, now)
	}
	w.notify()
}

func (t times) first(name string, now time.Time) {
	if _, known := t[name]; !known {
		t[name] = now
	}
}

// notify wakes whoever waits. The caller holds mu.
func (w *watcher) notify() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// await waits until every one of the names is in each of the sets, and fails the
// test if for a long time nothing new comes.
func (w *watcher) await(t *testing.T, what string, names []string, sets ...times) {
	t.Helper()
	w.until(t, func() string {
		for _, set := range sets {
			for _, name := range names {
				if _, there := set[name]; !there {
					return fmt.Sprintf("%s: %q, for one, is missing", what, name)
				}
			}
		}
		return ""
	})
}

// awaitUnrecorded waits until no claim carries the provisioner's finalizer.
func (w *watcher) awaitUnrecorded(t *testing.T) {
	t.Helper()
	w.until(t, func() string {
		if len(w.recorded) == 0 {
			return ""
		}
		return fmt.Sprintf("%d claims are still on record", len(w.recorded))
	})
}

// stall is how long nothing new may come before a wait is given up.
const stall = 2 * time.Minute

// until waits until missing, called with mu held, returns nothing. It looks after
// each change, but not more often than every few milliseconds: looking must not be
// what is measured.
func (w *watcher) until(t *testing.T, missing func() string) {
	t.Helper()
	const pause = 20 * time.Millisecond
	for {
		w.mu.Lock()
		why, changed := missing(), w.changed
		w.mu.Unlock()
		if why == "" {
			return
		}
		timer := time.NewTimer(stall)
		select {
		case <-changed:
			timer.Stop()
		case <-timer.C:
			t.Fatalf("nothing has changed for %s: %s", stall, why)
		}
		<-time.After(pause)
	}
}

// since returns the seconds from begun until the moments of the names, sorted.
func (w *watcher) since(begun time.Time, names []string, set times) []float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	var seconds []float64
	for _, name := range names {
		seconds = append(seconds, set[name].Sub(begun).Seconds())
	}
	slices.Sort(seconds)
	return seconds
}

// waits returns the seconds from the i-th moment until that of the i-th name, sorted.
func (w *watcher) waits(names []string, from []time.Time, set times) []float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	var seconds []float64
	for i, name := range names {
		seconds = append(seconds, set[name].Sub(from[i]).Seconds())
	}
	slices.Sort(seconds)
	return seconds
}
