package integration

import (
	"context"
	"fmt"
	"regexp"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/app"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/options"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/goroutines"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
)

// idlePatience is how long a provisioner may take to have no more goroutines than
// before it had work: a watch of pods goes on for up to a minute when nobody waits
// any more, and a source is looked at for the last time after half a minute.
const idlePatience = 10 * time.Minute

// connections are the goroutines of connections, which come and go as net/http likes.
var connections = regexp.MustCompile(`net/http\.\(\*(conn|connReader|persistConn|Transport)\)|internal/http2|http2`)

// origin returns the lines of a stack that tell what its goroutine began with and who
// started it: four, with the positions. A worker that is at a request now is no
// connection's.
func origin(stack string) string {
	lines := strings.Split(strings.TrimSpace(stack), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], "\n")
}

func TestAWorkerAtARequestIsNoConnection(t *testing.T) {
	const worker = `goroutine 7 [select]:
net/http.(*persistConn).roundTrip(0x1, 0x2)
	net/http/transport.go:2800 +0x1
example.com/engine.(*Controller).work(0x1)
	example.com/engine/controller.go:12 +0x2
created by example.com/engine.(*Controller).Run in goroutine 1
	example.com/engine/controller.go:3 +0x3
`
	const connection = `goroutine 8 [select]:
runtime.gopark(0x1)
	runtime/proc.go:1 +0x1
net/http.(*persistConn).writeLoop(0x1)
	net/http/transport.go:2500 +0x2
created by net/http.(*Transport).dialConn in goroutine 7
	net/http/transport.go:1800 +0x3
`
	if connections.MatchString(origin(worker)) || !connections.MatchString(origin(connection)) {
		t.Errorf("origins are\n%s\nand\n%s", origin(worker), origin(connection))
	}
}

// busy makes a provisioner do what it starts goroutines for: clones in numbers, calls
// that hang and calls that fail, clones that wait for pods, deletions.
func busy(t *testing.T, env *kit.Env, clones int) {
	t.Helper()
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	env.Faults.On("CreateVolume").When(ofClones).Next(5).Hang()
	env.Faults.On("CreateVolume").When(ofClones).Next(5).Fail(codes.ResourceExhausted, "no room")
	env.Faults.On("CreateVolume").When(ofClones).Next(5).LoseReply()
	env.CreatePod(env.Pod("app", kit.OnNode("node"), kit.Mounts("src")))
	names := []string{"src"}
	for i := range clones {
		names = append(names, fmt.Sprintf("copy-%d", i))
		env.Create(env.Claim(names[len(names)-1], kit.CloneOf("src")))
	}
	env.WaitEvent("copy-0", "CloneSourceInUse")
	env.DeletePod("app")
	env.WaitBound(names...)
	env.Faults.On("DeleteVolume").Next(5).Hang()
	env.Delete(names...)
	env.WaitGone(names...)
	env.Eventually("no volume and no PV is left", func() error {
		if pvs := env.PVs(); len(pvs) > 0 {
			return fmt.Errorf("there are %d PVs", len(pvs))
		}
		return volumes(env, 0)
	})
}

func TestABusyProvisionerHasNoMoreGoroutinesAfterwards(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	p := env.StartProvisioner("--enable-pprof")
	env.Create(env.Claim("first")) // when it is bound, everything runs
	env.WaitBound("first")
	env.Delete("first")
	env.WaitGone("first")
	stacks := func() string {
		var kept []string
		for stack := range strings.SplitSeq(p.Page("/debug/pprof/goroutine?debug=2"), "\n\n") {
			if !connections.MatchString(origin(stack)) {
				kept = append(kept, stack)
			}
		}
		return strings.Join(kept, "\n\n")
	}
	before := goroutines.Kinds(stacks())
	busy(t, env, 50)
	if left := goroutines.After(before, idlePatience, stacks); len(left) > 0 {
		t.Errorf("%d goroutines more than before it was busy:\n%s", len(left), strings.Join(left, "\n\n"))
	}
}

// theProgram labels what app.Run starts, and whatever is started by that.
const theProgram = "the program under test"

// labelled returns the goroutines of theProgram, those of connections apart: nobody
// closes those that a client of the API server keeps for its next request.
func labelled(t *testing.T) []string {
	t.Helper()
	var profile strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		t.Fatal(err)
	}
	var found []string
	for group := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(group, theProgram) && !connections.MatchString(group) {
			found = append(found, group)
		}
	}
	return found
}

// It is not parallel to other tests, and uses no client of the API server before the
// program is ready: the engine's library adds to the table of all kinds of objects
// when it is set up, which is no matter in a process of its own.
func TestAProgramThatHasEndedLeavesNoGoroutines(t *testing.T) {
	env := kit.New(t)
	port, err := process.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	o, err := options.Parse([]string{
		"--kubeconfig=" + env.Kubeconfig(), "--csi-address=" + env.Driver.Socket, "--http-endpoint=" + address,
		"--leader-election", "--leader-election-namespace=default", "--timeout=3s", "--retry-interval-max=2s",
	}, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(klog.NewContext(t.Context(), klog.New(nil)))
	defer cancel()
	ended := make(chan error, 1)
	go pprof.Do(ctx, pprof.Labels("of", theProgram), func(ctx context.Context) { ended <- app.Run(ctx, o, "test") })
	env.Eventually("the program is ready", func() error { return ready(env, address) })

	busy(t, env, 10)
	if len(labelled(t)) == 0 {
		t.Fatal("no goroutine of the program is found while it runs")
	}
	env.CheckBooks() // nobody is there to put them right afterwards
	cancel()
	if err := await(t, ended, "the program to end"); err != nil {
		t.Errorf("it ended with %v", err)
	}
	env.Eventually("no goroutine of the program is left", func() error {
		if left := labelled(t); len(left) > 0 {
			return fmt.Errorf("these are:\n%s", strings.Join(left, "\n\n"))
		}
		return nil
	})
}

// ready asks the program at the address whether it is ready.
func ready(env *kit.Env, address string) error {
	return process.Answers(env.Ctx, "http://"+address+"/readyz")
}
