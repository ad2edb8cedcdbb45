package integration

import (
	"errors"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// A namespace is deleted with all that is under way in it: sources and their clones go
// together, and nobody can be told anything there any more.
func TestANamespaceThatIsDeletedTakesAllVolumesWithIt(t *testing.T) {
	t.Parallel()
	for name, hold := range map[string]func(faults.Selector) *faults.Gate{
		"calls have not begun":           faults.Selector.Gate,
		"calls hang":                     faults.Selector.HangUntilReleased,
		"replies are on the way":         faults.Selector.GateReply,
		"calls are answered, but failed": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := kit.New(t)
			env.StartProvisioner("--timeout=1s", "--retry-interval-max=500ms", "--extra-create-metadata")
			doomed := env.Namespace + "-doomed"
			env.AddNamespace(doomed)
			in := kit.InNamespace(doomed)
			env.Create(env.Claim("src", in), env.Claim("bound", in), env.Claim("copied", in, kit.CloneOf("src")))
			env.WaitBound(doomed+"/src", doomed+"/bound", doomed+"/copied")
			calls := env.Faults.On("CreateVolume").When(inNamespace(doomed))
			var gate *faults.Gate
			if hold == nil {
				calls.LoseReply()
			} else {
				gate = hold(calls)
			}
			env.Create(
				env.Claim("blank", in), env.Claim("copy", in, kit.CloneOf("src")), env.Claim("copy-of-copy", in, kit.CloneOf("copied")),
				env.Claim("waiting", in, kit.CloneOf("copy")), env.Claim("refused", in, kit.CloneOf("src"), kit.Size("1Mi")))
			if gate != nil {
				awaitCalls(env, doomed+"/blank", doomed+"/copy", doomed+"/copy-of-copy")
			} else {
				for _, claim := range []string{"blank", "copy", "copy-of-copy"} {
					env.WaitEvent(doomed+"/"+claim, "ProvisioningFailed")
				}
			}
			namespaces := env.Admin.CoreV1().Namespaces()
			if err := namespaces.Delete(env.Ctx, doomed, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			env.Eventually("all claims are being deleted", func() error {
				for _, claim := range []string{"src", "blank", "copy", "copy-of-copy"} {
					if live, err := env.Admin.CoreV1().PersistentVolumeClaims(doomed).Get(env.Ctx, claim, metav1.GetOptions{}); err == nil && !isGoing(live) {
						return errors.New(claim + " is not")
					}
				}
				return nil
			})
			// What hangs is done before anybody is told: see
			// TestADriverThatDoesNotAnswerForLongLosesNothing.
			if gate != nil {
				gate.Release()
				if err := env.Faults.WaitIdle(env.Ctx); err != nil {
					t.Fatal(err)
				}
			}
			env.Faults.Reset()
			env.Eventually("the namespace is gone", func() error {
				_, err := namespaces.Get(env.Ctx, doomed, metav1.GetOptions{})
				if apierrors.IsNotFound(err) {
					return nil
				}
				return errors.Join(errors.New("it is there"), err)
			})
			env.Eventually("no volume is left", func() error { return volumes(env, 0) })
		})
	}
}
