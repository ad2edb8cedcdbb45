package journal_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/journal"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/leases"
)

const driver = "clone.example.com"

// process is a journal that runs in virtual time.
type process struct {
	*journal.Journal
	t       *testing.T
	config  journal.Config
	mu      sync.Mutex
	adopted []types.UID
	givenUp []types.UID
	fenced  []error
	writes  []string
	stop    func()
}

// leading is the MayAct of a leader.
func leading() error { return nil }

// start runs a journal with leader election until the test ends or stop is called.
func start(t *testing.T, server *leases.Server, holder string, changes ...func(*journal.Config)) *process {
	p := &process{t: t}
	p.config = journal.Config{
		Leases: server, Namespace: "csi", Driver: driver, Holder: holder, MayAct: leading,
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second,
		Adopted: func(e journal.Entry) { p.note(func() { p.adopted = append(p.adopted, e.Claim.UID) }) },
		GivenUp: func(e journal.Entry) { p.note(func() { p.givenUp = append(p.givenUp, e.Claim.UID) }) },
		Fenced:  func(err error) { p.note(func() { p.fenced = append(p.fenced, err) }) },
		Written: func(verb, result string, _ time.Duration) {
			p.note(func() { p.writes = append(p.writes, verb+" "+result) })
		},
	}
	for _, change := range changes {
		change(&p.config)
	}
	p.Journal = journal.New(p.config)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.Run(ctx)
	}()
	p.stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(p.stop)
	return p
}

// note calls f with the process's lock.
func (p *process) note(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func withoutElection(c *journal.Config) { c.MayAct = nil }

// virtual runs the test in virtual time.
func virtual(t *testing.T, f func(t *testing.T, server *leases.Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(t, &leases.Server{Namespace: "csi"})
	})
}

// entry of a claim with that uid.
func entry(uid string) journal.Entry {
	return journal.Entry{
		Claim: journal.Claim{Namespace: "shop", Name: "db-" + uid, UID: types.UID(uid)},
		Class: journal.Class{Name: "fast", UID: "s"}, VolumeName: "pvc-" + uid, RequiredBytes: 1 << 30,
		ReclaimPolicy: v1.PersistentVolumeReclaimDelete,
	}
}

func nameOf(uid string) string { return journal.Name(driver, types.UID(uid), "") }

func (p *process) record(uid string) {
	p.t.Helper()
	if err := p.Record(p.t.Context(), entry(uid)); err != nil {
		p.t.Fatalf("Record %s: %v", uid, err)
	}
}

func (p *process) settle(uid string) {
	p.t.Helper()
	if err := p.Settle(p.t.Context(), types.UID(uid)); err != nil {
		p.t.Fatalf("Settle %s: %v", uid, err)
	}
}

// adopt adopts entries, and fails unless so many were adopted and are pending.
func (p *process) adopt(adopted, pending int) journal.Adoption {
	p.t.Helper()
	before := len(p.adopted)
	a, err := p.Adopt(p.t.Context())
	if got := len(p.adopted) - before; err != nil || got != adopted || a.Pending != pending {
		p.t.Fatalf("Adopt: %d adopted, %+v, %v; want %d adopted and %d pending", got, a, err, adopted, pending)
	}
	return a
}

// startLeader is start of a process that has adopted all entries.
func startLeader(t *testing.T, server *leases.Server, holder string, adopted int) *process {
	t.Helper()
	p := start(t, server, holder)
	p.adopt(adopted, 0)
	server.Requests()
	return p
}

// has fails unless the process has an entry of the claim.
func (p *process) has(uid string, want bool) {
	p.t.Helper()
	if _, _, found := p.Entry(types.UID(uid)); found != want {
		p.t.Errorf("the entry of %s is known: %t, want %t", uid, found, want)
	}
}

// exists fails unless the API server has the Lease of the claim, with that holder; "" for no Lease.
func exists(t *testing.T, server *leases.Server, uid, holder string) {
	t.Helper()
	live, got := server.Live(nameOf(uid)), ""
	if live != nil {
		got = *live.Spec.HolderIdentity
	}
	if got != holder {
		t.Errorf("the Lease of %s has holder %q, want %q", uid, got, holder)
	}
}

// wait lets virtual time pass until everything rests.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

var errLost = errors.New("connection reset by peer")

// once returns faults that befall the first request of that verb.
func once(verb string, fault leases.Fault) func(leases.Request) leases.Fault {
	var done atomic.Bool
	return func(r leases.Request) leases.Fault {
		if r.Verb != verb || !done.CompareAndSwap(false, true) {
			return leases.Fault{}
		}
		return fault
	}
}

func verbs(requests []leases.Request) string {
	var list []string
	for _, r := range requests {
		list = append(list, r.Verb)
	}
	return strings.Join(list, " ")
}
