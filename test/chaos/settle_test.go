package chaos

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
)

// settlePatience is how long everything may take to come right after the chaos: the
// finalizers of sources are swept off every 30 s, all the rest is faster.
const settlePatience = 10 * time.Minute

// settle ends the chaos, and leaves everything to one provisioner.
func (w *world) settle() {
	w.say("the chaos ends")
	w.api.down(w, true)
	w.fleet.stopAll()
	w.monkey.rest()
	for _, class := range w.classes() {
		w.env.Eventually("class "+class+" is back", func() error {
			if _, gone := w.dropped[class]; gone && !w.restoreClass(class) {
				return errors.New("it could not be created")
			}
			delete(w.dropped, class)
			return nil
		})
	}
	w.pending = nil
	w.env.Eventually("the claims can be read", w.hearDeletions)
	w.fleet.size = 1
	w.fleet.launch()
}

// hearDeletions finds out which deletions the API server has heard.
func (w *world) hearDeletions() error {
	if err := w.lookNow(); err != nil {
		return err
	}
	claims, _, err := w.read()
	for i := range claims {
		if c := w.byUID[claims[i].UID]; c != nil {
			c.deleted = claims[i].DeletionTimestamp != nil
		}
	}
	return err
}

// findings are what is wrong with the world when everything should be well.
type findings struct {
	// leaked are PVs and volumes that should be gone, or lack one another; retained is what
	// is wrong with volumes that must be retained.
	leaked, retained, stranded, stuck []string
}

func (f findings) all() []string { return slices.Concat(f.leaked, f.retained, f.stranded, f.stuck) }

func (f findings) none() bool { return len(f.all()) == 0 }

func (f findings) String() string { return strings.Join(f.all(), "\n  ") }

// await waits until a judgement finds nothing, and returns the last.
func (w *world) await(judge func() (findings, error)) findings {
	var last findings
	deadline := time.Now().Add(settlePatience)
	for {
		found, err := judge()
		switch {
		case err != nil:
			w.failed("judge: %v", err)
		case found.none():
			return found
		default:
			last = found
		}
		w.fleet.tend(0)
		select {
		case <-w.env.Ctx.Done():
		case <-time.After(lookPause):
			if time.Now().Before(deadline) {
				continue
			}
		}
		if last.none() {
			w.t.Fatalf("the world could not be read within %s: %v", settlePatience, err)
		}
		return last
	}
}

// judge reads the world and says what is wrong with it.
func (w *world) judge() (findings, error) {
	if err := w.lookNow(); err != nil {
		return findings{}, err
	}
	w.schedule()
	volumes := w.serving.Load().Volumes() // before the PVs: see Env.readBooks
	claims, pvs, err := w.read()
	if err != nil {
		return findings{}, err
	}
	events, err := w.events()
	if err != nil {
		return findings{}, err
	}
	s := scene{
		driver: w.env.DriverName, claims: claims, pvs: pvs, volumes: volumes, events: events,
		pretended: map[types.UID]bool{}, forged: map[types.UID]bool{}, promises: w.promises(),
	}
	for _, c := range w.claims {
		s.pretended[c.uid], s.forged[c.uid] = c.pretended, c.forged || c.pretended || c.stripped
	}
	return s.findings(), nil
}

// schedule selects a node for every claim that lacks one.
func (w *world) schedule() {
	for _, c := range w.live() {
		if c.delayed && !c.selected && !c.bound {
			w.selectNode(c)
		}
	}
}

// excuse says why nobody can be held to account for the loss of a volume, "" if
// somebody can. The record on a claim is what outlives a process; so there are two
// reasons, and both take a user who spoils it:
//
//   - the record was taken off, and a provisioner that may have known of the volume
//     ended, or was frozen, afterwards or before in the claim's life;
//   - the name in it was changed, which is then not believed, and there was a
//     provisioner that gives volumes names of another prefix: it looked for another
//     volume.
//
// Only a volume that was made for that very claim is excused.
func (w *world) excuse(volume string) string {
	c := w.claimOf(volume)
	if c == nil {
		return ""
	}
	if end := w.fleet.endAfter(c.created); c.stripped && end != "" {
		return fmt.Sprintf("a user took the record off claim %s, and %s", c.text, end)
	}
	prefix := strings.TrimSuffix(volume, "-"+string(c.uid))
	if other := w.fleet.otherPrefix(prefix, c.created); c.renamed && other != "" {
		return fmt.Sprintf("a user changed the name on record on claim %s, and %s", c.text, other)
	}
	return ""
}

// events returns the messages of the claims' events, by uid and reason.
func (w *world) events() (map[types.UID]map[string][]string, error) {
	ctx, cancel := w.request()
	defer cancel()
	list, err := w.env.Admin.CoreV1().Events(w.env.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	events := map[types.UID]map[string][]string{}
	for _, event := range list.Items {
		uid := event.InvolvedObject.UID
		if events[uid] == nil {
			events[uid] = map[string][]string{}
		}
		events[uid][event.Reason] = append(events[uid][event.Reason], event.Message)
	}
	return events, nil
}

// checkAll checks the contents of all that is bound once more.
func (w *world) checkAll() {
	for _, c := range w.live() {
		w.check(c)
	}
}

func describe(volume demodriver.Volume) string {
	return fmt.Sprintf("volume %q (name %q, source %q) is lost: no PV has this handle", volume.ID, volume.Name, volume.SourceVolumeID)
}

// phase of a claim, for messages.
func phase(object *v1.PersistentVolumeClaim) string {
	if object.DeletionTimestamp != nil {
		return string(object.Status.Phase) + ", being deleted"
	}
	return string(object.Status.Phase)
}
