package journal_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/journal"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/leases"
)

func TestNewLeaderAdoptsAllEntries(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		a := startLeader(t, server, "a", 0)
		a.record("1")
		a.record("2")
		b := startLeader(t, server, "b", 2)
		exists(t, server, "1", "b")
		if got := server.Live(nameOf("1")).Spec.LeaseTransitions; got == nil || *got != 1 {
			t.Errorf("transitions: %v", got)
		}
		e, when, found := b.Entry("1")
		if !found || when.IsZero() || e.VolumeName != "pvc-1" || e.Claim != entry("1").Claim || e.Doubt != "" {
			t.Errorf("%+v, adopted at %s", e, when)
		}
		b.adopt(0, 0)

		// The earlier leader cannot write any more, and notices.
		if err := a.Settle(t.Context(), "1"); !errors.Is(err, journal.ErrFenced) {
			t.Errorf("Settle: %v", err)
		}
		e = entry("2")
		e.RequiredBytes++
		if err := a.Record(t.Context(), e); !errors.Is(err, journal.ErrFenced) {
			t.Errorf("Record: %v", err)
		}
		if len(a.fenced) != 2 || len(a.givenUp) > 0 {
			t.Errorf("fenced: %v, given up: %v", a.fenced, a.givenUp)
		}
		exists(t, server, "1", "b")
		exists(t, server, "2", "b")
		b.settle("1")
		exists(t, server, "1", "")
	})
}

func TestEarlierLeaderNoticesThatItIsFenced(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		a := startLeader(t, server, "a", 0)
		a.record("1")
		b := startLeader(t, server, "b", 1)
		wait(61 * time.Second)
		// Both believe that they lead here, so each takes the entry from the other when it
		// compares; a process that was fenced has to stop.
		if len(a.fenced)+len(b.fenced) == 0 {
			t.Error("no process noticed that there is another one")
		}
	})
}

func TestEntryThatChangesWhileItIsAdopted(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		a := startLeader(t, server, "a", 0)
		for _, uid := range []string{"1", "2"} {
			a.record(uid)
		}
		a.stop()
		var changed atomic.Bool
		server.Intercept(func(r leases.Request) leases.Fault {
			switch {
			case r == leases.Request{Verb: "update", Name: nameOf("1")} && changed.CompareAndSwap(false, true):
				server.Edit(nameOf("1"), func(l *coordinationv1.Lease) {
					l.Annotations["csi-clone-provisioner/last-answer"] = "Aborted: in progress"
				})
			case r == leases.Request{Verb: "update", Name: nameOf("2")}:
				server.Remove(nameOf("2")) // settled by the earlier leader
			}
			return leases.Fault{}
		})
		b := startLeader(t, server, "b", 1)
		e, _, _ := b.Entry("1")
		if e.LastAnswer != "Aborted: in progress" {
			t.Errorf("%+v", e)
		}
		b.has("2", false)
		exists(t, server, "1", "b")
		exists(t, server, "2", "")
		if len(b.givenUp) > 0 {
			t.Errorf("given up: %v", b.givenUp)
		}
	})
}

func TestEntryThatAnEarlierLeaderMakesLateIsAdopted(t *testing.T) {
	for name, find := range map[string]func(*process){
		"when the claim is recorded": func(b *process) {
			if err := b.Record(b.t.Context(), entry("1")); !errors.Is(err, journal.ErrHeld) {
				b.t.Errorf("Record: %v", err)
			}
		},
		"when entries are compared": func(*process) { wait(61 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T, server *leases.Server) {
				b := startLeader(t, server, "b", 0)
				late := lateLease(t, "1", "a")
				if _, err := server.Create(t.Context(), late, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
				find(b)
				exists(t, server, "1", "b")
				if _, when, found := b.Entry("1"); !found || when.IsZero() {
					t.Errorf("known: %t, adopted at %s", found, when)
				}
				b.record("1") // when the claim was judged again
			})
		})
	}
}

// An entry that could not be recorded is deleted later; one that an earlier leader has made under
// the same name meanwhile must not be.
func TestAdoptedEntryIsNotDeletedForAFailedRecord(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		b := startLeader(t, server, "b", 0)
		away := func(r leases.Request) leases.Fault {
			if r.Verb == "create" || r.Verb == "get" {
				return leases.Fault{Before: errLost}
			}
			return leases.Fault{}
		}
		server.Intercept(away)
		if err := b.Record(t.Context(), entry("1")); err == nil {
			t.Fatal("recorded although the API server is away")
		}
		server.Intercept(nil)
		if _, err := server.Create(t.Context(), lateLease(t, "1", "a"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		b.adopt(1, 0)
		wait(5 * time.Minute)
		exists(t, server, "1", "b")
		b.has("1", true)
	})
}

func TestEntriesAreAdoptedInOneGoOrNothingBegins(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		a := startLeader(t, server, "a", 0)
		a.record("1")
		a.record("2")
		a.stop()
		b := start(t, server, "b")
		server.Intercept(once("list", leases.Fault{Before: errLost}))
		if _, err := b.Adopt(t.Context()); !errors.Is(err, errLost) {
			t.Errorf("Adopt: %v", err)
		}
		server.Intercept(once("update", leases.Fault{Before: forbidden()}))
		if _, err := b.Adopt(t.Context()); err == nil || !strings.Contains(err.Error(), "exceeded quota") || len(b.adopted) != 1 {
			t.Errorf("Adopt: %v, %v", b.adopted, err)
		}
		server.Intercept(once("update", leases.Fault{After: errLost}))
		b.adopt(1, 0)
		exists(t, server, "1", "b")
		exists(t, server, "2", "b")
	})
}

func TestHolderWithoutElectionIsAliveWhileItRenews(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		a := start(t, server, "a", withoutElection)
		a.record("1")
		a.record("2")
		b := start(t, server, "b", withoutElection)
		for range 20 {
			b.adopt(0, 2)
			if err := a.MayCall(); err != nil {
				t.Fatal(err)
			}
			wait(5 * time.Second)
		}
		if err := b.Record(t.Context(), entry("1")); !errors.Is(err, journal.ErrHeld) {
			t.Errorf("Record: %v", err)
		}
		exists(t, server, "1", "a")
		a.stop() // as if it was killed
		b.adopt(0, 2)
		wait(14 * time.Second)
		b.adopt(0, 2)
		wait(2 * time.Second)
		b.adopt(2, 0)
		exists(t, server, "1", "b")
		if err := a.MayCall(); err == nil {
			t.Error("a process that cannot renew its entries may call the driver")
		}
	})
}

func TestReleasedEntriesAreAdoptedAtOnce(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		a := start(t, server, "a", withoutElection)
		a.record("1")
		a.stop()
		if err := a.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		b := start(t, server, "b", withoutElection)
		b.adopt(1, 0)
		exists(t, server, "1", "b")
	})
}

func TestUnreadableEntriesAreKept(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		a := startLeader(t, server, "a", 0)
		a.record("1")
		a.record("2")
		a.record("3")
		a.stop()
		server.Edit(nameOf("1"), func(l *coordinationv1.Lease) { l.Annotations["csi-clone-provisioner/format"] = "2" })
		server.Edit(nameOf("2"), func(l *coordinationv1.Lease) { l.Annotations["csi-clone-provisioner/request"] = "?" })
		b := start(t, server, "b")
		got := b.adopt(1, 0)
		if len(got.Unreadable) != 2 ||
			!errors.Is(got.Unreadable[0], journal.ErrFormat) && !errors.Is(got.Unreadable[1], journal.ErrFormat) ||
			!errors.Is(got.Unreadable[0], journal.ErrMalformed) && !errors.Is(got.Unreadable[1], journal.ErrMalformed) {
			t.Errorf("%+v", got)
		}
		wait(10 * time.Minute)
		exists(t, server, "1", "a")
		exists(t, server, "2", "a")
		err := b.Record(t.Context(), entry("1"))
		if !errors.Is(err, journal.ErrHeld) || !errors.Is(err, journal.ErrFormat) {
			t.Errorf("Record: %v", err)
		}
	})
}

// An adoption renews the entry. It stays one of which it is not known whose volume it names.
func TestDoubtOutlivesAdoption(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		a := startLeader(t, server, "a", 0)
		a.record("1")
		a.stop()
		wait(25 * time.Hour)
		b := startLeader(t, server, "b", 1)
		if e, _, _ := b.Entry("1"); !strings.Contains(e.Doubt, "no provisioner has renewed it") {
			t.Errorf("%+v", e)
		}
		b.record("1") // the caller does not repeat it
		b.stop()
		c := startLeader(t, server, "c", 1)
		if e, _, _ := c.Entry("1"); !strings.Contains(e.Doubt, "no provisioner has renewed it") {
			t.Errorf("%+v", e)
		}
	})
}

func TestEntriesOfNodes(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		ofNode := func(node string) func(*journal.Config) {
			return func(c *journal.Config) { c.MayAct, c.Node = nil, node }
		}
		one, two := start(t, server, "a", ofNode("node-1")), start(t, server, "b", ofNode("node-2"))
		e := entry("1")
		e.Source = &journal.Source{Kind: "PersistentVolumeClaim", UID: "s"}
		for _, p := range []*process{one, two} {
			if err := p.Record(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		others, err := one.Others(t.Context(), "1")
		if err != nil || len(others) != 1 || *others[0].Spec.HolderIdentity != "b" {
			t.Errorf("%+v, %v", others, err)
		}
		for source, want := range map[types.UID]int{"s": 2, "t": 0} {
			if of, err := one.OfSource(t.Context(), source); err != nil || len(of) != want {
				t.Errorf("%d entries of source %s, %v", len(of), source, err)
			}
		}
		one.stop()
		wait(time.Minute)
		for _, p := range []*process{two, start(t, server, "c")} {
			p.adopt(0, 0)
		}
		again := start(t, server, "d", ofNode("node-1"))
		again.adopt(0, 1)
		wait(16 * time.Second)
		again.adopt(1, 0)
		again.settle("1")
		if got := len(server.Names()); got != 1 {
			t.Errorf("%d entries are left", got)
		}
	})
}

func TestEntriesInOtherNamespaces(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		a := startLeader(t, server, "a", 0)
		a.record("1")
		b := start(t, server, "b", func(c *journal.Config) { c.Namespace = "kube-system" })
		refs, err := b.Elsewhere(t.Context(), server)
		if err != nil || len(refs) != 1 || refs[0].String() != "csi/"+nameOf("1") {
			t.Errorf("%v, %v", refs, err)
		}
		if refs, err := a.Elsewhere(t.Context(), server); err != nil || len(refs) > 0 {
			t.Errorf("%v, %v", refs, err)
		}
	})
}
