package chaos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// administer does what administrators do.
func (w *world) administer(s step, live []*claim) {
	a, b := s.pick[0], s.pick[1]
	switch s.kind {
	case retain:
		w.setRetain(live, a)
	case reclaim:
		w.reclaim(a)
	case dropClass:
		w.dropClass(w.classes()[a%3], s.at+time.Duration(2+b%6)*time.Second)
	}
}

// setRetain sets the reclaim policy of the PV of a bound claim from Delete to Retain. The
// deletion of the claim was not requested before, so from now on the volume must survive.
func (w *world) setRetain(live []*claim, number int) {
	c := pick(slices.DeleteFunc(slices.Clone(live), func(c *claim) bool {
		return c.retain || c.retained || c.handle == ""
	}), number)
	if c == nil {
		return
	}
	ctx, cancel := w.request()
	defer cancel()
	patch := []byte(`{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}`)
	pv, err := w.env.Admin.CoreV1().PersistentVolumes().
		Patch(ctx, c.pv, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		c.undecided = true // the response may be lost
		w.failed("set the reclaim policy of PV %s to Retain: %v", c.pv, err)
		return
	}
	c.retained = true
	w.number.retained++
	w.say("set the reclaim policy of PV %s of claim %s, volume %s, to Retain (resourceVersion %s)",
		c.pv, c.text, c.handle, pv.ResourceVersion)
}

// reclaim deletes a Released PV that was retained, as an administrator does by hand; the
// volume is deleted by finishReclaims. It must not be created again.
func (w *world) reclaim(number int) {
	var released []*v1.PersistentVolume
	for _, name := range slices.Sorted(maps.Keys(w.pvs)) {
		if pv := w.pvs[name]; isRetained(pv) && pv.Status.Phase == v1.VolumeReleased && pv.DeletionTimestamp == nil {
			released = append(released, pv)
		}
	}
	if pv := pick(released, number); pv != nil {
		w.number.reclaimed++
		w.deletePV(pv)
	}
}

// deletePV deletes a PV as an administrator does.
func (w *world) deletePV(pv *v1.PersistentVolume) {
	ctx, cancel := w.request()
	defer cancel()
	// Before the request: its response may get lost.
	w.reclaimed[pv.Spec.CSI.VolumeHandle] = false
	err := w.env.Admin.CoreV1().PersistentVolumes().
		Delete(ctx, pv.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pv.UID}})
	if err != nil {
		w.failed("delete PV %s: %v", pv.Name, err)
		return
	}
	w.say("delete PV %s (%s), volume %s", pv.Name, pv.Status.Phase, pv.Spec.CSI.VolumeHandle)
}

// finishReclaims deletes the volumes whose PV an administrator has deleted.
func (w *world) finishReclaims() {
	known := map[string]bool{}
	for _, pv := range w.pvs {
		known[pv.Spec.CSI.VolumeHandle] = true
	}
	for _, handle := range slices.Sorted(maps.Keys(w.reclaimed)) {
		if done := w.reclaimed[handle]; done || known[handle] {
			continue
		}
		if err := w.deleteVolume(handle); err != nil {
			w.failed("delete volume %s: %v", handle, err)
			continue
		}
		w.reclaimed[handle] = true
		w.say("delete volume %s, whose PV is gone", handle)
	}
}

// deleteVolume deletes a volume at the driver, as an administrator does.
func (w *world) deleteVolume(handle string) error {
	conn, err := w.env.Driver.Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(w.env.Ctx, requestPatience)
	defer cancel()
	w.monkey.spare(handle)
	_, err = csi.NewControllerClient(conn).DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: handle})
	return err
}

// takeStock remembers all volumes that the driver has made.
func (w *world) takeStock() {
	maps.Copy(w.made, w.monkey.births())
	for _, volume := range w.serving.Load().Volumes() {
		w.made[volume.ID] = volume.Name
	}
}

// claimOf returns the claim for which the volume of that name was made; nil if there is none.
func (w *world) claimOf(volume string) *claim {
	const uuid = 36
	if len(volume) < uuid {
		return nil
	}
	return w.byUID[types.UID(volume[len(volume)-uuid:])]
}

// promises returns what must become of every volume that the driver has made, by handle.
func (w *world) promises() map[string]promise {
	deleted := map[string]string{} // by administrators, by name
	for handle, done := range w.reclaimed {
		if done {
			deleted[w.made[handle]] = handle
		}
	}
	promises := map[string]promise{}
	for handle, name := range w.made {
		p := w.promise(handle, name)
		if earlier := deleted[name]; earlier != handle {
			p.recreated = earlier
		}
		promises[handle] = p
	}
	return promises
}

func (w *world) promise(handle, name string) promise {
	p := promise{name: name, withoutPV: w.excuse(name), deleted: w.monkey.deletion(handle)}
	c := w.claimOf(name)
	if c == nil || w.reclaimed[handle] {
		return p
	}
	p.retained = c.retain || c.retained && c.handle == handle
	p.mayStay = p.retained || c.undecided
	if p.mayStay && p.withoutPV == "" {
		p.withoutPV = w.needsNoPV(c, handle)
	}
	return p
}

// needsNoPV returns why a volume that is retained may have no PV; "" if it must have one.
// A clone whose source is not known for certain is looked for with a request for a blank
// volume; what that makes is retained, and does not become the clone's PV. It takes a user who
// has written on the record.
func (w *world) needsNoPV(c *claim, handle string) string {
	born, known := w.monkey.birth(handle)
	_, reclaimed := w.reclaimed[handle]
	spoiled := c.pretended || c.stripped || c.renamed || c.resourced
	switch {
	case reclaimed:
		return "an administrator has deleted its PV"
	case !c.deleted:
		return ""
	case c.source != nil && known && born.source == "" && spoiled:
		return "a user has written on the record, and it was made without the source that its claim names"
	case w.monkey.brokeReply(w.made[handle]):
		return "a reply of the driver about it lacked the content source"
	}
	return ""
}

// retainedFor reports whether the volume of that name was retained, and left unbound, for an
// earlier claim of the same name whose record a user has spoiled: its PV is then bound to the
// next claim of that name.
func (w *world) retainedFor(c *claim, volume string) bool {
	earlier := w.claimOf(volume)
	return earlier != nil && earlier.name == c.name && earlier.retain && (earlier.stripped || earlier.renamed)
}

// figures are counts of the volumes that must be retained.
type figures struct {
	ofRetainClasses, lost int
	withoutPV             []string
}

// retainedFigures counts the volumes that must be retained.
func (w *world) retainedFigures() figures {
	var f figures
	w.takeStock()
	announced := w.volumesKept()
	exists, known := map[string]bool{}, map[string]bool{}
	for _, volume := range w.serving.Load().Volumes() {
		exists[volume.ID] = true
	}
	for _, pv := range w.pvs {
		known[pv.Spec.CSI.VolumeHandle] = true
	}
	for handle, p := range w.promises() {
		if c := w.claimOf(p.name); c != nil && c.retain {
			f.ofRetainClasses++
		}
		switch {
		case p.retained && !exists[handle]:
			f.lost++
		case p.mayStay && exists[handle] && !known[handle]:
			f.withoutPV = append(f.withoutPV, fmt.Sprintf("%s (%s): %s; event VolumeKept: %t",
				p.name, handle, p.withoutPV, strings.Contains(announced, fmt.Sprintf("%q", handle))))
		}
	}
	slices.Sort(f.withoutPV)
	return f
}

// volumesKept returns the messages of all events about volumes that were kept without a PV.
func (w *world) volumesKept() string {
	ctx, cancel := w.request()
	defer cancel()
	list, err := w.env.Admin.CoreV1().Events("").List(ctx, metav1.ListOptions{FieldSelector: "reason=VolumeKept"})
	if err != nil {
		w.failed("list events: %v", err)
		return ""
	}
	var messages strings.Builder
	for _, event := range list.Items {
		messages.WriteString(event.Message + "\n")
	}
	return messages.String()
}
