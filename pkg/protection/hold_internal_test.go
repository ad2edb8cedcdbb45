package protection

import (
	"errors"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	testingclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/claimwriter"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

const driver = "clone.example.com"

// controller returns one with the objects in its caches and no API server. A
// label of a claim names its source.
func controller(t *testing.T, objects ...metav1.Object) *Controller {
	t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "https://nowhere.invalid"})
	if err != nil {
		t.Fatal(err)
	}
	caches, err := informers.New(client, driver, informers.Keys{
		CloneSource: func(c *v1.PersistentVolumeClaim) string { return c.Labels["source"] },
		Snapshot:    func(*v1.PersistentVolumeClaim) string { return "" },
		VolumeName:  func(*v1.PersistentVolumeClaim) string { return "" },
	}, informers.Wanted{})
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		store := caches.Claims.GetStore()
		if _, isPV := object.(*v1.PersistentVolume); isPV {
			store = caches.PVs.GetStore()
		}
		if err := store.Add(object); err != nil {
			t.Fatal(err)
		}
	}
	sourceOf := func(c *v1.PersistentVolumeClaim) (string, string, bool) {
		return c.Namespace, "db", c.Labels["source"] != ""
	}
	needs := func(*v1.PersistentVolumeClaim) bool { return true }
	recorder := observe.NewRecorder(t.Context(), client, driver, clock.RealClock{})
	t.Cleanup(recorder.Stop)
	c := New(Config{
		Recorder: recorder,
		Sources:  Claims(claimwriter.New(client, false), caches, driver, nil), Caches: caches,
		SourceOf: sourceOf, Needs: needs, RemovalDelay: time.Minute, Clock: clock.RealClock{},
	})
	t.Cleanup(c.queue.ShutDown)
	return c
}

func claim(name, version string, finalizers ...string) *v1.PersistentVolumeClaim {
	return &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: name, UID: "uid-db", ResourceVersion: version, Finalizers: finalizers,
	}}
}

// named returns a source whose uid is its name.
func named(name string) *v1.PersistentVolumeClaim {
	return &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name)}}
}

func TestHoldsAreCounted(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*Controller)
		held []string
		// looked is how many sources are looked at again, because nobody holds them now.
		looked int
	}{
		{"nothing is held at first", func(*Controller) {}, nil, 0},
		{"a claim holds its source", func(c *Controller) { c.count("a", named("db")) }, []string{"db"}, 0},
		{"and lets it go", func(c *Controller) { c.count("a", named("db")); c.Unhold("a") }, nil, 1},
		{"two claims hold it until both let go", func(c *Controller) { c.count("a", named("db")); c.count("b", named("db")); c.Unhold("a") }, []string{"db"}, 0},
		{"holding twice is letting go once", func(c *Controller) { c.count("a", named("db")); c.count("a", named("db")); c.Unhold("a") }, nil, 1},
		{"a claim that names another source lets the first go", func(c *Controller) { c.count("a", named("db")); c.count("a", named("web")) }, []string{"web"}, 1},
		{"letting go without a hold does nothing", func(c *Controller) { c.count("a", named("db")); c.Unhold("z") }, []string{"db"}, 0},
		{"letting go twice lets nobody else's go", func(c *Controller) {
			c.count("a", named("db"))
			c.count("b", named("db"))
			c.Unhold("a")
			c.Unhold("a")
		}, []string{"db"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			controller := controller(t)
			c.do(controller)
			var held []string
			for _, source := range []types.UID{"db", "web"} {
				if controller.held(source) {
					held = append(held, string(source))
				}
			}
			if !slices.Equal(held, c.held) {
				t.Errorf("held: %v, want %v", held, c.held)
			}
			if len(controller.holds) != len(c.held) {
				t.Errorf("left behind: %v", controller.holds)
			}
			if got := controller.queue.Len(); got != c.looked {
				t.Errorf("%d sources are looked at again, want %d", got, c.looked)
			}
		})
	}
}

func TestNeeded(t *testing.T) {
	source := claim("db", "1")
	clone := claim("copy", "1")
	clone.UID, clone.Labels = "uid-copy", map[string]string{"source": "shop/db"}
	if controller(t, source).needed(source) {
		t.Error("a source without clones is needed")
	}
	if !controller(t, source, clone).needed(source) {
		t.Error("a source with a clone on record is not needed")
	}
	doubted := controller(t, source, clone)
	doubted.Needs = func(c *v1.PersistentVolumeClaim) bool { return c.Name != "copy" }
	if doubted.needed(source) {
		t.Error("a source is needed by a claim that may not use it")
	}
	held := controller(t, source)
	held.count("uid-copy", source)
	if !held.needed(source) {
		t.Error("a source that is held is not needed")
	}
}

// Only sources whose volume is of this driver are touched.
func TestOurs(t *testing.T) {
	pv := func(driver string) *v1.PersistentVolume {
		pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-db"}}
		if driver != "" {
			pv.Spec.CSI = &v1.CSIPersistentVolumeSource{Driver: driver}
		}
		return pv
	}
	for _, c := range []struct {
		name        string
		pv          *v1.PersistentVolume
		annotations map[string]string
		want        bool
	}{
		{"a PV of this driver", pv(driver), nil, true},
		{"a PV of another driver", pv("other"), map[string]string{wellknown.StorageProvisioner: driver}, false},
		{"a PV that is not CSI", pv(""), map[string]string{wellknown.StorageProvisioner: driver}, false},
		{"no PV, and the claim was given to this driver", nil, map[string]string{wellknown.StorageProvisioner: driver}, true},
		{"no PV, and the old annotation names this driver", nil, map[string]string{wellknown.BetaStorageProvisioner: driver}, true},
		{"no PV, and the newer annotation wins", nil, map[string]string{wellknown.StorageProvisioner: "other", wellknown.BetaStorageProvisioner: driver}, false},
		{"nothing is known", nil, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := claim("db", "1")
			source.Spec.VolumeName, source.Annotations = "pv-db", c.annotations
			objects := []metav1.Object{source}
			if c.pv != nil {
				objects = append(objects, c.pv)
			}
			if got, err := controller(t, objects...).Sources.Ours(t.Context(), source); got != c.want || err != nil {
				t.Errorf("got %t, %v", got, err)
			}
		})
	}
}

// Until the cache has our last write, that write says whether the finalizer is
// there.
func TestPresent(t *testing.T) {
	const finalizer = wellknown.CloningProtection
	for _, c := range []struct {
		name    string
		cached  *v1.PersistentVolumeClaim
		written *v1.PersistentVolumeClaim
		present bool
		want    bool
	}{
		{"the cache says yes", claim("db", "5", finalizer), nil, false, true},
		{"the cache says no", claim("db", "5"), nil, false, false},
		{"we wrote it and the cache is behind", claim("db", "5"), claim("db", "6", finalizer), true, true},
		{"we took it off and the cache is behind", claim("db", "5", finalizer), claim("db", "6"), false, false},
		{"we wrote it and somebody took it off since", claim("db", "7"), claim("db", "6", finalizer), true, false},
		{"we wrote it and the cache has that", claim("db", "6", finalizer), claim("db", "6", finalizer), true, true},
		{"we took it off, that was the source's end, and the cache is behind", claim("db", "5", finalizer), ended(claim("db", "6")), false, false},
		{"versions are numbers, not words", claim("db", "9"), claim("db", "10", finalizer), true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			controller := controller(t, c.cached)
			if c.written != nil {
				controller.wrote(c.written, c.present)
			}
			if got, known := controller.present(c.cached); got != c.want || !known {
				t.Errorf("got %t, known %t", got, known)
			}
		})
	}
}

// ended returns the claim as the answer shows it that takes the last finalizer off.
func ended(c *v1.PersistentVolumeClaim) *v1.PersistentVolumeClaim {
	c.DeletionTimestamp = ptr.To(metav1.Now())
	return c
}

func TestASourceThatIsGoneIsForgotten(t *testing.T) {
	for name, objects := range map[string][]metav1.Object{"it is gone from the cache": nil, "there is another of its name": {named("db")}} {
		t.Run(name, func(t *testing.T) {
			controller := controller(t, objects...)
			controller.wrote(ended(claim("db", "6")), false)
			if len(controller.written) > 0 {
				t.Errorf("it is remembered: %v", controller.written)
			}
		})
	}
}

// A write without an answer may have landed: the cache cannot tell.
func TestPresentIsNotKnownAfterALostAnswer(t *testing.T) {
	cached := claim("db", "5", wellknown.CloningProtection)
	controller := controller(t, cached)
	controller.lost(cached)
	controller.caughtUp(claim("db", "6", wellknown.CloningProtection))
	if _, known := controller.present(cached); known {
		t.Error("it should not be known")
	}
	controller.wrote(claim("db", "7", wellknown.CloningProtection), true)
	if present, known := controller.present(cached); !present || !known {
		t.Errorf("after the next answer: present %t, known %t", present, known)
	}
}

func TestPresentOfAClaimMadeAgain(t *testing.T) {
	old, again := claim("db", "5"), claim("db", "9", wellknown.CloningProtection)
	again.UID = "uid-again"
	if present, _ := controller(t, again).present(old); present {
		t.Error("the finalizer of a later claim of that name counts")
	}
}

// both tells two handlers, as the informer of claims does.
type both [2]cache.ResourceEventHandler

func (b both) OnAdd(obj any, first bool) { b[0].OnAdd(obj, first); b[1].OnAdd(obj, first) }
func (b both) OnUpdate(old, obj any)     { b[0].OnUpdate(old, obj); b[1].OnUpdate(old, obj) }
func (b both) OnDelete(obj any)          { b[0].OnDelete(obj); b[1].OnDelete(obj) }

// What shows in the queue after a change of a clone or a source.
func TestHandler(t *testing.T) {
	const finalizer = wellknown.CloningProtection
	clone := func(source string) *v1.PersistentVolumeClaim {
		c := claim("copy", "1")
		c.UID, c.Labels = "uid-copy", map[string]string{"source": source}
		return c
	}
	deleting := func(c *v1.PersistentVolumeClaim) *v1.PersistentVolumeClaim {
		c.DeletionTimestamp = &metav1.Time{}
		return c
	}
	for _, c := range []struct {
		name string
		do   func(cache.ResourceEventHandler)
		want bool
	}{
		{"a source appears", func(h cache.ResourceEventHandler) { h.OnAdd(claim("db", "1", finalizer), true) }, false},
		{"a source appears that is being deleted", func(h cache.ResourceEventHandler) { h.OnAdd(deleting(claim("db", "1", finalizer)), true) }, true},
		{"a claim without protection is deleted", func(h cache.ResourceEventHandler) { h.OnUpdate(claim("db", "1"), deleting(claim("db", "2"))) }, false},
		{"a protected source is deleted", func(h cache.ResourceEventHandler) {
			h.OnUpdate(claim("db", "1", finalizer), deleting(claim("db", "2", finalizer)))
		}, true},
		{"somebody strips the protection", func(h cache.ResourceEventHandler) { h.OnUpdate(claim("db", "1", finalizer), claim("db", "2")) }, true},
		{"a source changes otherwise", func(h cache.ResourceEventHandler) {
			h.OnUpdate(claim("db", "1", finalizer), claim("db", "2", finalizer))
		}, false},
		{"a clone goes on", func(h cache.ResourceEventHandler) { h.OnUpdate(clone("shop/db"), clone("shop/db")) }, false},
		{"a clone is through", func(h cache.ResourceEventHandler) { h.OnUpdate(clone("shop/db"), clone("")) }, true},
		{"a clone is gone", func(h cache.ResourceEventHandler) { h.OnDelete(clone("shop/db")) }, true},
		{"a clone is gone and nobody saw it go", func(h cache.ResourceEventHandler) {
			h.OnDelete(cache.DeletedFinalStateUnknown{Key: "shop/copy", Obj: clone("shop/db")})
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			controller := controller(t)
			c.do(both{controller.sourceHandler(), controller.cloneHandler()})
			if got := controller.queue.Len() > 0; got != c.want {
				t.Fatalf("looked at again: %t", got)
			}
			if c.want {
				if it, _ := controller.queue.Get(); it != (item{namespace: "shop", name: "db"}) {
					t.Errorf("looked at: %+v", it)
				}
			}
		})
	}
}

func TestIgnoreGone(t *testing.T) {
	source, other := claim("db", "1"), errors.New("no route to host")
	gone := apierrors.NewNotFound(v1.Resource("persistentvolumeclaims"), "db")
	for _, c := range []struct {
		name    string
		err     error
		present bool
		want    string
	}{
		{"taking it off a source that is gone", gone, false, ""},
		{"putting it on a source that is gone", gone, true, `putting the cloning protection on source PVC "db": persistentvolumeclaims "db" not found`},
		{"taking it off fails otherwise", other, false, `taking the cloning protection off source PVC "db": no route to host`},
		{"putting it on fails otherwise", other, true, `putting the cloning protection on source PVC "db": no route to host`},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := controller(t).ignoreGone(c.err, source, c.present)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != c.want || err != nil && !errors.Is(err, c.err) {
				t.Errorf("got  %q\nwant %q", text, c.want)
			}
		})
	}
}

// A source whose clone was not begun after all is let go, though nobody deletes it and
// nothing sweeps.
func TestASourceThatNobodyHoldsAnyMoreIsLookedAtLater(t *testing.T) {
	c := controller(t)
	hands := testingclock.NewFakeClock(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
	c.queue.ShutDown()
	c.queue = workqueue.NewTypedRateLimitingQueueWithConfig(workqueue.DefaultTypedControllerRateLimiter[item](),
		workqueue.TypedRateLimitingQueueConfig[item]{Clock: hands})
	t.Cleanup(func() { c.queue.ShutDown() })
	c.count("a", named("db"))
	c.Unhold("a")
	if it, _ := c.queue.Get(); it != (item{namespace: "shop", name: "db"}) {
		t.Fatalf("looked at: %+v", it)
	}
	hands.Step(c.RemovalDelay)
	if it, _ := c.queue.Get(); it != (item{"shop", "db", true}) {
		t.Errorf("looked at later: %+v", it)
	}
}
