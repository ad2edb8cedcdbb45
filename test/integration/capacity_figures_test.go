package integration

import (
	"fmt"
	"sync"
	"testing"
	"time"

	storagev1 "k8s.io/api/storage/v1"
)

// What capacity costs with 100 nodes and 5 classes: how many objects there are, and how
// many requests a poll makes of the driver and of the API server. C-8: nothing is slowed
// down by a limit, and no object is written twice.
func TestCapacityFigures(t *testing.T) {
	t.Parallel()
	const nodes, classes = 100, 5
	const pairs = nodes * classes
	env, room := publishing(t, placed())
	for i := 1; i < classes; i++ {
		env.CreateClass(fmt.Sprintf("%s-%d", env.Class, i), func(class *storagev1.StorageClass) {
			mode := storagev1.VolumeBindingWaitForFirstConsumer
			class.VolumeBindingMode = &mode
		})
	}
	var putting sync.WaitGroup
	for i := range nodes {
		putting.Go(func() {
			env.PutNode(fmt.Sprintf("n%03d", i), map[string]string{zoneKey: fmt.Sprint("z", i%3), hostKey: fmt.Sprintf("h%03d", i)})
		})
	}
	putting.Wait()
	gateway := env.Gateway()
	requests := func(verb string) int { return len(gateway.Requests(verb, "csistoragecapacities")) }
	const poll = 2 * time.Second
	began := time.Now()
	p := env.StartProvisioner(capacityArgs("--capacity-poll-interval=" + poll.String())...)
	published := func() time.Duration {
		t.Helper()
		want := fmt.Sprint(room.usual/gi, "Gi")
		env.Eventually("all is published", func() error {
			right := 0
			for _, object := range env.Capacities() {
				if object.Capacity.String() == want {
					right++
				}
			}
			if right != pairs {
				return fmt.Errorf("%d objects say %s, want %d", right, want, pairs)
			}
			return nil
		})
		return time.Since(began)
	}
	took := published()
	t.Logf("%4d objects for %d nodes and %d classes, published within %.1f s of the start: %d requests to create them, %d to list and watch", pairs, nodes, classes,
		took.Seconds(), requests("create"), requests("list")+requests("watch"))
	polled(env, 3*pairs)
	check := func(what, verb string, want int) {
		t.Helper()
		got := requests(verb)
		t.Logf("%4d requests to %s so far, %s", got, verb, what)
		if got != want {
			t.Errorf("want %d", want)
		}
	}
	check("after three polls in which nothing had changed", "create", pairs)
	check("after three polls in which nothing had changed", "update", 0)
	began = time.Now()
	room.change(func() { room.usual = 2 * gi })
	took = published()
	polled(env, 3*pairs)
	check("after a poll in which everything had changed", "update", pairs)
	t.Logf("     everything was up to date again %.1f s after it had changed, with a poll every %s", took.Seconds(), poll)
	for _, verb := range []string{"get", "delete", "patch"} {
		check("in all", verb, 0)
	}
	t.Logf("%4d calls of GetCapacity for each poll", pairs)
	for name, want := range map[string]float64{"desired_goal": pairs, "desired_current": pairs, "obsolete": 0} {
		p.WaitMetric(want, "csistoragecapacities_"+name)
	}
	t.Logf("     CPU %.1f s, memory %d MiB (RSS) with all that", p.CPU().Seconds(), p.RSS()>>20)
}
