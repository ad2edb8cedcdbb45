package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"

	"k8s.io/client-go/kubernetes"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
)

// The actors, as in source.yaml and clone.yaml.
const (
	driverName = "demo.csi-clone-provisioner.example"
	namespace  = "myns"
	sourceName = "pvc-1"
	cloneName  = "clone-of-pvc-1"
)

// demo is one run of the story.
type demo struct {
	out     *printer
	root    string
	kubectl string
	// target is the argument that says which cluster kubectl talks to.
	target string
	// logs says where the log of the provisioner is.
	logs string
	// keep leaves the cluster running at the end.
	keep bool
	// seed is what the data in the source volume come from.
	seed uint64

	cluster *cluster.Cluster
	client  kubernetes.Interface
	volumes *volumes
	// sums are the checksums of the source's files by name.
	sums []fileSum
	// sourcePV and sourceVolume are what the source was bound to.
	sourcePV, sourceVolume string
}

// step is one chapter of the story.
type step func(context.Context) error

// run tells the story. Whatever happens, everything is stopped when it returns,
// unless it went well and is to be kept.
func run(ctx context.Context, out *printer) error {
	d, err := newDemo(out)
	if err != nil {
		return err
	}
	out.note("a volume is cloned on a real Kubernetes control plane; Ctrl-C stops and removes everything")
	out.note("the data are drawn from seed %d (SEED=%d repeats them)", d.seed, d.seed)
	steps := []step{
		d.startControlPlane, d.startDriver, d.startProvisioner, d.createSource, d.fillSource,
		d.createClone, d.showObjects, d.compareContent, d.changeClone, d.deleteSource,
	}
	err = runSteps(ctx, steps)
	return errors.Join(err, d.end(ctx, err == nil))
}

// runSteps ends with the first step that fails.
func runSteps(ctx context.Context, steps []step) error {
	for _, run := range steps {
		if err := run(ctx); err != nil {
			return err
		}
	}
	return nil
}

func newDemo(out *printer) (*demo, error) {
	d := &demo{out: out, keep: os.Getenv("KEEP") != "" && os.Getenv("KEEP") != "0", seed: rand.Uint64N(1 << 32)}
	if text := os.Getenv("SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("SEED is %q; give a whole number", text)
		}
		d.seed = seed
	}
	var err error
	if d.root, err = repo.Root(); err != nil {
		return nil, err
	}
	return d, nil
}

// end stops everything, or leaves it running and says how to stop it.
func (d *demo) end(ctx context.Context, well bool) error {
	var errs []error
	if d.volumes != nil {
		errs = append(errs, d.volumes.close())
	}
	if d.cluster == nil {
		return errors.Join(errs...)
	}
	if well && d.keep {
		return errors.Join(append(errs, d.leaveRunning())...)
	}
	d.out.heading("Stopping everything")
	if !well && ctx.Err() == nil {
		d.cluster.KeepLogs()
		for _, p := range d.cluster.Group().Processes() {
			d.out.note("the end of the log of %s:", p.Name())
			d.out.text(p.LogTail(5))
		}
	}
	errs = append(errs, d.cluster.Stop())
	if well && errors.Join(errs...) == nil {
		d.out.good("no process and no file is left; the demo went well")
	}
	return errors.Join(errs...)
}

// file returns a path in the cluster's folder, which goes away with it.
func (d *demo) file(name string) string { return filepath.Join(d.cluster.Dir(), name) }
