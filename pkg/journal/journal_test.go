package journal_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/journal"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/leases"
)

func forbidden() error {
	return apierrors.NewForbidden(coordinationv1.Resource("leases"), "n", errors.New("exceeded quota"))
}

func TestEntryIsRecordedAndSettled(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		p := startLeader(t, server, "a", 0)
		p.record("1")
		exists(t, server, "1", "a")
		p.has("1", true)
		if got := verbs(server.Requests()); got != "create" {
			t.Errorf("requests: %s", got)
		}
		p.record("1")
		if got := verbs(server.Requests()); got != "" {
			t.Errorf("an entry that did not change took requests: %s", got)
		}
		e := entry("1")
		e.RequiredBytes = 2 << 30
		if err := p.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if got, _, _ := p.Entry("1"); got.RequiredBytes != 2<<30 || verbs(server.Requests()) != "update" {
			t.Errorf("the entry is %+v", got)
		}
		p.settle("1")
		exists(t, server, "1", "")
		p.has("1", false)
		p.settle("1") // what is settled takes no request
		p.SettleLater("1")
		if got := verbs(server.Requests()); got != "delete" {
			t.Errorf("requests: %s", got)
		}
		if got := strings.Join(p.writes, ", "); got != "create ok, update ok, delete ok" {
			t.Errorf("writes were reported as %s", got)
		}
	})
}

func TestTimeOfAnEntryIsThatOfTheFirst(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		p := startLeader(t, server, "a", 0)
		p.record("1")
		first, _, _ := p.Entry("1")
		wait(time.Minute)
		p.record("2")
		e := entry("1")
		e.RequiredBytes++
		if err := p.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		got := p.Entries()
		if len(got) != 2 || got[0].Claim.UID != "1" || !got[0].Since.Equal(first.Since) || first.Since.IsZero() {
			t.Errorf("entries are %+v", got)
		}
	})
}

func TestLostAnswersOfWrites(t *testing.T) {
	for verb, f := range map[string]func(p *process){
		"create": func(p *process) { p.record("1") },
		"update": func(p *process) {
			p.record("1")
			e := entry("1")
			e.RequiredBytes++
			if err := p.Record(p.t.Context(), e); err != nil {
				p.t.Error(err)
			}
		},
		"delete": func(p *process) {
			p.record("1")
			p.settle("1")
		},
	} {
		for name, fault := range map[string]leases.Fault{"before": {Before: errLost}, "after": {After: errLost}} {
			t.Run(verb+" "+name+" it took effect", func(t *testing.T) {
				virtual(t, func(t *testing.T, server *leases.Server) {
					server.Intercept(once(verb, fault))
					p := startLeader(t, server, "a", 0)
					f(p)
					holder := "a"
					if verb == "delete" {
						holder = ""
					}
					exists(t, server, "1", holder)
					wait(10 * time.Minute) // nothing is left to do
					exists(t, server, "1", holder)
					if len(p.givenUp)+len(p.fenced) > 0 {
						t.Errorf("given up: %v, fenced: %v", p.givenUp, p.fenced)
					}
				})
			})
		}
	}
}

func TestRefusedEntryAllowsNoCall(t *testing.T) {
	for name, err := range map[string]error{
		"forbidden":         forbidden(),
		"too many requests": apierrors.NewTooManyRequestsError("busy"),
		"invalid":           apierrors.NewInvalid(coordinationv1.SchemeGroupVersion.WithKind("Lease").GroupKind(), "n", nil),
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T, server *leases.Server) {
				server.Intercept(once("create", leases.Fault{Before: err}))
				p := startLeader(t, server, "a", 0)
				got := p.Record(t.Context(), entry("1"))
				if got == nil || !strings.Contains(got.Error(), "shop/db-1") || !errors.Is(got, err) {
					t.Errorf("Record: %v", got)
				}
				p.has("1", false)
				if err := p.MayCall(); err != nil {
					t.Error(err)
				}
				wait(50 * time.Second)
				if got := verbs(server.Requests()); got != "create" {
					t.Errorf("requests: %s", got)
				}
				p.record("1")
				exists(t, server, "1", "a")
			})
		})
	}
}

func TestEntryThatArrivesLateIsDeleted(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		p := startLeader(t, server, "a", 0)
		p.record("2") // the form of an entry
		server.Intercept(func(r leases.Request) leases.Fault {
			if r.Verb == "create" || r.Verb == "get" {
				return leases.Fault{Before: errLost}
			}
			return leases.Fault{}
		})
		began := time.Now()
		if err := p.Record(t.Context(), entry("1")); err == nil || !strings.Contains(err.Error(), "connection reset") {
			t.Fatalf("Record: %v", err)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("Record took %s", took)
		}
		server.Intercept(nil)
		wait(50 * time.Second)
		exists(t, server, "1", "")
		late := lateLease(t, "1", "a")
		if _, err := server.Create(t.Context(), late, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		wait(2 * time.Minute)
		exists(t, server, "1", "")
		exists(t, server, "2", "a")
		p.has("1", false)
	})
}

// lateLease returns the Lease that a process creates for the claim.
func lateLease(t *testing.T, uid, holder string) *coordinationv1.Lease {
	t.Helper()
	other := &leases.Server{Namespace: "csi"}
	j := startLeader(t, other, holder, 0)
	defer j.stop()
	if err := j.Record(t.Context(), entry(uid)); err != nil {
		t.Fatal(err)
	}
	lease := other.Live(nameOf(uid))
	lease.UID, lease.ResourceVersion = "", ""
	return lease
}

func TestEntriesAreDeletedInTheBackground(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		server.Intercept(once("delete", leases.Fault{Before: forbidden()}))
		p := startLeader(t, server, "a", 0)
		p.record("1")
		p.SettleLater("1")
		synctest.Wait()
		exists(t, server, "1", "a")
		if got := p.Entries(); len(got) > 0 {
			t.Errorf("a settled entry counts as open: %v", got)
		}
		wait(5 * time.Second)
		exists(t, server, "1", "")
		p.has("1", false)
	})
}

func TestNoCallBeginsWhileADeletionIsOverdue(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		refuse := atomic.Bool{}
		refuse.Store(true)
		server.Intercept(func(r leases.Request) leases.Fault {
			if r.Verb == "delete" && refuse.Load() {
				return leases.Fault{Before: forbidden()}
			}
			return leases.Fault{}
		})
		p := startLeader(t, server, "a", 0)
		p.record("1")
		if err := p.Settle(t.Context(), "1"); err == nil || !strings.Contains(err.Error(), "exceeded quota") {
			t.Errorf("Settle: %v", err)
		}
		p.SettleLater("1")
		if err := p.MayCall(); err != nil {
			t.Errorf("at once: %v", err)
		}
		wait(20 * time.Second)
		if err := p.MayCall(); err == nil || !strings.Contains(err.Error(), nameOf("1")) {
			t.Errorf("after 20 s: %v", err)
		}
		refuse.Store(false)
		wait(time.Minute)
		if err := p.MayCall(); err != nil {
			t.Errorf("when it is deleted: %v", err)
		}
	})
}

func TestEntryThatIsRecordedAgainStays(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		p := startLeader(t, server, "a", 0)
		p.record("1")
		p.SettleLater("1")
		p.record("1")
		wait(5 * time.Minute)
		exists(t, server, "1", "a")
		p.has("1", true)
	})
}

func TestAdministratorGivesUpAnEntry(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		p := startLeader(t, server, "a", 0)
		p.record("1")
		p.record("2")
		server.Remove(nameOf("1"))
		wait(time.Minute + time.Second)
		p.has("1", false)
		p.has("2", true)
		if len(p.givenUp) != 1 || p.givenUp[0] != "1" {
			t.Errorf("given up: %v", p.givenUp)
		}
		server.Remove(nameOf("2"))
		e := entry("2")
		e.RequiredBytes++
		if err := p.Record(t.Context(), e); !errors.Is(err, journal.ErrGivenUp) {
			t.Errorf("Record: %v", err)
		}
		p.record("2") // the claim is still there
		exists(t, server, "2", "a")
	})
}

func TestEditsOfAnAdministratorAreMerged(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		p := startLeader(t, server, "a", 0)
		p.record("1")
		server.Edit(nameOf("1"), func(l *coordinationv1.Lease) {
			l.Labels["team"] = "storage"
			l.Annotations["csi-clone-provisioner/volume-name"] = "pvc-other"
		})
		wait(2 * time.Minute)
		live := server.Live(nameOf("1"))
		if live.Labels["team"] != "storage" || live.Annotations["csi-clone-provisioner/volume-name"] != "pvc-1" {
			t.Errorf("labels %v, annotations %v", live.Labels, live.Annotations)
		}
		p.settle("1")
		exists(t, server, "1", "")
		if len(p.givenUp)+len(p.fenced) > 0 {
			t.Errorf("given up: %v, fenced: %v", p.givenUp, p.fenced)
		}
	})
}

func TestOpenEntriesAreRenewed(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		p := startLeader(t, server, "a", 0)
		p.record("1")
		for range 12 {
			wait(time.Hour)
			if age := time.Since(server.Live(nameOf("1")).Spec.RenewTime.Time); age > 6*time.Hour {
				t.Errorf("the entry was last renewed %s ago", age)
			}
		}
		if got := len(slices.DeleteFunc(server.Requests(), func(r leases.Request) bool { return r.Verb != "update" })); got != 2 {
			t.Errorf("%d renewals in 12 hours", got)
		}
	})
}

func TestLastAnswerIsStored(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		p := startLeader(t, server, "a", 0)
		p.record("1")
		p.SetLastAnswer("1", "Internal: no pool")
		p.SetLastAnswer("2", "not an entry")
		if got := verbs(server.Requests()); got != "create" {
			t.Errorf("requests: %s", got)
		}
		wait(61 * time.Second)
		if got := server.Live(nameOf("1")).Annotations["csi-clone-provisioner/last-answer"]; got != "Internal: no pool" {
			t.Errorf("the last answer is %q", got)
		}
	})
}

func TestFewRequestsAreInFlight(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		var mu sync.Mutex
		now, most := 0, 0
		count := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			now += n
			most = max(most, now)
		}
		server.Intercept(func(leases.Request) leases.Fault {
			count(1)
			defer count(-1)
			<-time.After(time.Millisecond)
			return leases.Fault{}
		})
		p := start(t, server, "a", func(c *journal.Config) { c.Written = nil })
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				if err := p.Record(t.Context(), entry(fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if most != 16 {
			t.Errorf("%d requests were in flight", most)
		}
		if got := len(server.Names()); got != 100 {
			t.Errorf("%d entries", got)
		}
	})
}

func TestFlushDeletesWhatIsSettled(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		p := startLeader(t, server, "a", 0)
		p.record("1")
		p.record("2")
		p.SettleLater("1")
		p.stop()
		if err := p.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		exists(t, server, "1", "")
		exists(t, server, "2", "a")
	})
}

func TestProcessThatMayNotActSendsNothing(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		stale := errors.New("the lease was not renewed")
		p := start(t, server, "a", func(c *journal.Config) { c.MayAct = func() error { return stale } })
		if err := p.Record(t.Context(), entry("1")); !errors.Is(err, stale) {
			t.Errorf("Record: %v", err)
		}
		if got := verbs(server.Requests()); got != "" {
			t.Errorf("requests: %s", got)
		}
	})
}

func TestCallerThatGivesUpLeavesNothingBehind(t *testing.T) {
	virtual(t, func(t *testing.T, server *leases.Server) {
		server.Intercept(once("create", leases.Fault{After: errLost}))
		p := startLeader(t, server, "a", 0)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := p.Record(ctx, entry("1")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Record: %v", err)
		}
		exists(t, server, "1", "a")
		wait(10 * time.Second)
		exists(t, server, "1", "")
	})
}

func TestJournalWithoutLeasesRemembersEntries(t *testing.T) {
	virtual(t, func(t *testing.T, _ *leases.Server) {
		p := start(t, nil, "a", func(c *journal.Config) { c.Leases = nil })
		p.adopt(0, 0)
		p.record("1")
		p.record("2")
		p.has("1", true)
		p.settle("1")
		p.SettleLater("2")
		wait(5 * time.Second)
		p.has("1", false)
		p.has("2", false)
		if err := p.MayCall(); err != nil {
			t.Error(err)
		}
	})
}
