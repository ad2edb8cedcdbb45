package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/bench/figures"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/bench/stub"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
)

// stopGrace is how long a floor may take to end.
const stopGrace = 20 * time.Second

// subject is a provisioner that is measured.
type subject interface {
	// usage is what the process that does the work of this phase has used.
	usage() process.Usage
	// turn is called when there is nothing left to create: what follows are
	// deletions.
	turn()
}

// start starts who is to be measured on a driver.
func start(t *testing.T, env *kit.Env, driver *stub.Driver, who string) subject {
	t.Helper()
	if who == figures.Ours {
		// The kit's defaults are for tests; these are the program's.
		return ours{env.StartProvisioner("--csi-address="+driver.Socket, "--leader-election=false",
			"--timeout=10s", "--retry-interval-start=1s", "--retry-interval-max=5m", "--source-protection-removal-delay=30s", "--v=0")}
	}
	f := &floor{t: t, env: env, driver: driver}
	f.start()
	t.Cleanup(f.stop)
	return f
}

// ours is our provisioner.
type ours struct{ *kit.Provisioner }

func (o ours) usage() process.Usage { return o.Usage() }

func (ours) turn() {}

// floor is the one of hack/floor, two processes after one another: one that
// creates and one that deletes, so that neither watches more than it needs.
type floor struct {
	t      *testing.T
	env    *kit.Env
	driver *stub.Driver
	proc   *process.Process
	number int
}

func (f *floor) usage() process.Usage {
	f.t.Helper()
	used, err := f.proc.Usage()
	if err != nil {
		f.t.Fatal(err)
	}
	return used
}

func (f *floor) turn() {
	f.t.Helper()
	f.stop()
	f.start("--delete")
}

// start starts a process and waits until it watches.
func (f *floor) start(args ...string) {
	f.t.Helper()
	root, err := repo.Root()
	if err != nil {
		f.t.Fatal(err)
	}
	f.number++
	name := fmt.Sprintf("floor-%s-%d", f.env.Namespace, f.number)
	program := filepath.Join(root, "bin", "bench", "floor")
	if _, err := os.Stat(program); err != nil {
		f.t.Fatalf("there is no floor to measure (%v); run make bench", err)
	}
	f.proc, err = f.env.Cluster.Group().Start(process.Spec{
		Name: name,
		Path: program,
		Args: append([]string{"--kubeconfig=" + f.env.Kubeconfig(), "--csi-address=" + f.driver.Socket, "--driver=" + f.env.DriverName}, args...),
		Log:  filepath.Join(f.env.Cluster.Dir(), name+".log"),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.env.Eventually("the floor is ready", func() error {
		switch {
		case f.proc.Exited():
			f.t.Fatalf("the floor ended: %s; its log:\n%s", f.proc.Fate(), f.proc.LogTail(20))
		case !strings.Contains(f.proc.Log(), "floor: ready"):
			return errors.New("it has not said so")
		}
		return nil
	})
}

func (f *floor) stop() {
	f.t.Helper()
	if f.proc.Exited() {
		return
	}
	if err := f.proc.Stop(stopGrace); err != nil {
		f.t.Error(err)
	}
	if f.proc.ExitCode() != 0 {
		f.t.Errorf("the floor ended: %s; its log:\n%s", f.proc.Fate(), f.proc.LogTail(20))
	}
}
