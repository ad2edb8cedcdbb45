package integration

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// The row "recorded, final error that another node could cure, delayed binding" of
// the design's table.
func TestAClaimWithoutRoomOnItsNodeIsGivenBack(t *testing.T) {
	t.Parallel()
	full := func(s faults.Selector) { s.Fail(codes.ResourceExhausted, "no room on this node") }
	for name, c := range map[string]struct {
		options []kit.Option
		fault   func(faults.Selector)
		given   bool
	}{
		"no room": {[]kit.Option{kit.WaitForFirstConsumer()}, full, true},
		"no room, after a call that nobody knows the end of": {[]kit.Option{kit.WaitForFirstConsumer()}, func(s faults.Selector) {
			s.Next(1).LoseReply()
			s.Next(1).Fail(codes.ResourceExhausted, "no room on this node")
		}, false},
		"another error":                   {[]kit.Option{kit.WaitForFirstConsumer()}, func(s faults.Selector) { s.Fail(codes.OutOfRange, "too small") }, false},
		"no room, with immediate binding": {nil, full, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := kit.New(t, c.options...)
			env.StartProvisioner()
			c.fault(env.Faults.On("CreateVolume"))
			env.Create(env.Claim("data", kit.SelectedNode("a")))
			env.WaitEvent("data", "ProvisioningFailed")
			if c.given {
				env.Eventually("node and record are taken off", func() error {
					claim := env.Get("data")
					if node, found := claim.Annotations[selectedNode]; found {
						return fmt.Errorf("node %q is selected", node)
					}
					return unmarked(env, "data")
				})
				env.Faults.Reset()
				env.Update("data", func(claim *v1.PersistentVolumeClaim) { claim.Annotations[selectedNode] = "b" })
				env.WaitBound("data")
				return
			}
			env.Eventually("the driver was asked three times", func() error {
				if n := len(env.Faults.Calls("CreateVolume")); n < 3 {
					return fmt.Errorf("%d times", n)
				}
				return nil
			})
			if got := env.Get("data").Annotations[selectedNode]; got != "a" {
				t.Errorf("node %q is selected, want the one that was chosen", got)
			}
			env.Faults.Reset()
			env.WaitBound("data")
		})
	}
}
