package chaos

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

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
	case strip, forge:
		w.meddle(do, live, a, b)
	case pretend:
		w.pretend(live, a, b)
	case dropClass:
		w.dropClass([]string{w.env.Class, w.delayedClass()}[a%2], s.at+time.Duration(2+b%6)*time.Second)
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
	w.say("create claim %s, %s, %dGi, delayed %t, finalizers %v: uid %s", n.text, source, n.gi, n.delayed, object.Finalizers, object.UID)
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

// meddle takes the record off a claim that carries it, or changes what it says.
// What such a claim is still promised, see excuse. One record is not both taken off and
// told of another source: the former lets the source go, and then nobody knows it.
func (w *world) meddle(how kind, live []*claim, a, b int) {
	ctx, cancel := w.request()
	defer cancel()
	list, err := w.env.Admin.CoreV1().PersistentVolumeClaims(w.env.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		w.failed("%s a record: %v", how, err)
		return
	}
	var recorded []*claim
	for i := range list.Items {
		if c := w.byUID[list.Items[i].UID]; c != nil && w.recorded(&list.Items[i]) && (how != strip || !c.resourced) {
			recorded = append(recorded, c)
		}
	}
	c := pick(recorded, a)
	if c == nil {
		return
	}
	// Before the request: its answer may get lost.
	if how == strip {
		w.number.stripped++
		c.stripped = true
		w.patch(c, "strip", fmt.Sprintf(`"$deleteFromPrimitiveList/finalizers":[%q]`, w.recordFinalizer()))
		return
	}
	w.number.forged++
	annotations := w.forgery(c, live, b)
	c.forged, c.renamed = true, c.renamed || strings.Contains(annotations, w.nameAnnotation())
	c.resourced = c.resourced || strings.Contains(annotations, w.sourceAnnotation())
	w.patch(c, "forge the record of", annotations)
}

// forgery returns annotations that nobody should believe.
func (w *world) forgery(c *claim, live []*claim, number int) string {
	stranger := c
	if other := pick(live, number); other != nil {
		stranger = other
	}
	annotations := []string{
		fmt.Sprintf(`%q:null,%q:null`, w.nameAnnotation(), w.bytesAnnotation()),
		fmt.Sprintf(`%q:"pvc-%s"`, w.nameAnnotation(), stranger.uid),
		fmt.Sprintf(`%q:"no volume"`, w.nameAnnotation()),
		fmt.Sprintf(`%q:"1"`, w.bytesAnnotation()),
	}
	if !c.stripped {
		annotations = append(annotations,
			fmt.Sprintf(`%q:null`, w.sourceAnnotation()),
			fmt.Sprintf(`%q:"volume:%s"`, w.sourceAnnotation(), stranger.handle),
			fmt.Sprintf(`%q:"no volume"`, w.sourceAnnotation()))
	}
	return fmt.Sprintf(`"annotations":{%s}`, annotations[number%len(annotations)])
}

// pretend creates a claim that carries a record already.
func (w *world) pretend(live []*claim, a, b int) {
	options := []kit.ClaimOption{kit.Finalizer(w.recordFinalizer())}
	source := pick(live, a)
	if source != nil && b%2 == 0 {
		options = append(options, kit.Annotation(w.nameAnnotation(), "pvc-"+string(source.uid)))
	}
	resourced := source != nil && b%5 < 2
	if resourced {
		options = append(options, kit.Annotation(w.sourceAnnotation(), "volume:"+source.handle))
	}
	n := w.invent(nil, b)
	switch {
	case b%3 == 0 && source != nil:
		n = w.invent(source.name, b)
	case b%3 == 1:
		n = w.invent(w.invent(nil, a), b)
	}
	w.number.pretended++
	if c := w.create(n, options...); c != nil {
		c.pretended, c.resourced = true, resourced
	}
}

// dropClass deletes a StorageClass until it is made again.
func (w *world) dropClass(class string, until time.Duration) {
	if _, gone := w.dropped[class]; gone {
		return
	}
	ctx, cancel := w.request()
	defer cancel()
	if err := w.env.Admin.StorageV1().StorageClasses().Delete(ctx, class, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		w.failed("delete class %s: %v", class, err)
		return
	}
	w.number.drops++
	w.dropped[class] = until
	w.say("delete class %s", class)
}

// restoreClasses makes the classes again that are due.
func (w *world) restoreClasses(now time.Duration) {
	for _, class := range []string{w.env.Class, w.delayedClass()} {
		if until, gone := w.dropped[class]; gone && now >= until && w.restoreClass(class) {
			delete(w.dropped, class)
		}
	}
}

func (w *world) restoreClass(name string) bool {
	class := &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: w.env.DriverName,
		ReclaimPolicy: ptr.To(v1.PersistentVolumeReclaimDelete),
	}
	if name == w.delayedClass() {
		delayed(class)
	}
	ctx, cancel := w.request()
	defer cancel()
	_, err := w.env.Admin.StorageV1().StorageClasses().Create(ctx, class, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		w.failed("create class %s: %v", name, err)
		return false
	}
	w.say("create class %s", name)
	return true
}
