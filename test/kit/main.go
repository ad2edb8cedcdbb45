package kit

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
)

// World is a cluster on which New can make environments for tests.
type World struct {
	// Cluster is the control plane.
	Cluster *cluster.Cluster
	// binary is the provisioner; binaries the folder of the control plane.
	binary, binaries string
	// root is the repository's.
	root string
	// accounts are those that tests share.
	accounts map[Account]account
	// ports are those that provisioners were given.
	ports ports
	// rights are those that were used. Only the shared cluster's is read; those of
	// clusters that tests start themselves are added to it when they stop.
	rights rightsUsed
}

// shared is written by Main before any test runs and read by New: there is no
// other way from TestMain to a test.
var shared *World

// Main runs the tests of a package on one cluster and ends the process. Call it
// from TestMain.
func Main(m *testing.M) { MainWith(m, cluster.Options{}) }

// MainWith is Main with a cluster of another kind; Binaries and Log are filled in.
func MainWith(m *testing.M, opts cluster.Options) {
	flag.Parse()
	if flag.Lookup("test.list").Value.String() != "" {
		os.Exit(m.Run())
	}
	os.Exit(run(m, opts))
}

// testsAtOnce is how many parallel tests run side by side unless -parallel says
// otherwise: more than there are processors, for tests mostly wait.
func testsAtOnce() int { return max(16, 4*runtime.GOMAXPROCS(0)) }

// setParallel changes the default of -parallel.
func setParallel() error {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(testsAtOnce()))
}

func run(m *testing.M, opts cluster.Options) int {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	opts.Log = func(format string, args ...any) { fmt.Fprintf(os.Stderr, "kit: "+format+"\n", args...) }
	w, err := newWorld(ctx, opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kit:", err)
		return 1
	}
	shared = w
	if err := setParallel(); err != nil {
		fmt.Fprintln(os.Stderr, "kit: setting -parallel:", err)
	}
	// What tests put among temporary files goes the way of the cluster's folder,
	// even if a test is killed.
	if err := os.Setenv("TMPDIR", w.Cluster.Dir()); err != nil {
		fmt.Fprintln(os.Stderr, "kit: setting TMPDIR:", err)
	}
	finished := make(chan struct{})
	go stopOnSignal(ctx, finished, w.Cluster)

	code := m.Run()
	close(finished)
	if code == 0 && opts.AuditAccounts && allTestsRun() {
		if err := w.checkRights(); err != nil {
			fmt.Fprintln(os.Stderr, "kit:", err)
			code = 1
		}
	}
	if code != 0 {
		w.Cluster.KeepLogs()
	}
	if err := w.Cluster.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "kit: stopping the cluster:", err)
		return max(code, 1)
	}
	return code
}

// stopOnSignal ends the cluster and the process when the tests are interrupted.
// Where there is no time even for that (SIGKILL, a panic in a test), the kernel
// ends the processes, and the next cluster that starts removes the folder.
func stopOnSignal(ctx context.Context, finished <-chan struct{}, c *cluster.Cluster) {
	select {
	case <-finished:
	case <-ctx.Done():
		fmt.Fprintln(os.Stderr, "kit: interrupted; stopping the cluster")
		if err := c.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "kit: stopping the cluster:", err)
		}
		os.Exit(130)
	}
}

// StartCluster starts a cluster for one test alone, for instance to stop its API
// server; give it to New with On. It is stopped when the test has ended.
func StartCluster(t *testing.T, opts cluster.Options) *World {
	t.Helper()
	opts.Log = t.Logf
	counted := shared != nil && shared.Cluster.AuditsAccounts()
	opts.AuditAccounts = opts.AuditAccounts || counted
	w, err := newWorld(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			w.Cluster.KeepLogs()
		}
		if counted {
			if err := shared.rights.add(w.Cluster.AuditLogPath()); err != nil {
				t.Error(err)
			}
		}
		if err := w.Cluster.Stop(); err != nil {
			t.Errorf("stopping the cluster: %v", err)
		}
	})
	return w
}

// newWorld starts a cluster and gives it the provisioner's service accounts.
func newWorld(ctx context.Context, opts cluster.Options) (*World, error) {
	root, err := repo.Root()
	if err != nil {
		return nil, err
	}
	binary, err := repo.Provisioner(root)
	if err != nil {
		return nil, err
	}
	if opts.Binaries == "" {
		if opts.Binaries, err = repo.ControlPlane(root); err != nil {
			return nil, err
		}
	}
	c, err := cluster.Start(ctx, opts)
	if err != nil {
		return nil, err
	}
	w := &World{Cluster: c, binary: binary, binaries: opts.Binaries, root: root}
	if err := w.createAccounts(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return w, nil
}
