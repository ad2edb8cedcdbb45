package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// look reads the claims and PVs, unless that was just done or the API server is
// away, and brings what the test knows up to date.
func (w *world) look() {
	if time.Since(w.looked) < lookPause || w.api.down(w, false) {
		return
	}
	if err := w.lookNow(); err != nil {
		w.failed("look: %v", err)
	}
	w.looked = time.Now()
}

func (w *world) lookNow() error {
	begun := time.Now()
	claims, pvs, err := w.read()
	if err != nil {
		return err
	}
	w.pvs = pvs
	w.takeStock()
	seen := map[types.UID]bool{}
	for i := range claims {
		object := &claims[i]
		seen[object.UID] = true
		c := w.byUID[object.UID]
		if c == nil { // the answer to its creation got lost
			n := w.byName[object.Name]
			if n == nil {
				return fmt.Errorf("claim %s is nobody's", object.Name)
			}
			c = w.adopt(n, object, begun)
		}
		// The provisioner takes the node away where there is no room.
		_, c.selected = object.Annotations[selectedNode]
		if object.Status.Phase == v1.ClaimBound && !c.bound {
			w.bind(c, object.Spec.VolumeName, pvs)
		}
	}
	for _, c := range w.claims {
		if c.name.live == c && !seen[c.uid] {
			c.name.live = nil
			if !c.deleted {
				w.mistake("claim %s (%s) is gone, and nobody has deleted it", c.text, c.uid)
			}
		}
	}
	return nil
}

// read returns the claims and the PVs of the driver, the PVs last: so that of every
// bound claim the PV is there.
func (w *world) read() ([]v1.PersistentVolumeClaim, map[string]*v1.PersistentVolume, error) {
	ctx, cancel := w.request()
	defer cancel()
	claims, err := w.env.Admin.CoreV1().PersistentVolumeClaims(w.env.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, err
	}
	all, err := w.env.Admin.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, err
	}
	pvs := map[string]*v1.PersistentVolume{}
	for i := range all.Items {
		if pv := &all.Items[i]; pv.Spec.CSI != nil && pv.Spec.CSI.Driver == w.env.DriverName {
			pvs[pv.Name] = pv
		}
	}
	return claims.Items, pvs, nil
}

// mistake notes what must never be: wrong contents, or a live volume that is gone or
// shared.
func (w *world) mistake(format string, args ...any) {
	w.say("WRONG: "+format, args...)
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// bind notes that a claim is bound, checks what it got, and fills it if it is blank.
func (w *world) bind(c *claim, pvName string, pvs map[string]*v1.PersistentVolume) {
	c.bound = true
	w.number.bound++
	pv := pvs[pvName]
	switch {
	case pv == nil && c.deleted:
		return
	case pv == nil:
		w.mistake("claim %s is bound to PV %q, which does not exist", c.text, pvName)
		return
	case pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID != c.uid:
		w.mistake("claim %s (%s) is bound to PV %q, which belongs to %v", c.text, c.uid, pvName, pv.Spec.ClaimRef)
		return
	}
	c.handle, c.pv = pv.Spec.CSI.VolumeHandle, pvName
	w.say("claim %s is bound to PV %s, volume %s", c.text, pvName, c.handle)
	if other := w.ownerOf[c.handle]; other != nil {
		w.mistake("claims %s (%s) and %s (%s) share volume %q", other.text, other.uid, c.text, c.uid, c.handle)
		return
	}
	w.ownerOf[c.handle] = c
	w.check(c)
	if c.source == nil {
		w.fill(c)
	}
}

// check looks whether the volume of a bound claim holds what it should. Once the test
// has asked for the claim's deletion nobody can tell any more.
func (w *world) check(c *claim) {
	if c.deleted || c.handle == "" {
		return
	}
	path := w.serving.Load().VolumePath(c.handle)
	if path == "" {
		w.mistake("volume %q of claim %s is gone, and nobody has deleted the claim", c.handle, c.text)
		return
	}
	sum, err := kit.Sum(path)
	if err != nil {
		w.mistake("volume %q of claim %s cannot be read: %v", c.handle, c.text, err)
		return
	}
	w.number.checked++
	if wrong := w.lineage(c); wrong != "" {
		w.mistake("claim %s: %s", c.text, wrong)
	}
	if expected := w.contents(c.handle); !slices.Contains(expected, sum) {
		w.mistake("volume %q of claim %s has contents %.12s, expected one of %.12s", c.handle, c.text, sum, expected)
	}
	c.sum = sum
}

// lineage says what is wrong with where the claim's volume came from, "" if nothing.
func (w *world) lineage(c *claim) string {
	born, known := w.monkey.birth(c.handle)
	if !known {
		return fmt.Sprintf("nobody has made its volume %q", c.handle)
	}
	if !strings.HasSuffix(born.name, string(c.uid)) && !w.retainedFor(c, born.name) {
		return fmt.Sprintf("its volume %q was made as %q", c.handle, born.name)
	}
	parent := ""
	if mother, known := w.monkey.birth(born.source); known {
		for _, other := range w.claims {
			if strings.HasSuffix(mother.name, string(other.uid)) {
				parent = other.text
			}
		}
	}
	switch {
	case c.source == nil && born.source != "":
		return fmt.Sprintf("it has no source, but its volume is a copy of %q", born.source)
	case c.source != nil && born.source == "":
		return fmt.Sprintf("it is a clone of %s, but its volume %q was made blank", c.source.text, c.handle)
	case c.source != nil && parent != c.source.text:
		return fmt.Sprintf("it is a clone of %s, but its volume is a copy of %q of claim %q", c.source.text, born.source, parent)
	}
	return ""
}

// contents returns the sums that a volume may have: it was copied before or after its
// first ancestor was filled, or perhaps while.
func (w *world) contents(handle string) []string {
	owner := w.ownerOf[handle]
	born, known := w.monkey.birth(handle)
	switch {
	case owner != nil && owner.sum != "":
		return []string{owner.sum} // it was seen, and is not changed any more
	case !known || born.source == "":
		return []string{w.empty}
	}
	parent := w.ownerOf[born.source]
	if parent == nil || parent.source != nil || parent.filled.IsZero() {
		return w.contents(born.source)
	}
	switch {
	case born.ended.Before(parent.fillBegun):
		return []string{w.empty}
	case born.begun.After(parent.filled):
		return []string{parent.sum}
	}
	return []string{w.empty, parent.sum}
}

// fill puts some files into a blank volume, all in one moment.
func (w *world) fill(c *claim) {
	if c.deleted || c.handle == "" {
		return
	}
	volume := w.serving.Load().VolumePath(c.handle)
	if volume == "" {
		return // check has told
	}
	staged := w.path("staged-" + string(c.uid))
	random := rand.New(rand.NewPCG(w.seed, uint64(len(w.claims))))
	err := os.MkdirAll(filepath.Join(staged, "deeper"), 0o755)
	for i := range 1 + random.IntN(4) {
		content := make([]byte, random.IntN(64<<10))
		for j := range content {
			content[j] = byte(random.Uint32())
		}
		name := filepath.Join(staged, []string{"", "deeper"}[i%2], fmt.Sprintf("file-%d", i))
		err = errors.Join(err, os.WriteFile(name, content, 0o644))
	}
	c.fillBegun = time.Now()
	err = errors.Join(err, os.Rename(staged, filepath.Join(volume, "data")))
	c.filled = time.Now()
	if err == nil {
		c.sum, err = kit.Sum(volume)
	}
	if err != nil {
		w.mistake("volume %q of claim %s cannot be written to: %v", c.handle, c.text, err)
		return
	}
	w.number.filled++
}
