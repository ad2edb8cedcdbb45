package chaos

import (
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// crowd is how many claims there are before users rather delete some.
const crowd = 60

// act does what users do. What the API server does not hear is not tried again.
func (w *world) act(s step) {
	a, b := s.pick[0], s.pick[1]
	live := w.live()
	do := s.kind
	if len(live) >= crowd && a%2 == 0 && slices.Contains([]kind{blank, clone, early, flash}, do) {
		do = remove
	}
	switch do {
	case blank:
		w.create(w.awaited(a))
	case clone:
		w.createClone(live, a, b)
	case early:
		source := w.invent(nil, a)
		if parent := pick(live, a); parent != nil && b%3 == 0 {
			source = w.invent(parent.name, a)
		}
		w.create(w.invent(source, b))
	case orphan:
		if c := w.createClone(live, a, b); c != nil && c.source != nil && c.source.live != nil {
			w.remove(c.source.live)
		}
	case flash:
		if c := w.createClone(live, a, b); c != nil {
			w.remove(c)
		}
	case remove:
		w.remove(pick(live, a))
	case again:
		if c := pick(live, a); c != nil {
			w.remove(c)
			w.pending = append(w.pending, c.name)
		}
	case node:
		unselected := slices.DeleteFunc(live, func(c *claim) bool { return !c.delayed || c.selected })
		w.selectNode(pick(unselected, a))
	case strip, forge, forgePolicy:
		w.meddle(do, live, a, b)
	case pretend:
		w.pretend(live, a, b)
	case dropClass, retain, reclaim:
		w.administer(s, live)
	}
}

// awaited returns a name that a clone waits for, or a new one.
func (w *world) awaited(number int) *name {
	var absent []*name
	for _, n := range w.names {
		if n.source != nil && n.source.live == nil && !slices.Contains(absent, n.source) {
			absent = append(absent, n.source)
		}
	}
	if number%2 == 0 && len(absent) > 0 {
		return pick(absent, number/2)
	}
	return w.invent(nil, number)
}

// createClone clones one of the claims; a blank one if there are none.
func (w *world) createClone(live []*claim, a, b int) *claim {
	if source := pick(live, a); source != nil {
		return w.create(w.invent(source.name, b))
	}
	return w.create(w.invent(nil, b))
}

// create creates a claim of the name; nil if that fails.
func (w *world) create(n *name, options ...kit.ClaimOption) *claim {
	ctx, cancel := w.request()
	defer cancel()
	begun := time.Now()
	object, err := w.env.Admin.CoreV1().PersistentVolumeClaims(w.env.Namespace).
		Create(ctx, w.object(n, options...), metav1.CreateOptions{})
	if err != nil {
		w.failed("create claim %s: %v", n.text, err)
		return nil
	}
	source := "blank"
	if n.source != nil {
		source = "clone of " + n.source.text
	}
	w.say("create claim %s, %s, %dGi, class %s, finalizers %v: uid %s",
		n.text, source, n.gi, w.classOf(n), object.Finalizers, object.UID)
	return w.adopt(n, object, begun)
}

// recreate creates the claims again whose names are free by now.
func (w *world) recreate() {
	w.pending = slices.DeleteFunc(w.pending, func(n *name) bool {
		return n.live == nil && w.create(n) != nil
	})
}

func (w *world) failed(format string, args ...any) {
	w.number.failed++
	w.say("FAILED: "+format, args...)
}

func (w *world) remove(c *claim) {
	if c == nil {
		return
	}
	ctx, cancel := w.request()
	defer cancel()
	if !c.deleted {
		w.number.deleted++
	}
	c.deleted = true // perhaps: the answer may get lost
	err := w.env.Admin.CoreV1().PersistentVolumeClaims(w.env.Namespace).
		Delete(ctx, c.text, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &c.uid}})
	if err != nil {
		w.failed("delete claim %s: %v", c.text, err)
		return
	}
	w.say("delete claim %s", c.text)
}

// patch changes the metadata of a claim.
func (w *world) patch(c *claim, what, metadata string) bool {
	ctx, cancel := w.request()
	defer cancel()
	patch := fmt.Sprintf(`{"metadata":{"uid":%q,%s}}`, c.uid, metadata)
	_, err := w.env.Admin.CoreV1().PersistentVolumeClaims(w.env.Namespace).
		Patch(ctx, c.text, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		w.failed("%s claim %s: %v", what, c.text, err)
		return false
	}
	w.say("%s claim %s: %s", what, c.text, metadata)
	return true
}

// selectedNode is how the scheduler tells where a claim is to be provisioned.
const selectedNode = "volume.kubernetes.io/selected-node"

// selectNode does what the scheduler does.
func (w *world) selectNode(c *claim) {
	if c == nil {
		return
	}
	hash := fnv.New32()
	hash.Write([]byte(c.uid))
	node := w.env.Namespace + "-" + nodeName(int(hash.Sum32()%3))
	if w.patch(c, "select a node for", fmt.Sprintf(`"annotations":{%q:%q}`, selectedNode, node)) {
		c.selected = true
	}
}
