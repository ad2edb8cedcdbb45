package integration

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
)

const (
	// allWaiting is how many clones wait in the test of very many, expected how many
	// of them for the source that appears.
	allWaiting = 10_000
	expected   = 10
)

// createMany creates so many clones, claim i of the source that it is told, with
// many requests at once.
func createMany(t *testing.T, env *kit.Env, count int, source func(i int) string) {
	t.Helper()
	next := make(chan int)
	var creators sync.WaitGroup
	for range 32 {
		creators.Go(func() {
			for i := range next {
				claim := env.Claim(fmt.Sprintf("copy-%05d", i), given(env), kit.CloneOf(source(i)))
				_, err := env.Admin.CoreV1().PersistentVolumeClaims(env.Namespace).Create(env.Ctx, claim, metav1.CreateOptions{})
				if err != nil {
					t.Errorf("creating claim %q: %v", claim.Name, err)
				}
			}
		})
	}
	for i := range count {
		next <- i
	}
	close(next)
	creators.Wait()
}

// toldOnce counts the claims that were told a reason, and fails the test for one
// that was told it twice.
func toldOnce(t *testing.T, env *kit.Env, reason string) int {
	t.Helper()
	told := map[string]bool{}
	options := metav1.ListOptions{FieldSelector: "reason=" + reason, Limit: 2000}
	for {
		list, err := env.Admin.CoreV1().Events(env.Namespace).List(env.Ctx, options)
		if err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			event := &list.Items[i]
			if told[event.InvolvedObject.Name] || event.Count > 1 {
				t.Errorf("claim %q was told %q more than once", event.InvolvedObject.Name, reason)
			}
			told[event.InvolvedObject.Name] = true
		}
		if options.Continue = list.Continue; options.Continue == "" {
			return len(told)
		}
	}
}

// notAdmitted counts how often any claim was found not to be ready.
func notAdmitted(p *kit.Provisioner) int {
	return strings.Count(p.Log(), `"Claim is not admitted"`)
}

func TestTenThousandWaitingClonesCostNothing(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("creates ten thousand claims")
	}
	world := kit.StartCluster(t, cluster.Options{
		AuditLog: true,
		// The cluster's own controller looks at all unbound claims as often as this.
		ControllerManagerArgs: []string{"--pvclaimbinder-sync-period=1h"},
	})
	env := kit.New(t, kit.On(world))
	p := env.StartProvisioner(noBackOff, noBackOffMax)
	idleBefore := p.CPU()
	began := time.Now()
	createMany(t, env, allWaiting, func(i int) string {
		if i < expected {
			return "src"
		}
		return fmt.Sprintf("none-%05d", i)
	})
	t.Logf("%d clones created in %.1f s", allWaiting, time.Since(began).Seconds())
	p.WaitMetric(allWaiting, "csi_clone_provisioner_claims_waiting")
	env.Eventually("all were told", func() error {
		if n := toldOnce(t, env, "CloneSourceNotFound"); n != allWaiting {
			return fmt.Errorf("%d were told", n)
		}
		return nil
	})
	t.Logf("all wait and were told after %.1f s, at %.1f s of CPU and %d MiB of memory",
		time.Since(began).Seconds(), (p.CPU() - idleBefore).Seconds(), p.RSS()>>20)

	const window = 10 * time.Second
	judged, sent, cpu := notAdmitted(p), len(ownChanges(t, env)), p.CPU()
	env.Steadily("nobody is judged while nothing changes", window, func() error {
		if n := notAdmitted(p); n != judged {
			return fmt.Errorf("%d claims were judged", n-judged)
		}
		return nil
	})
	t.Logf("%d clones that wait cost %.2f s of CPU in %.0f s", allWaiting, (p.CPU() - cpu).Seconds(), window.Seconds())
	if n := len(ownChanges(t, env)); n != sent {
		t.Errorf("%d requests were sent for claims that wait", n-sent)
	}

	cpu = p.CPU()
	bound := when(t, env, "src", isBound)
	env.Create(env.Claim("src"))
	var clones []string
	for i := range expected {
		clones = append(clones, fmt.Sprintf("copy-%05d", i))
	}
	env.WaitBound(clones...)
	since := await(t, bound, "the source is bound")
	logDelays(t, env, since, "the source was bound, with ten thousand that wait", clones...)
	t.Logf("waking %d of %d cost %.2f s of CPU", expected, allWaiting, (p.CPU() - cpu).Seconds())
	// Each is judged when the source appears, and when its parts change until it is
	// bound; the others are not.
	if n := notAdmitted(p) - judged; n > expected*20 {
		t.Errorf("%d judgements for %d claims that were woken", n, expected)
	}
	if n := toldOnce(t, env, "CloneSourceNotFound"); n != allWaiting {
		t.Errorf("%d claims were told that they wait, want %d", n, allWaiting)
	}
	leave(env, "src")
}

// A restart with very many that wait says nothing twice.
func TestARestartTellsWaitingClonesNothingNew(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	const count = 200
	p := env.StartProvisioner(noBackOff, noBackOffMax)
	createMany(t, env, count, func(int) string { return "src" })
	all := func() error {
		if n := toldOnce(t, env, "CloneSourceNotFound"); n != count {
			return fmt.Errorf("%d were told", n)
		}
		return nil
	}
	env.Eventually("all were told", all)
	if code := p.Stop(); code != 0 {
		t.Errorf("exit code is %d, want 0", code)
	}
	p = env.StartProvisioner(noBackOff, noBackOffMax)
	env.Eventually("all were judged again", func() error {
		if n := notAdmitted(p); n < count {
			return fmt.Errorf("%d were", n)
		}
		return nil
	})
	if code := p.Stop(); code != 0 { // sends what is to be said
		t.Errorf("exit code is %d, want 0", code)
	}
	if err := all(); err != nil {
		t.Error(err)
	}
}

// ownChanges returns the provisioner's requests that are neither watches nor lists.
func ownChanges(t *testing.T, env *kit.Env) []auditLine {
	t.Helper()
	var changes []auditLine
	for _, line := range requests(t, env) {
		if !line.isWatch() {
			changes = append(changes, line)
		}
	}
	return changes
}
