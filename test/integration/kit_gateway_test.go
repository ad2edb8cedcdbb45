package integration

import (
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/gateway"
)

func TestKitAGatewayStandsBetweenProvisionerAndAPIServer(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	g := env.Gateway()
	env.StartProvisioner(alone)

	// A request fails, an answer gets lost; the provisioner goes on.
	refused := g.On("patch", "persistentvolumeclaims").Next(1).Answer(apierrors.NewServiceUnavailable("not now"))
	lost := g.On("create", "persistentvolumes").Next(1).LoseReply()
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	compare(t, []field{
		{"refused", refused.Hits(), 1},
		{"lost", lost.Hits(), 1},
		{"what became of the lost one", became(g.Requests("create", "persistentvolumes")[0]), "201, forwarded true, answered false"},
		{"what became of the refused one", became(g.Requests("patch", "persistentvolumeclaims")[0]), "503, forwarded false, answered true"},
		{"by name", g.Requests("patch", "persistentvolumeclaims")[0].Name, "src"},
	})

	// While its events are held back the provisioner knows of no claim.
	env.Eventually("all is done for the first claim", func() error { return unmarked(env, "src") })
	stall := g.Stall("persistentvolumeclaims")
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.Eventually("the claim's first event is held back", func() error {
		if stall.Held() == 0 {
			return fmt.Errorf("of %d watches nothing is held", g.Watches("persistentvolumeclaims"))
		}
		return nil
	})
	if n := len(cloneCalls(env)); n != 0 {
		t.Errorf("%d calls for a claim that nobody could know of", n)
	}
	stall.Release()
	env.WaitBound("copy")

	// Watches that are cut, and those that are told to begin anew, are opened again.
	if g.Cut("persistentvolumeclaims") == 0 || g.Expire(gateway.Any) == 0 {
		t.Error("there was no watch to cut")
	}
	env.Create(env.Claim("twin", kit.CloneOf("src")))
	env.WaitBound("twin")
	leave(env, "src")
}

func became(r gateway.Request) string {
	return fmt.Sprintf("%d, forwarded %t, answered %t", r.Status, r.Forwarded, r.Answered)
}
