package bench

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/bench/figures"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/bench/stub"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
)

const (
	// latency is how long the driver takes.
	latency = 50 * time.Millisecond
	// usualClaims is how many claims there are at once unless BENCH_CLAIMS says
	// otherwise.
	usualClaims = 500
	// many times as many are created to see whether a clone costs more among many.
	many = 4
	// controllerManager is the user who gives claims to drivers and binds them.
	controllerManager = "kube-controller-manager"
	// warmUp is how many claims are created before anything is measured.
	warmUp = 100
)

// golden is one case.
type golden struct {
	name            string
	claims, sources int
}

func goldenCases(claims int) []golden {
	return []golden{
		{"clones of one source", claims, 1},
		{"blank claims", claims, 0},
		{"clones of as many sources", claims, claims},
		{"clones of one source", many * claims, 1},
	}
}

// TestGoldenImage measures how long it takes until claims that are created at once
// are bound, and until their PVs are gone when they are deleted at once: ours and
// the floor, one after the other, in turns.
func TestGoldenImage(t *testing.T) {
	out := os.Getenv("BENCH_OUT")
	if out == "" {
		t.Skip("BENCH_OUT names no file for the figures; run make bench")
	}
	claims, runs := number(t, "BENCH_CLAIMS", usualClaims), number(t, "BENCH_RUNS", 1)
	report := newReport(t)
	report.Full = claims == usualClaims
	t.Run("warm up", func(t *testing.T) {
		measure(t, golden{"warm up", min(warmUp, claims), 0}, figures.Floor)
		report.Kubernetes, report.Program = versions(t)
	})
	for run := range runs {
		for _, c := range goldenCases(claims) {
			both := []string{figures.Ours, figures.Floor}
			if run%2 == 1 {
				slices.Reverse(both)
			}
			for _, who := range both {
				t.Run(fmt.Sprintf("run %d, %d %s, %s", run+1, c.claims, c.name, who), func(t *testing.T) {
					m := measure(t, c, who)
					m.Run = run + 1
					report.Measurements = append(report.Measurements, m)
					t.Log(m)
				})
			}
		}
	}
	if t.Failed() {
		return
	}
	if err := report.Write(out); err != nil {
		t.Fatal(err)
	}
	t.Logf("figures are in %s", out)
}

// number reads an environment variable that holds a positive number.
func number(t *testing.T, variable string, usual int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s is no number of at least 1", variable, text)
	}
	return n
}

// newReport returns a report without measurements.
func newReport(t *testing.T) *figures.Report {
	t.Helper()
	machine, err := figures.ThisMachine()
	if err != nil {
		t.Fatal(err)
	}
	return &figures.Report{Date: time.Now().UTC(), Machine: machine, Latency: latency.Seconds()}
}

// versions returns those of the control plane and of the provisioner.
func versions(t *testing.T) (kubernetes, program string) {
	t.Helper()
	info, err := kit.New(t).Admin.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	root, err := repo.Root()
	if err != nil {
		t.Fatal(err)
	}
	path, err := repo.Provisioner(root)
	if err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command(path, "--version").Output()
	if err != nil {
		t.Fatalf("asking %s for its version: %v", path, err)
	}
	words := strings.Fields(string(output))
	return info.GitVersion, words[len(words)-1]
}

// bench is the world of one measurement.
type bench struct {
	t       *testing.T
	env     *kit.Env
	driver  *stub.Driver
	subject subject
	watcher *watcher
	audit   *figures.Audit
}

// measure measures one case with one provisioner.
func measure(t *testing.T, c golden, who string) figures.Measurement {
	t.Helper()
	var driver *stub.Driver
	// Before kit.New, to come after the kit has stopped the provisioner. The kit has
	// a driver of its own, which nobody calls.
	t.Cleanup(func() {
		if driver == nil {
			return
		}
		if err := driver.Close(); err != nil {
			t.Error(err)
		}
	})
	env := kit.New(t)
	var err error
	if driver, err = stub.Start(env.DriverName, latency); err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, env: env, driver: driver, watcher: watch(t, env)}
	if b.audit, err = figures.NewAudit(env.Cluster.AuditLogPath()); err != nil {
		t.Fatal(err)
	}
	b.subject = start(t, env, driver, who)

	m := figures.Measurement{Case: c.name, Claims: c.claims, Sources: c.sources, Who: who}
	var sources []string
	for i := range c.sources {
		sources = append(sources, fmt.Sprintf("src-%04d", i))
	}
	b.create(sources, nil)
	b.watcher.await(t, "sources are bound", sources, b.watcher.bound)

	var names []string
	for i := range c.claims {
		names = append(names, fmt.Sprintf("copy-%04d", i))
	}
	m.Create = b.phase(func(p *figures.Phase) {
		calls := b.create(names, sources)
		b.watcher.await(t, "PVs are there and claims are bound", names, b.watcher.saved, b.watcher.bound)
		p.Asked = calls.answered()
		p.PVs = b.watcher.since(calls.first(), names, b.watcher.saved)
		p.Claims = b.watcher.since(calls.first(), names, b.watcher.bound)
		m.Waits = b.watcher.waits(names, calls.begun, b.watcher.bound)
	})
	b.subject.turn()
	m.Delete = b.phase(func(p *figures.Phase) {
		calls := b.remove(names)
		b.watcher.await(t, "claims and PVs are gone", names, b.watcher.claimGone, b.watcher.pvGone)
		p.Asked = calls.answered()
		p.PVs = b.watcher.since(calls.first(), names, b.watcher.pvGone)
		p.Claims = b.watcher.since(calls.first(), names, b.watcher.claimGone)
	})
	b.remove(sources)
	b.watcher.await(t, "sources and their PVs are gone", sources, b.watcher.claimGone, b.watcher.pvGone)
	if n := driver.Volumes(); n != 0 {
		t.Errorf("%d volumes are left although all PVs are gone", n)
	}
	return m
}

// phase does something between two moments of quiet and tells what it cost.
func (b *bench) phase(do func(*figures.Phase)) figures.Phase {
	b.t.Helper()
	b.quiet()
	called, warned := b.driver.Calls(), b.warnings()
	b.driver.MostAtOnce()
	before := b.load()
	var p figures.Phase
	do(&p)
	requests := b.quiet()

	b.load().since(before, &p)
	for uid, warning := range b.warnings() {
		if warned[uid] != warning {
			p.Warnings = append(p.Warnings, warning)
		}
	}
	p.MostAtOnce, p.Calls = b.driver.MostAtOnce(), b.driver.Calls()
	for method, n := range called {
		p.Calls[method] -= n
	}
	maps.DeleteFunc(p.Calls, func(_ string, n int) bool { return n == 0 })
	p.Requests, p.Binder = map[string]int{}, map[string]int{}
	for _, r := range requests {
		isConflict, isOurs := r.Code == 409, r.User == b.env.User()
		switch {
		case isOurs && isConflict:
			p.Conflicts++
		case isConflict:
			p.OtherConflicts++
		}
		switch r.User {
		case b.env.User():
			p.Requests[r.What]++
		case controllerManager:
			p.Binder[r.What]++
		}
	}
	return p
}

// quiet waits until no claim is on record and the provisioner asks the API server
// for nothing any more, events included. It returns the requests since the last time,
// whoever made them.
func (b *bench) quiet() []figures.Request {
	b.t.Helper()
	const long = 2 * time.Second
	b.watcher.awaitUnrecorded(b.t)
	var all []figures.Request
	since := time.Now()
	b.env.Eventually("the provisioner is quiet", func() error {
		requests, err := b.audit.Next()
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, requests...)
		if slices.ContainsFunc(requests, func(r figures.Request) bool { return r.User == b.env.User() }) {
			since = time.Now()
		}
		if time.Since(since) < long {
			return fmt.Errorf("its last request was answered less than %s ago", long)
		}
		return nil
	})
	return all
}

// create creates claims at once, the i-th as a clone of the i-th source, if there
// are any, beginning anew when they are used up.
func (b *bench) create(names, sources []string) calls {
	b.t.Helper()
	claims := make([]*v1.PersistentVolumeClaim, len(names))
	for i, name := range names {
		claims[i] = b.env.Claim(name)
		if len(sources) > 0 {
			kit.CloneOf(sources[i%len(sources)])(claims[i])
		}
	}
	return b.atOnce(len(names), func(i int) error {
		_, err := b.env.Admin.CoreV1().PersistentVolumeClaims(b.env.Namespace).Create(b.env.Ctx, claims[i], metav1.CreateOptions{})
		return err
	})
}

// remove deletes claims at once.
func (b *bench) remove(names []string) calls {
	b.t.Helper()
	return b.atOnce(len(names), func(i int) error {
		return b.env.Admin.CoreV1().PersistentVolumeClaims(b.env.Namespace).Delete(b.env.Ctx, names[i], metav1.DeleteOptions{})
	})
}

// calls are moments of calls side by side.
type calls struct{ begun, ended []time.Time }

// atOnce makes n calls side by side.
func (b *bench) atOnce(n int, do func(i int) error) calls {
	b.t.Helper()
	c := calls{begun: make([]time.Time, n), ended: make([]time.Time, n)}
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			c.begun[i] = time.Now()
			errs[i] = do(i)
			c.ended[i] = time.Now()
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		b.t.Fatal(err)
	}
	return c
}

// first returns when the first call began.
func (c calls) first() time.Time { return slices.MinFunc(c.begun, time.Time.Compare) }

// answered returns the seconds from the first call until each was answered, sorted.
func (c calls) answered() []float64 {
	var all []float64
	for _, moment := range c.ended {
		all = append(all, moment.Sub(c.first()).Seconds())
	}
	slices.Sort(all)
	return all
}

// warnings returns the Warning events about claims and PVs, whoever sent them.
func (b *bench) warnings() map[types.UID]string {
	b.t.Helper()
	list, err := b.env.Admin.CoreV1().Events(metav1.NamespaceAll).List(b.env.Ctx, metav1.ListOptions{FieldSelector: "type=Warning"})
	if err != nil {
		b.t.Fatal(err)
	}
	found := map[types.UID]string{}
	for _, event := range list.Items {
		about := event.InvolvedObject
		if about.Namespace == b.env.Namespace || about.Kind == "PersistentVolume" {
			found[event.UID] = fmt.Sprintf("%s %s: %d x %s: %s", about.Kind, about.Name, event.Count, event.Reason, event.Message)
		}
	}
	return found
}
