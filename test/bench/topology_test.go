package bench

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/bench/figures"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// topologyClaims is how many claims are created at once.
const topologyClaims = 300

// placed is what such claims cost beside so many nodes.
type placed struct {
	nodes, places int
	// Settled is the resident memory before the first claim, and Peak at most, in bytes;
	// Request is the size of one request for the driver.
	settled, peak int64
	request       int
	// CPU of the provisioner for all claims, and Took until the last was bound.
	cpu, took time.Duration
}

// TestTopology prints what claims cost in a cluster with so many nodes as BENCH_NODES
// says.
func TestTopology(t *testing.T) {
	text := os.Getenv("BENCH_NODES")
	if text == "" {
		t.Skip("BENCH_NODES says how many nodes there shall be, for instance 1000; see make bench-topology")
	}
	nodes, err := strconv.Atoi(text)
	if err != nil || nodes < 3 {
		t.Fatalf("BENCH_NODES=%s: want a number of at least 3", text)
	}
	var found []placed
	for _, c := range []placed{{nodes: 3, places: 3}, {nodes: nodes, places: 3}, {nodes: nodes, places: nodes}} {
		t.Run(fmt.Sprintf("%d nodes in %d places", c.nodes, c.places), func(t *testing.T) {
			found = append(found, place(t, c))
		})
	}
	table := figures.Table{{"nodes", "places", "RSS before", "peak RSS", "one request", "CPU for each claim", "last of 300 bound after"}}
	for _, c := range found {
		table = table.With(strconv.Itoa(c.nodes), strconv.Itoa(c.places), fmt.Sprintf("%.1f MiB", mib(c.settled)), fmt.Sprintf("%.1f MiB", mib(c.peak)),
			fmt.Sprintf("%d bytes", c.request), fmt.Sprintf("%.2f ms", c.cpu.Seconds()*1000/topologyClaims), fmt.Sprintf("%.1f s", c.took.Seconds()))
	}
	of := newReport(t)
	of.Kubernetes, of.Program = versions(t)
	show(t, "topology", fmt.Sprintf("%s, %s, Kubernetes %s, %s, %s.\n\n%s", of.Date.Format(time.DateOnly), of.Machine, of.Kubernetes, of.Program, runtime.Version(), table))
}

// place measures one row.
func place(t *testing.T, c placed) placed {
	t.Helper()
	const key = "topology.demo.example/place"
	var places []map[string]string
	for i := range c.places {
		places = append(places, map[string]string{key: fmt.Sprintf("place-%04d", i)})
	}
	env := kit.New(t, kit.WithPlaces(places...))
	for i := range c.nodes {
		env.PutNode(fmt.Sprintf("n%d", i), places[i%len(places)])
	}
	p := env.LaunchProvisioner("--leader-election=false", "--v=2")
	p.WaitReady()
	ready := time.Now()
	<-time.After(time.Until(ready.Add(settled)))
	before := p.Usage()
	c.settled = before.RSS
	begun := time.Now()
	var names []string
	for i := range topologyClaims {
		names = append(names, fmt.Sprintf("data-%d", i))
		env.Create(env.Claim(names[i]))
	}
	env.WaitBound(names...)
	c.took = time.Since(begun)
	after := p.Usage()
	c.cpu, c.peak = after.CPU-before.CPU, after.PeakRSS
	c.request = proto.Size(env.Faults.Calls("CreateVolume")[0].Request)
	return c
}
