package chaos

import (
	"fmt"
	"time"
)

// comesBack is how long no volume may be created after everything was deleted.
const comesBack = 2 * time.Second

// clear deletes all claims and returns what is wrong with what is left: the volumes that must
// be retained are all that may be.
func (w *world) clear() findings {
	w.say("all claims are deleted")
	for _, c := range w.live() {
		w.remove(c)
	}
	return w.await(func() (findings, error) {
		found, err := w.judge()
		if err != nil {
			return findings{}, err
		}
		for _, c := range w.claims {
			if c.name.live == c {
				w.remove(c) // the earlier request may not have been heard
				found.stuck = append(found.stuck, fmt.Sprintf("claim %s (%s) is deleted, but not gone", c.text, c.uid))
			}
		}
		return found, nil
	})
}

// clearRetained deletes the retained PVs, as an administrator does, and returns what is wrong
// then: all PVs must go, and their volumes stay.
func (w *world) clearRetained() findings {
	w.say("all PVs are deleted")
	return w.await(func() (findings, error) {
		found, err := w.judge()
		if err != nil {
			return findings{}, err
		}
		for _, pv := range w.pvs {
			if pv.DeletionTimestamp == nil {
				w.deletePV(pv)
			}
			found.leaked = append(found.leaked, fmt.Sprintf("PV %s (%s) is deleted, but not gone: finalizers %v",
				pv.Name, pv.Status.Phase, pv.Finalizers))
		}
		return found, nil
	})
}

// bury deletes the volumes that are retained, and those that are excused, so that
// the kit's books are right, and returns the latter. Nothing may be left then.
func (w *world) bury() (excused []string) {
	promises := w.promises()
	for _, volume := range w.serving.Load().Volumes() {
		p, excuse := promises[volume.ID], w.excuse(volume.Name)
		if !p.mayStay && excuse == "" && p.withoutPV == "" {
			continue // the findings tell of it
		}
		if err := w.deleteVolume(volume.ID); err != nil {
			w.t.Errorf("deleting volume %q: %v", volume.ID, err)
		}
		w.reclaimed[volume.ID] = true
		if excuse != "" {
			excused = append(excused, volume.Name+": "+excuse)
		}
	}
	return excused
}

// remains are what was left of what was deleted.
type remains struct {
	findings
	figures figures
	// excused are volumes that no provisioner can know of.
	excused []string
}

// clearAll deletes everything, and fails the test if anything wrong is left.
func (w *world) clearAll() remains {
	left := remains{findings: w.clear()}
	if !left.none() {
		w.t.Errorf("seed %d: this is wrong after all claims were deleted:\n  %s", w.seed, left.findings)
	}
	left.figures = w.retainedFigures()
	for _, volume := range left.figures.withoutPV {
		w.t.Logf("retained without a PV: volume %s", volume)
	}
	if found := w.clearRetained(); !found.none() {
		w.t.Errorf("seed %d: this is wrong after the retained PVs were deleted:\n  %s", w.seed, found)
		left.stranded = append(left.stranded, found.leaked...)
	}
	left.excused = w.bury()
	for _, volume := range left.excused {
		w.t.Logf("volume %s", volume)
	}
	w.waitUntil(time.Since(w.begun) + comesBack)
	for _, volume := range w.serving.Load().Volumes() {
		w.t.Errorf("seed %d: volume %q (name %q) is left after everything was deleted", w.seed, volume.ID, volume.Name)
	}
	return left
}
