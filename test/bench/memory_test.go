package bench

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/bench/figures"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// settled is how long after its first look the provisioner is measured: that is a
// figure of the benchmark, not a wait for something.
const settled = 10 * time.Second

// footprint is what the provisioner uses in a cluster with so many PVs, and as many
// bound claims, of other drivers.
type footprint struct {
	Foreign int
	// Settled and Peak are bytes of resident memory, 10 s after the caches were
	// filled and at most; Anonymous is the part of Settled that is no file's.
	Settled, Anonymous, Peak int64
	// CPU until then.
	CPU time.Duration
	// Ready says that the caches are filled. Ready and FirstBound count from the start of the process.
	Ready, FirstBound time.Duration
}

// TestMemory prints what the provisioner uses beside foreign PVs and claims, for each
// number of them in BENCH_FOREIGN, which must rise.
func TestMemory(t *testing.T) {
	amounts := amountsFrom(t, os.Getenv("BENCH_FOREIGN"))
	env := kit.New(t)
	crowd := newCrowd(env)
	var found []footprint
	for _, amount := range amounts {
		begun := time.Now()
		crowd.grow(t, amount)
		t.Logf("there are %d PVs and %d claims of others, after %.0f s", amount, amount, time.Since(begun).Seconds())
		for range rounds(t) {
			found = append(found, footprintOf(t, env, amount, len(found)))
		}
	}
	report(t, found, crowd)
}

// rounds is how often each amount is measured.
func rounds(t *testing.T) int {
	t.Helper()
	text := cmp.Or(os.Getenv("BENCH_ROUNDS"), "1")
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("BENCH_ROUNDS=%s: want a number of at least 1", text)
	}
	return n
}

func amountsFrom(t *testing.T, list string) []int {
	t.Helper()
	if list == "" {
		t.Skip("BENCH_FOREIGN says how many foreign PVs and claims there shall be, for instance 0,5000,20000; see make bench-memory")
	}
	var amounts []int
	for _, word := range strings.Split(list, ",") {
		amount, err := strconv.Atoi(word)
		if err != nil || amount < 0 || len(amounts) > 0 && amount <= amounts[len(amounts)-1] {
			t.Fatalf("BENCH_FOREIGN=%s: want rising numbers with commas between them", list)
		}
		amounts = append(amounts, amount)
	}
	return amounts
}

// footprintOf starts the provisioner, with default flags, and lets it provision one claim.
func footprintOf(t *testing.T, env *kit.Env, foreign, round int) footprint {
	t.Helper()
	name := fmt.Sprintf("fresh-%d", round)
	begun := time.Now()
	p := env.LaunchProvisioner("--leader-election=false", "--v=2", "--enable-pprof")
	env.Create(env.Claim(name))
	p.WaitReady()
	ready := time.Now()
	env.WaitBound(name)
	f := footprint{Foreign: foreign, Ready: ready.Sub(begun), FirstBound: time.Since(begun)}
	<-time.After(time.Until(ready.Add(settled)))
	used := p.Usage()
	f.CPU, f.Settled, f.Peak, f.Anonymous = used.CPU, used.RSS, used.PeakRSS, anonymous(t, p)
	if dir := os.Getenv("BENCH_PROFILES"); dir != "" {
		keep(t, filepath.Join(dir, fmt.Sprintf("heap-%d.pprof", foreign)), p.Page("/debug/pprof/heap"))
	}
	if code := p.Stop(); code != 0 {
		t.Errorf("the provisioner's exit code is %d, want 0", code)
	}
	env.Delete(name)
	env.WaitGone(name)
	return f
}

// anonymous returns how many bytes of the process's memory are no file's, see
// proc_pid_status(5).
func anonymous(t *testing.T, p *kit.Provisioner) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, "RssAnon:"); found {
			kB, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				t.Fatalf("reading %q: %v", line, err)
			}
			return kB << 10
		}
	}
	t.Fatal("/proc has no RssAnon of the provisioner")
	return 0
}

// report prints what was found, and puts it into the page BENCH_PAGE.
func report(t *testing.T, found []footprint, c *crowd) {
	t.Helper()
	table := figures.Table{{"PVs + claims of others", "RSS after 10 s", "anonymous", "peak RSS", "CPU", "ready", "first claim bound"}}
	for _, f := range found {
		table = table.With(fmt.Sprintf("%d + %d", f.Foreign, f.Foreign),
			fmt.Sprintf("%.1f MiB", mib(f.Settled)), fmt.Sprintf("%.1f MiB", mib(f.Anonymous)), fmt.Sprintf("%.1f MiB", mib(f.Peak)),
			fmt.Sprintf("%.2f s", f.CPU.Seconds()), fmt.Sprintf("%.2f s", f.Ready.Seconds()), fmt.Sprintf("%.2f s", f.FirstBound.Seconds()))
	}
	of := newReport(t)
	of.Kubernetes, of.Program = versions(t)
	text := fmt.Sprintf("%s, %s, Kubernetes %s, %s, %s.\n\n%s", of.Date.Format(time.DateOnly), of.Machine, of.Kubernetes, of.Program, runtime.Version(), table)
	if first, last := found[0], found[len(found)-1]; last.Foreign > first.Foreign {
		objects := float64(2 * (last.Foreign - first.Foreign))
		text += fmt.Sprintf("\nGrowth for each object: %.0f bytes of RSS, %.0f of its peak. As JSON a PV has %d bytes, a claim %d.\n",
			float64(last.Settled-first.Settled)/objects, float64(last.Peak-first.Peak)/objects, c.pvBytes, c.claimBytes)
	}
	show(t, "memory", text)
}

// show prints what was found, and puts it into that part of the page BENCH_PAGE.
func show(t *testing.T, part, text string) {
	t.Helper()
	fmt.Println(text)
	path := os.Getenv("BENCH_PAGE")
	if path == "" {
		return
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := figures.Insert(string(page), part, text)
	if err != nil {
		t.Fatal(err)
	}
	keep(t, path, changed)
}

func keep(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Error(err)
	}
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
