package integration

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// The row "recorded, its source being deleted, state clean" of the design's table.
func TestACloneThatFailedForGoodLetsItsSourceGo(t *testing.T) {
	t.Parallel()
	// A clone that is older than the deletion of its source could have been begun by
	// another provisioner, but this one knows better.
	for when, wait := range map[string]func(*testing.T, *kit.Env, string){
		"at once":        func(*testing.T, *kit.Env, string) {},
		"a second later": aSecondLater,
	} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			env, _ := withSource(t)
			env.Faults.On("CreateVolume").When(ofClones).Fail(codes.OutOfRange, "never")
			env.Create(env.Claim("copy", kit.CloneOf("src")))
			env.WaitEvent("copy", "ProvisioningFailed")
			wait(t, env, "copy")
			env.Delete("src")
			deleted := time.Now()
			env.WaitGone("src")
			t.Logf("the source was gone %s after its deletion", time.Since(deleted).Round(time.Millisecond))
			env.Eventually("the record is taken back", func() error {
				if finalizers := env.Get("copy").Finalizers; len(finalizers) != 1 {
					return fmt.Errorf("the clone has finalizers %v", finalizers)
				}
				return nil
			})
			// By now the source is gone, or was going when the clone was judged again.
			env.Eventually("the clone is told", func() error {
				if env.CountEvents("copy", "CloneSourceDeleting")+env.CountEvents("copy", "CloneSourceNotFound") == 0 {
					return fmt.Errorf("it has heard nothing")
				}
				return nil
			})
		})
	}
}

func TestAClassDeletedWhileItsClaimIsOnRecordIsToldAndWaitedFor(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner(noBackOff, noBackOffMax)
	gate := env.Faults.On("CreateVolume").Next(1).Gate()
	env.Create(env.Claim("data"))
	<-gate.Entered()
	if err := env.Admin.StorageV1().StorageClasses().Delete(env.Ctx, env.Class, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	env.Eventually("the call has ended", func() error {
		if env.CountEvents("data", "ProvisioningFailed") == 0 {
			return fmt.Errorf("no event")
		}
		return nil
	})
	gate.Release()
	event := env.WaitEvent("data", "StorageClassNotFound")
	want := fmt.Sprintf("the claim waits for StorageClass %q, which does not exist; provisioning starts by itself when it is there", env.Class)
	if event.Message != want || event.Type != v1.EventTypeNormal {
		t.Errorf("event is %s %q, want Normal %q", event.Type, event.Message, want)
	}
	env.CreateClass(env.Class)
	env.WaitBound("data")
}
