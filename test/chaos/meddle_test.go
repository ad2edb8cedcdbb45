package chaos

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

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
	if how == forgePolicy && b%4 != 0 {
		recorded = preferRetain(recorded)
	}
	c := pick(recorded, a)
	switch {
	case c == nil:
	case how == strip:
		// Before the request: its answer may get lost.
		w.number.stripped++
		c.stripped = true
		w.patch(c, "strip", fmt.Sprintf(`"$deleteFromPrimitiveList/finalizers":[%q]`, w.recordFinalizer()))
	case how == forgePolicy && c.retain:
		w.forge(c, fmt.Sprintf(`%q:"Delete"`, w.policyAnnotation()))
	case how == forgePolicy:
		w.forge(c, fmt.Sprintf(`%q:"Retain"`, w.policyAnnotation()))
	default:
		w.forge(c, w.forgery(c, live, b))
	}
}

// preferRetain returns the claims of the Retain class; all if there are none.
func preferRetain(claims []*claim) []*claim {
	retained := slices.DeleteFunc(slices.Clone(claims), func(c *claim) bool { return !c.retain })
	if len(retained) == 0 {
		return claims
	}
	return retained
}

// forge writes annotations of the record on a claim.
func (w *world) forge(c *claim, annotations string) {
	// Before the request: its answer may get lost.
	w.number.forged++
	c.forged, c.renamed = true, c.renamed || strings.Contains(annotations, w.nameAnnotation())
	c.resourced = c.resourced || strings.Contains(annotations, w.sourceAnnotation())
	if strings.Contains(annotations, w.policyAnnotation()) {
		w.number.policies++
		c.undecided = c.undecided || !c.retain && strings.Contains(annotations, `"Retain"`)
	}
	w.patch(c, "forge the record of", fmt.Sprintf(`"annotations":{%s}`, annotations))
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
		fmt.Sprintf(`%q:null`, w.policyAnnotation()),
		fmt.Sprintf(`%q:"Delete"`, w.policyAnnotation()),
		fmt.Sprintf(`%q:"Retain"`, w.policyAnnotation()),
	}
	if !c.stripped {
		annotations = append(annotations,
			fmt.Sprintf(`%q:null`, w.sourceAnnotation()),
			fmt.Sprintf(`%q:"volume:%s"`, w.sourceAnnotation(), stranger.handle),
			fmt.Sprintf(`%q:"no volume"`, w.sourceAnnotation()))
	}
	return annotations[number%len(annotations)]
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
	if b%7 < 3 {
		w.number.policies++
		options = append(options, kit.Annotation(w.policyAnnotation(), []string{"Delete", "Retain"}[a%2]))
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
