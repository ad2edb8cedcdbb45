package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

const (
	// requestPatience is how long a user waits for the API server.
	requestPatience = 3 * time.Second
	// lookPause is how often the world is looked at while it is in chaos.
	lookPause = 250 * time.Millisecond
)

// world is what the test knows. It is for the test's own goroutine.
type world struct {
	t      *testing.T
	env    *kit.Env
	seed   uint64
	begun  time.Time
	log    *os.File
	monkey *monkey
	fleet  *fleet
	api    restarts
	// serving is the instance of the driver; the monkey reads it, too.
	serving *atomic.Pointer[demodriver.Driver]

	names   []*name
	byName  map[string]*name
	claims  []*claim // in the order of their creation
	byUID   map[types.UID]*claim
	ownerOf map[string]*claim        // by handle
	pending []*name                  // to be created again when their name is free
	dropped map[string]time.Duration // classes that are deleted, until when
	// made is the names of all volumes that the driver ever had, by handle.
	made map[string]string
	// reclaimed are the handles whose retained PV an administrator deletes; true once the
	// administrator has deleted the volume, too.
	reclaimed map[string]bool
	pvs       map[string]*v1.PersistentVolume // as last read, by name
	looked    time.Time
	number    tally
	wrong     []string // contents, and volumes that are gone or shared
	empty     string   // the sum of an empty volume
}

// tally counts what was done.
type tally struct {
	created, clones, bound, deleted, failed int
	stripped, forged, pretended, drops      int
	filled, checked                         int
	policies, retained, reclaimed           int
	kills, terms, freezes                   int
	apiRestarts, driverRestarts             int
}

// name is a name for claims, with what they ask for: a claim that is created again
// asks for the same.
type name struct {
	text    string
	source  *name // nil: blank
	gi      int
	delayed bool
	// retain: the claims are of the class with the reclaim policy Retain.
	retain bool
	// live is the claim that has the name now, as far as the test knows.
	live *claim
}

// claim is one claim, for good: one that is created again is another.
type claim struct {
	*name
	uid     types.UID
	created time.Time
	// deleted: the test has asked for it, whether or not that was heard.
	deleted bool
	// Users have put the record on it by hand, taken it off, changed what it says, and
	// among that the volume's name or its source.
	pretended, stripped, forged, renamed, resourced bool
	// retained: a user has set the reclaim policy of its PV to Retain before its deletion was
	// requested. undecided: its volume may be deleted or retained, because a user has written
	// Retain on the claim, or because the response to setting it on the PV was lost.
	retained, undecided bool

	selected bool
	bound    bool
	handle   string
	pv       string
	// fillBegun and filled bound the moment when a file was put into a blank volume.
	fillBegun, filled time.Time
	sum               string
}

func newWorld(t *testing.T, seed uint64) *world {
	env := kit.New(t, kit.WithPlaces(zones()...))
	for i, zone := range zones() {
		env.PutNode(nodeName(i), zone)
	}
	env.ShowLogs(0) // too many; the folder is printed
	// An API server that is starting denies everything until it has read its roles.
	env.AllowForbidden()
	w := &world{
		t: t, env: env, seed: seed, begun: time.Now(),
		serving: &atomic.Pointer[demodriver.Driver]{},
		byName:  map[string]*name{}, byUID: map[types.UID]*claim{}, ownerOf: map[string]*claim{},
		dropped: map[string]time.Duration{}, made: map[string]string{}, reclaimed: map[string]bool{},
	}
	w.serving.Store(env.Driver.Driver)
	var err error
	if w.log, err = os.Create(w.path("actions.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.log.Close() })
	empty := w.path("empty")
	if err := os.Mkdir(empty, 0o777); err != nil {
		t.Fatal(err)
	}
	if w.empty, err = kit.Sum(empty); err != nil {
		t.Fatal(err)
	}
	env.CreateClass(w.delayedClass(), delayed)
	env.CreateClass(w.retainClass(), retaining)
	w.monkey = newMonkey(seed, w.exists)
	w.monkey.sit(env.Faults)
	w.fleet = newFleet(w)
	return w
}

// path returns a path in the test's folder.
func (w *world) path(name string) string {
	return filepath.Join(w.env.Cluster.Dir(), w.env.Namespace, name)
}

// say writes a line into actions.log.
func (w *world) say(format string, args ...any) {
	now := time.Now()
	fmt.Fprintf(w.log, "%s %7.3f ", now.Format("15:04:05.000"), now.Sub(w.begun).Seconds())
	fmt.Fprintf(w.log, format+"\n", args...)
}

// exists says whether the driver has a volume of that name.
func (w *world) exists(name string) bool {
	for _, volume := range w.serving.Load().Volumes() {
		if volume.Name == name {
			return true
		}
	}
	return false
}

// request returns a context for one request of a user.
func (w *world) request() (context.Context, context.CancelFunc) {
	return context.WithTimeout(w.env.Ctx, requestPatience)
}

// invent returns a new name for a claim.
func (w *world) invent(source *name, pick int) *name {
	n := &name{source: source, gi: 1, delayed: pick%8 == 0}
	n.retain = !n.delayed && pick/8%5 == 0
	kind := "b"
	if source != nil {
		// A clone is of its source's class, and no smaller.
		n.delayed, n.retain, n.gi, kind = source.delayed, source.retain, source.gi, "c"
		if pick%5 == 0 {
			n.gi++
		}
	}
	n.text = fmt.Sprintf("%s%03d", kind, len(w.names))
	w.names = append(w.names, n)
	w.byName[n.text] = n
	return n
}

// object returns the claim that is created under the name.
func (w *world) object(n *name, options ...kit.ClaimOption) *v1.PersistentVolumeClaim {
	options = append(options, kit.Size(fmt.Sprintf("%dGi", n.gi)))
	if n.source != nil {
		options = append(options, kit.CloneOf(n.source.text))
	}
	options = append(options, kit.Class(w.classOf(n)))
	return w.env.Claim(n.text, options...)
}

// adopt enters a claim that was created into the world.
func (w *world) adopt(n *name, object *v1.PersistentVolumeClaim, created time.Time) *claim {
	if c := w.byUID[object.UID]; c != nil {
		return c
	}
	c := &claim{name: n, uid: object.UID, created: created, pretended: w.recorded(object) && !w.ours(object)}
	c.undecided = !n.retain && object.Annotations[w.policyAnnotation()] == "Retain"
	n.live = c
	w.claims = append(w.claims, c)
	w.byUID[c.uid] = c
	w.number.created++
	if n.source != nil {
		w.number.clones++
	}
	return c
}

// The record, written out: its names are a promise.
func (w *world) recordFinalizer() string  { return w.env.DriverName + "/provisioning" }
func (w *world) nameAnnotation() string   { return w.env.DriverName + "/volume-name" }
func (w *world) bytesAnnotation() string  { return w.env.DriverName + "/required-bytes" }
func (w *world) sourceAnnotation() string { return w.env.DriverName + "/content-source" }
func (w *world) policyAnnotation() string { return w.env.DriverName + "/reclaim-policy" }

func (w *world) recorded(object *v1.PersistentVolumeClaim) bool {
	for _, finalizer := range object.Finalizers {
		if finalizer == w.recordFinalizer() {
			return true
		}
	}
	return false
}

// ours says whether a record looks like one that the provisioner wrote.
func (w *world) ours(object *v1.PersistentVolumeClaim) bool {
	return strings.HasSuffix(object.Annotations[w.nameAnnotation()], string(object.UID))
}

// live returns the claims that nobody has deleted, as far as the test knows.
func (w *world) live() []*claim {
	var live []*claim
	for _, c := range w.claims {
		if c.name.live == c && !c.deleted {
			live = append(live, c)
		}
	}
	return live
}

// pick returns one of some; nil if there is none.
func pick[T any](of []*T, number int) *T {
	if len(of) == 0 {
		return nil
	}
	return of[number%len(of)]
}

// zones are the places of the driver; there is a node in each.
func zones() []map[string]string {
	const key = "demo.example/zone"
	return []map[string]string{{key: "a"}, {key: "b"}, {key: "c"}}
}

func nodeName(i int) string { return fmt.Sprintf("node-%d", i+1) }
