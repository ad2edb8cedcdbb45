package options_test

import (
	"strings"
	"testing"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/options"
)

func TestNodeDeployment(t *testing.T) {
	off := options.NodeDeployment{Immediate: true, BaseDelay: 20 * time.Second, MaxDelay: time.Minute}
	on := off
	on.Enabled, on.Node = true, "node-1"
	tuned := on
	tuned.Immediate, tuned.BaseDelay, tuned.MaxDelay = false, time.Second, time.Second
	for _, c := range []struct {
		name, args, node string
		want             options.NodeDeployment
		err              string
	}{
		{"off by default, and no variable is looked at", "", "node-1", off, ""},
		{"off, whatever belongs to it", "--node-deployment=false --leader-election", "node-1", off, ""},
		{"on", "--node-deployment", "node-1", on, ""},
		{"with everything that belongs to it", "--node-deployment --node-deployment-immediate-binding=false --node-deployment-base-delay=1s --node-deployment-max-delay=1s", "node-1", tuned, ""},
		{"no node", "--node-deployment", "", off, "--node-deployment needs the environment variable NODE_NAME; set it to spec.nodeName of the pod (fieldRef)"},
		{"a leader", "--node-deployment --leader-election", "node-1", off, "--node-deployment and --leader-election exclude each other: there is one lease for the driver, and with it only one node would work; remove --leader-election"},
		{"no delay", "--node-deployment --node-deployment-base-delay=0s", "node-1", off, "--node-deployment-base-delay (0s) must be positive and not above --node-deployment-max-delay (1m0s)"},
		{"delays the wrong way round", "--node-deployment --node-deployment-max-delay=19s", "node-1", off, "--node-deployment-base-delay (20s) must be positive and not above --node-deployment-max-delay (19s)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := options.Parse(strings.Fields(c.args), environment(map[string]string{"POD_NAMESPACE": "pods", "NODE_NAME": c.node}))
			switch {
			case c.err != "":
				if err == nil || err.Error() != c.err {
					t.Errorf("got %v, want %s", err, c.err)
				}
			case err != nil:
				t.Error(err)
			case o.NodeDeployment != c.want:
				t.Errorf("got %+v, want %+v", o.NodeDeployment, c.want)
			}
		})
	}
}
