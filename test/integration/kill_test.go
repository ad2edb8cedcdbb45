package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"sync/atomic"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
)

// scenario is a piece of work in which the provisioner is killed at every point:
// before and after each write to the API server and each call of the driver that it
// makes undisturbed. Reviews of its own rights are left out: they change nothing.
type scenario struct {
	name string
	// args are flags of all the provisioners.
	args []string
	// options of its worlds.
	options []kit.Option
	// prepare is done before points are counted, with a provisioner running; without
	// it the provisioner's start is part of the scenario.
	prepare func(*mortal)
	// work is under test. It waits for nothing that a kill could prevent.
	work func(*mortal)
	// meanwhile is what happens while no provisioner runs; those who take over are not
	// killed then.
	meanwhile func(*mortal)
	// told waits for the last events, so that they are counted.
	told func(*mortal)
	// end waits for the state in which all must end, and checks it.
	end func(*mortal)
	// swept: in the end the source carries nothing of ours, though it stays.
	swept bool
	// leaves is how many volumes are left when the source is deleted after that.
	leaves int
	// least is how many points there must be at least: fewer are a sign that some
	// were overlooked.
	least int
}

// patient: calls are held as long as the test likes.
const patient = "--timeout=2m"

// restores is the scenario that needs the CRDs of snapshots. There is neither a
// snapshotter nor a snapshot controller, so nobody but the provisioner keeps the
// snapshot.
func restores(world *kit.World) scenario {
	gone := func(w *mortal) {
		w.until("the snapshot is gone", func() error {
			if snapshot := w.Snapshot("monday"); snapshot != nil {
				return fmt.Errorf("its finalizers are %v", snapshot.GetFinalizers())
			}
			return nil
		})
	}
	return scenario{
		name: "restore whose snapshot is deleted meanwhile", args: []string{patient}, options: []kit.Option{kit.On(world)},
		prepare: func(w *mortal) {
			source(w)
			w.MadeSnapshot("monday", "src")
		},
		work: func(w *mortal) {
			held := w.Faults.On("CreateVolume").Gate()
			w.create("back", kit.RestoreOf("monday"))
			w.untilEntered(held)
			w.DeleteSnapshot("monday")
			w.until("the snapshot says why it does not go", func() error {
				if w.SnapshotEvents("monday", "SnapshotHeld") == 0 {
					return errors.New("it says nothing")
				}
				return nil
			})
			held.Release()
			w.untilBound("back")
			gone(w)
			w.untilVolumes(2)
		},
		told: func(w *mortal) { w.untilTold("back", "Provisioning", "ProvisioningSucceeded") },
		end: func(w *mortal) {
			w.untilBound("back")
			gone(w)
			w.untilVolumes(2)
			w.sameAsSource("back")
		},
		leaves: 1,
		least:  9,
	}
}

func scenarios() []scenario {
	return []scenario{
		{
			name: "blank",
			work: func(w *mortal) {
				w.create("data")
				w.untilBound("data")
			},
			told:  func(w *mortal) { w.untilTold("data", "Provisioning", "ProvisioningSucceeded") },
			end:   func(w *mortal) { w.untilBound("data"); w.untilVolumes(1) },
			least: 10,
		},
		{
			name: "clone", prepare: source,
			work: func(w *mortal) {
				w.create("copy", kit.CloneOf("src"))
				w.untilBound("copy")
				w.WriteFile("src", "later", []byte("what the clone does not have"))
				w.sameAsSource("copy")
				w.Delete("copy")
				w.untilGone("copy")
				w.untilVolumes(1)
			},
			told:  func(w *mortal) { w.untilTold("copy", "Provisioning", "ProvisioningSucceeded") },
			end:   func(w *mortal) { w.untilGone("copy"); w.untilVolumes(1) },
			least: 10,
		},
		{
			name: "clone whose source is deleted meanwhile", args: []string{patient}, prepare: source,
			work: func(w *mortal) {
				held := w.Faults.On("CreateVolume").Gate()
				w.create("copy", kit.CloneOf("src"))
				w.untilEntered(held)
				w.Delete("src")
				w.untilTold("src", "CloneSourceHeld")
				held.Release()
				w.untilBound("copy")
				w.untilGone("src")
				w.untilVolumes(1)
			},
			told: func(w *mortal) { w.untilTold("copy", "Provisioning", "ProvisioningSucceeded") },
			end: func(w *mortal) {
				w.untilBound("copy")
				w.untilGone("src")
				w.untilVolumes(1)
				w.sameAsSource("copy")
			},
			least: 12,
		},
		{
			name: "clone whose source is deleted while the provisioner is dead", prepare: source,
			work: func(w *mortal) {
				w.create("copy", kit.CloneOf("src"))
				w.until("the clone is bound, or refused", w.boundOrRefused)
			},
			meanwhile: func(w *mortal) { w.discard("src") },
			told:      func(w *mortal) { w.untilTold("copy", "Provisioning", "ProvisioningSucceeded") },
			end: func(w *mortal) {
				w.discard("src") // of the undisturbed run
				w.until("the clone is bound, or refused", w.boundOrRefused)
				w.untilGone("src")
				if w.Get("copy").Spec.VolumeName == "" {
					w.untilVolumes(0)
					return
				}
				w.untilVolumes(1)
				w.sameAsSource("copy")
			},
			least: 7,
		},
		{
			name: "clone deleted while the provisioner is dead", prepare: source,
			work: func(w *mortal) {
				w.create("copy", kit.CloneOf("src"))
				w.until("the clone is bound, or gone", func() error {
					claim, err := w.find("copy")
					if claim == nil {
						return err
					}
					return w.bound(claim)
				})
			},
			meanwhile: func(w *mortal) { w.discard("copy") },
			told:      func(w *mortal) { w.untilTold("copy", "Provisioning", "ProvisioningSucceeded") },
			end: func(w *mortal) {
				w.discard("copy") // of the undisturbed run
				w.untilGone("copy")
				w.untilVolumes(1)
			},
			least: 7,
		},
		{
			name: "clone deleted while it is made", args: []string{patient}, prepare: source,
			work: func(w *mortal) {
				held := w.Faults.On("CreateVolume").Gate()
				w.create("copy", kit.CloneOf("src"))
				w.untilEntered(held)
				w.Delete("copy")
				w.untilSeenDeleted()
				held.Release()
				w.untilGone("copy")
				w.untilVolumes(1)
			},
			told:  func(w *mortal) { w.untilTold("copy", "Provisioning") },
			end:   func(w *mortal) { w.untilGone("copy"); w.untilVolumes(1) },
			swept: true,
			least: 6,
		},
		{
			name: "claim of a Retain class deleted while it is made", args: []string{patient},
			options: []kit.Option{kit.ReclaimPolicy(v1.PersistentVolumeReclaimRetain)},
			work: func(w *mortal) {
				held := w.Faults.On("CreateVolume").Gate()
				w.create("data")
				w.untilEntered(held)
				w.Delete("data")
				w.untilSeenDeleted()
				held.Release()
				w.untilGone("data")
				w.untilVolumes(1)
			},
			told: func(w *mortal) { w.untilTold("data", "Provisioning") },
			end: func(w *mortal) {
				w.untilGone("data")
				if deleted := w.Faults.Calls("DeleteVolume"); len(deleted) > 0 {
					w.t.Errorf("%d volumes were deleted, want none", len(deleted))
				}
			},
			least: 9,
		},
		{
			name: "clone whose first call hangs and whose second reply is lost", prepare: source,
			work: func(w *mortal) {
				w.Faults.On("CreateVolume").Next(1).Hang()
				w.Faults.On("CreateVolume").Next(1).LoseReply()
				w.create("copy", kit.CloneOf("src"))
				w.untilBound("copy")
			},
			told: func(w *mortal) { w.untilTold("copy", "Provisioning", "ProvisioningFailed", "ProvisioningSucceeded") },
			end: func(w *mortal) {
				w.untilBound("copy")
				w.untilVolumes(2)
				w.sameAsSource("copy")
			},
			leaves: 1,
			least:  13,
		},
		{
			name:    "deletion of a bound claim",
			prepare: func(w *mortal) { w.create("data"); w.untilBound("data") },
			work:    func(w *mortal) { w.Delete("data") },
			told:    func(w *mortal) { w.untilGone("data"); w.untilVolumes(0) },
			end:     func(w *mortal) { w.untilGone("data"); w.untilVolumes(0) },
			least:   3,
		},
	}
}

// source makes a source with content, and waits until nothing is left to do for it.
func source(w *mortal) {
	w.create("src")
	w.untilBound("src")
	w.untilTold("src", "Provisioning", "ProvisioningSucceeded")
	w.WriteFile("src", "file", []byte("content of the source"))
	w.content = w.Checksum("src")
}

func (w *mortal) sameAsSource(claim string) {
	w.t.Helper()
	if got := w.Checksum(claim); got != w.content {
		w.t.Errorf("checksum of the clone is %s, of the source it was %s", got, w.content)
	}
}

// boundOrRefused: a clone that is not on record yet when its source is deleted may be
// refused, or wait for another source if that one has gone; but then the driver has not
// been called for it.
func (w *mortal) boundOrRefused() error {
	refused := w.told("copy", "CloneSourceDeleting") == nil || w.told("copy", "CloneSourceNotFound") == nil
	if refused && len(w.Faults.Calls("CreateVolume")) == 0 {
		return nil
	}
	return w.bound(w.Get("copy"))
}

// letSourceGo deletes the source if there is one, which nothing may keep from going. It
// leaves so many volumes.
func (w *mortal) letSourceGo(volumes int) {
	w.t.Helper()
	if src, err := w.find("src"); err == nil && src == nil {
		return
	}
	w.discard("src")
	w.untilGone("src")
	w.untilVolumes(volumes)
}

// untilSeenDeleted waits until the provisioner knows that a claim whose call is under
// way was deleted: it has put it down for cleaning up.
func (w *mortal) untilSeenDeleted() {
	w.t.Helper()
	w.until("the provisioner knows of the deletion", func() error {
		ctx, cancel := context.WithTimeout(w.Ctx, longest)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.p.URL+"/metrics", http.NoBody)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err // it is being killed or started
		}
		defer response.Body.Close()
		page, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		if !cleanerHasWork.Match(page) {
			return errors.New("there is nothing to clean up")
		}
		return nil
	})
}

var cleanerHasWork = regexp.MustCompile(`workqueue_adds_total\{name="cleaner"\} [1-9]`)

// run plays the scenario, with traps in the order in which they are laid. The
// provisioner must go into the first; into others it need not, for nothing may be
// left to do for the one that took over.
func (s scenario) run(t *testing.T, traps ...trap) *mortal {
	t.Helper()
	w := &mortal{Env: kit.New(t, s.options...), t: t, args: s.args, traps: traps, meanwhile: s.meanwhile, claims: map[types.UID]string{}}
	w.Gateway()
	if s.prepare != nil {
		w.launch()
		s.prepare(w)
		w.mark()
	} else {
		w.mark()
		w.launch()
		w.victim <- w.p
	}
	s.work(w)
	if len(traps) == 0 {
		s.told(w)
		return w
	}
	w.until("the provisioner is killed", func() error {
		if w.kills == 0 {
			return errors.New("the point was not reached")
		}
		return nil
	})
	s.end(w)
	w.checkNames()
	return w
}

// finish ends a run for good.
func (s scenario) finish(w *mortal) {
	w.disarm()
	w.p.WaitReady()
	s.end(w)
	if s.swept {
		w.restart() // which sweeps at once
		w.until("nothing is left on the source", func() error { return unmarked(w.Env, "src") })
	}
	w.letSourceGo(s.leaves)
}

// The provisioner is killed before and after everything that it does, and whoever
// takes over brings the work to its end: nothing is lost, nothing is there twice, and
// nothing is left behind. Each point gets a run of its own, in a world of its own.
func TestKilledAtEveryPoint(t *testing.T) {
	t.Parallel()
	world := kit.StartCluster(t, cluster.Options{})
	world.InstallSnapshotCRDs(t)
	for _, s := range append(scenarios(), restores(world)) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			var points []point
			t.Run("undisturbed", func(t *testing.T) {
				w := s.run(t)
				points = w.points()
				w.checkNames()
				s.finish(w)
				if len(points) < s.least {
					t.Errorf("there are %d points, want at least %d: %v", len(points), s.least, points)
				}
			})
			s.killOnce(t, points)
			if s.meanwhile == nil {
				s.killTwice(t, points)
			}
		})
	}
}

// killOnce has one run for each point and each side of it.
func (s scenario) killOnce(t *testing.T, points []point) {
	var runs atomic.Int32
	t.Cleanup(func() { t.Logf("%s: %d points, %d runs: %v", s.name, len(points), runs.Load(), points) })
	for _, p := range points {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s %s", side(after), p), func(t *testing.T) {
				t.Parallel()
				w := s.run(t, at(p, after))
				w.checkTrapped(p, after)
				s.finish(w)
				runs.Add(1)
			})
		}
	}
}

// killTwice kills whoever takes over as well, after its first write or call. The first
// kill comes after something was done whose outcome nobody was told.
func (s scenario) killTwice(t *testing.T, points []point) {
	var runs, again atomic.Int32
	t.Cleanup(func() {
		t.Logf("%s: %d runs with a second trap, which %d went into", s.name, runs.Load(), again.Load())
		if runs.Load() > 0 && again.Load() == 0 {
			t.Errorf("nobody who took over was killed, though there is work for one")
		}
	})
	for _, p := range points {
		if !p.acts() {
			continue
		}
		for name, second := range map[string]trap{"write": atFirstWrite(true), "call": atFirstCall(true)} {
			t.Run(fmt.Sprintf("after %s and again after the first %s", p, name), func(t *testing.T) {
				t.Parallel()
				w := s.run(t, at(p, true), second)
				if w.kills > 1 {
					again.Add(1)
				}
				s.finish(w)
				runs.Add(1)
			})
		}
	}
}

func side(after bool) string {
	if after {
		return "after"
	}
	return "before"
}
