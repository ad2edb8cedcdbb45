package main

import (
	"context"
	"fmt"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/station"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/node"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/sandbox"
)

// howTo says what to do with a node. [1] its folder, [2] image, [3] driver.
const howTo = `
The node runs. In it (its network and mounts are not those of this machine):

  make node-shell                        a shell, with kubectl and ctr
  make node-shell CMD='kubectl get all -A'
  logs                                   %[1]s/csi-clone-cluster-*/*.log
  image for pods                         %[2]s
  driver for StorageClasses              %[3]s

stop it and remove all of it: make node-stop
`

// howToDemo says what to do with a bare node. [1] image of the demo.
const howToDemo = `
The node runs, with nothing of this project but an image. In it the demo for clusters that exist:

  make node-shell CMD='make demo CONTEXT=development DEMO_IMAGE=%[1]s'

stop it and remove all of it: make node-stop
`

// up starts everything, or only the node, and leaves it running until it gets a signal.
func up(ctx context.Context, here sandbox.Here, bare bool) error {
	root, err := repo.Root()
	if err != nil {
		return err
	}
	s, err := station.Start(ctx, station.Options{Here: here, Root: root, Bare: bare, Log: say})
	if err != nil {
		return err
	}
	if bare {
		fmt.Printf(howToDemo, node.Demo)
	} else {
		fmt.Printf(howTo, here.Dir, node.Busybox, station.DriverName)
	}
	if err := here.Release(); err != nil {
		return fmt.Errorf("%w (%w)", err, s.Stop())
	}
	<-ctx.Done()
	return s.Stop()
}

func say(format string, args ...any) { fmt.Printf("    "+format+"\n", args...) }
