package chaos

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	// usualTime is how long the chaos lasts unless CHAOS_TIME says otherwise.
	usualTime = time.Minute
	// progress is how often a long run tells how far it is.
	progress = time.Minute
	// slack is how long the test may take beyond the chaos before it counts as hung:
	// three times settlePatience, and time for a cluster that a busy machine starts slowly.
	slack = 20 * time.Minute
)

func TestNothingIsLostInChaos(t *testing.T) {
	seed, lasts := settings(t)
	t.Logf("SEED=%d CHAOS_TIME=%s", seed, lasts)
	watchdog := time.AfterFunc(lasts*2+slack, func() { panic(fmt.Sprintf("seed %d: the test hangs", seed)) })
	defer watchdog.Stop()
	w := newWorld(t, seed)
	w.play(newScript(seed).until(lasts))
	chaos := time.Since(w.begun)

	w.settle()
	found := w.await(w.judge)
	w.checkAll()
	settled := time.Since(w.begun) - chaos
	if !found.none() {
		t.Errorf("seed %d: this is wrong %s after the chaos:\n  %s", seed, settlePatience, found)
	}
	waiting := w.countWaiting()
	left := w.clearAll()
	if len(w.wrong) > 0 {
		t.Errorf("seed %d: wrong contents:\n  %s", seed, strings.Join(w.wrong, "\n  "))
	}
	t.Log(w.table([]row{
		{"seed", seed},
		{"seconds of chaos", int(chaos.Seconds())},
		{"seconds until all was well", int(settled.Seconds())},
		{"waiting, as they should", waiting},
		{"leaked, but cannot be promised", len(left.excused)},
		{"volumes of Retain classes made", left.figures.ofRetainClasses},
		{"retained volumes lost", left.figures.lost},
		{"retained without a PV, as they may", len(left.figures.withoutPV)},
		{"findings about retained volumes", len(found.retained) + len(left.retained)},
		{"leaked volumes, of Delete classes", len(found.leaked) + len(left.leaked)},
		{"stranded finalizers and PVs", len(found.stranded) + len(left.stranded)},
		{"stuck claims", len(found.stuck) + len(left.stuck)},
		{"wrong contents", len(w.wrong)},
	}))
	if t.Failed() {
		t.Logf("play it again with SEED=%d CHAOS_TIME=%s; what was done, and all logs: %s", seed, lasts, w.path(""))
	}
}

// settings reads SEED and CHAOS_TIME.
func settings(t *testing.T) (seed uint64, lasts time.Duration) {
	seed, lasts = uint64(rand.Uint32()), usualTime
	var err error
	if text := os.Getenv("SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SEED=%s is no number: %v", text, err)
		}
	}
	if text := os.Getenv("CHAOS_TIME"); text != "" {
		if lasts, err = time.ParseDuration(text); err != nil || lasts <= 0 {
			t.Fatalf("CHAOS_TIME=%s is no time such as 10m: %v", text, err)
		}
	}
	return seed, lasts
}

// play does what the script says, when it says so, or later if something takes its
// time.
func (w *world) play(steps []step) {
	w.fleet.launch()
	told := w.begun
	for _, s := range steps {
		w.waitUntil(s.at)
		w.api.down(w, false)
		w.fleet.tend(s.at)
		w.look()
		w.recreate()
		w.restoreClasses(s.at)
		w.finishReclaims()
		switch s.kind {
		case kill, term, freeze, fleetSize, apiServer, driver:
			w.harm(s)
		default:
			w.act(s)
		}
		if time.Since(told) > progress {
			told = time.Now()
			w.t.Logf("after %s of %s: %d claims, %d bound, %d kills", s.at.Round(time.Second), steps[len(steps)-1].at.Round(time.Second),
				w.number.created, w.number.bound, w.number.kills)
		}
	}
}

// waitUntil waits for the moment of the script.
func (w *world) waitUntil(at time.Duration) {
	select {
	case <-w.env.Ctx.Done():
	case <-time.After(at - time.Since(w.begun)):
	}
}

// countWaiting returns how many claims wait for a source that does not come.
func (w *world) countWaiting() int {
	claims, _, err := w.read()
	if err != nil {
		w.t.Errorf("reading the claims: %v", err)
	}
	return scene{claims: claims}.waiting()
}

type row struct {
	what  string
	value any
}

// table shows what was done and what came of it; the last rows are the caller's.
func (w *world) table(results []row) string {
	n := w.number
	rows := []row{
		{"claims created", n.created}, {"clones among them", n.clones}, {"claims deleted", n.deleted},
		{"claims bound", n.bound}, {"volumes filled", n.filled}, {"contents checked", n.checked}, {"requests of users that failed", n.failed},
		{"records stripped", n.stripped}, {"records forged", n.forged}, {"claims that pretended", n.pretended},
		{"classes deleted", n.drops}, {"reclaim policies forged", n.policies}, {"PVs set to Retain by users", n.retained},
		{"retained PVs deleted by administrators", n.reclaimed},
		{"provisioners launched", w.fleet.launched}, {"kills (SIGKILL)", n.kills}, {"stops (SIGTERM)", n.terms},
		{"hangs (SIGSTOP)", n.freezes},
		{"API server restarts", n.apiRestarts}, {"driver restarts", n.driverRestarts},
	}
	faults := w.monkey.faults()
	for _, what := range slices.Sorted(maps.Keys(faults)) {
		rows = append(rows, row{what, faults[what]})
	}
	var text strings.Builder
	text.WriteString("\n")
	for _, r := range append(rows, results...) {
		fmt.Fprintf(&text, "%40s  %v\n", r.what, r.value)
	}
	return text.String()
}
