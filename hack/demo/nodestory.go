package main

import (
	"context"
	"errors"

	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/station"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/node"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/sandbox"
)

// nodeStory is the story with pods on a node of its own, in a sandbox.
type nodeStory struct {
	podStory
	here    sandbox.Here
	station *station.Station
}

// runOnNode runs the demo in a sandbox. Whatever happens, everything is stopped when it
// returns, unless it went well and was to be kept.
func runOnNode(ctx context.Context, out *printer, here sandbox.Here) error {
	d, err := newDemo(out)
	if err != nil {
		return err
	}
	s := &nodeStory{podStory: podStory{demo: d, image: node.Busybox, pull: v1.PullNever}, here: here}
	out.note("a volume that a pod has written is cloned, and another pod reads the clone; Ctrl-C stops and removes everything")
	steps := []step{
		s.start, s.write, s.cloneInUse, s.endWriter, s.read, s.dropSource, s.cloneMuch,
	}
	err = runSteps(ctx, steps)
	return errors.Join(err, s.end(ctx, err == nil))
}

func (s *nodeStory) start(ctx context.Context) error {
	s.out.heading("Starting a control plane, a node with containerd, the demo CSI driver and csi-clone-provisioner")
	var err error
	s.station, err = station.Start(ctx, station.Options{Here: s.here, Root: s.root, Log: s.out.note})
	if err != nil {
		return err
	}
	s.cluster, s.client = s.station.Cluster, s.station.Client
	s.target, s.logs = "--kubeconfig="+s.station.Kubeconfig, s.file("csi-clone-provisioner.log")
	s.kubectl = s.cluster.Binary("kubectl")
	return s.runKubectl(ctx, "get", "nodes,csidrivers")
}

// end stops everything, or leaves it running and says how to stop it.
func (s *nodeStory) end(ctx context.Context, well bool) error {
	if s.station == nil {
		return nil
	}
	if well && s.keep {
		s.out.heading("Leaving everything running (KEEP=1)")
		s.out.text("make node-shell CMD='kubectl get pods,pvc,pv -n " + namespace + "'")
		s.out.text("logs:    " + s.file("*.log"))
		s.out.good("stop it: make demo-stop")
		if err := s.here.Release(); err != nil {
			return errors.Join(err, s.station.Stop())
		}
		<-ctx.Done()
		return s.station.Stop()
	}
	s.out.heading("Stopping everything")
	if !well && ctx.Err() == nil {
		s.station.KeepLogs()
		s.showTroubledPods(context.WithoutCancel(ctx))
	}
	err := s.station.Stop()
	if well && err == nil {
		s.out.good("no process, mount or file is left; the demo went well")
	}
	return err
}
