package options

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
)

// NodeDeployment holds the settings of a provisioner that is one of many, one on each
// node.
type NodeDeployment struct {
	Enabled bool
	// Node is the node's name: the environment variable NODE_NAME.
	Node string
	// Immediate: it tries to own claims for which no node is chosen (Immediate binding).
	Immediate bool
	// BaseDelay is the first wait before it does, and the range of what is taken off at
	// random; it doubles up to MaxDelay.
	BaseDelay, MaxDelay time.Duration
}

func (o *Options) nodeDeploymentFlags(f *pflag.FlagSet) {
	n := &o.NodeDeployment
	f.BoolVar(&n.Enabled, "node-deployment", false, "work as one of many provisioners, one beside the driver on each node: make and delete what belongs to the node in the environment variable NODE_NAME (docs/node-deployment.md); not with --leader-election")
	f.BoolVar(&n.Immediate, "node-deployment-immediate-binding", true, "with --node-deployment: take claims with Immediate binding, too, for which the nodes compete; false leaves them alone")
	f.DurationVar(&n.BaseDelay, "node-deployment-base-delay", 20*time.Second, "with --node-deployment: the longest first wait before this node tries to take a claim with Immediate binding; each is shorter by chance, so that not all nodes try at once")
	f.DurationVar(&n.MaxDelay, "node-deployment-max-delay", 60*time.Second, "with --node-deployment: the longest wait between two tries, which doubles from --node-deployment-base-delay on; a claim that no node has taken for so long is told")
}

// validate refuses what cannot work. What belongs to a mode that is off does not matter.
func (n NodeDeployment) validate(elected bool) error {
	switch {
	case !n.Enabled:
		return nil
	case n.Node == "":
		return errors.New("--node-deployment needs the environment variable NODE_NAME; set it to spec.nodeName of the pod (fieldRef)")
	case elected:
		return errors.New("--node-deployment and --leader-election exclude each other: there is one lease for the driver, and with it only one node would work; remove --leader-election")
	case n.BaseDelay <= 0 || n.MaxDelay < n.BaseDelay:
		return fmt.Errorf("--node-deployment-base-delay (%s) must be positive and not above --node-deployment-max-delay (%s)", n.BaseDelay, n.MaxDelay)
	}
	return nil
}
