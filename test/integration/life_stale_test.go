package integration

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// Claims that are gone before a provisioner, which sees the past, has noticed: none is
// provisioned twice.

// shortLived is how many claims are created and deleted side by side, in one test; in
// the others it is someShortLived.
const shortLived, someShortLived = 200, 50

// atOnceEach does something with each of so many claims, many at a time.
func atOnceEach(t *testing.T, count int, do func(i int) error) {
	t.Helper()
	next, errs := make(chan int), make(chan error, count)
	var workers sync.WaitGroup
	for range 32 {
		workers.Go(func() {
			for i := range next {
				errs <- do(i)
			}
		})
	}
	for i := range count {
		next <- i
	}
	close(next)
	workers.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}

// callsByName counts the CreateVolume calls for each volume.
func callsByName(env *kit.Env) map[string]int {
	calls := map[string]int{}
	for _, call := range env.Faults.Calls("CreateVolume") {
		calls[call.Request.(*csi.CreateVolumeRequest).GetName()]++
	}
	return calls
}

func TestClaimsThatAreDeletedAtOnceAreNotProvisionedTwice(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		count   int
		options []kit.ClaimOption
		// slow is how long the driver takes.
		slow time.Duration
	}{
		"right after they were created": {count: shortLived},
		"and kept by somebody else":     {count: someShortLived, options: []kit.ClaimOption{kit.Finalizer(keeper)}},
		"while the driver works":        {count: someShortLived, slow: 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, _ := withSource(t)
			if c.slow > 0 {
				env.Faults.On("CreateVolume").Delay(c.slow)
			}
			options := append(slices.Clone(c.options), given(env)) // so that we may be faster
			claims := env.Admin.CoreV1().PersistentVolumeClaims(env.Namespace)
			atOnceEach(t, c.count, func(i int) error {
				claim := env.Claim(fmt.Sprintf("data-%03d", i), options...)
				if _, err := claims.Create(env.Ctx, claim, metav1.CreateOptions{}); err != nil {
					return err
				}
				return claims.Delete(env.Ctx, claim.Name, metav1.DeleteOptions{})
			})
			endShortLived(t, env, c.count)
		})
	}
}

// keeper is a finalizer of somebody else.
const keeper = "other.example/keep"

// endShortLived waits until all of so many claims are gone, and fails the test if one
// was provisioned twice, or has left a volume.
func endShortLived(t *testing.T, env *kit.Env, count int) {
	t.Helper()
	claims := env.Admin.CoreV1().PersistentVolumeClaims(env.Namespace)
	env.Eventually("the claims are gone", func() error {
		list, err := claims.List(env.Ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, claim := range list.Items {
			if len(claim.Finalizers) == 1 && claim.Finalizers[0] == keeper {
				patch := []byte(`{"metadata":{"finalizers":null}}`)
				if _, err := claims.Patch(env.Ctx, claim.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
					return err
				}
			}
		}
		if n := len(list.Items); n > 1 {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	leave(env, "src") // at once: whoever is gone does not hold it
	env.Eventually("no volume is left", func() error { return volumes(env, 0) })
	begun, twice := 0, 0
	for name, n := range callsByName(env) {
		begun++
		if n > 1 {
			twice++
			t.Errorf("%d CreateVolume calls for volume %q", n, name)
		}
	}
	t.Logf("of %d claims that were deleted, %d had a volume made, %d of them twice; %d volumes were deleted",
		count, begun-1, twice, len(deletedHandles(env))-1) // the source is not one of them
}

// Claims that are deleted at different moments on their way: when they are on record,
// when their PV is saved, when they are bound.
func TestClaimsThatAreDeletedOnTheirWayAreNotProvisionedTwice(t *testing.T) {
	t.Parallel()
	moments := map[string]func(claim *v1.PersistentVolumeClaim) bool{
		"on record": func(claim *v1.PersistentVolumeClaim) bool { return len(claim.Finalizers) > 1 },
		"with a PV": func(claim *v1.PersistentVolumeClaim) bool { return claim.Spec.VolumeName != "" },
		"bound":     isBound,
	}
	for moment, come := range moments {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			env, _ := withSource(t)
			env.Faults.On("CreateVolume").Delay(20 * time.Millisecond)
			claims := env.Admin.CoreV1().PersistentVolumeClaims(env.Namespace)
			due := make(chan string, someShortLived)
			seen := map[string]bool{"src": true}
			err := kit.Follow(env.Ctx, claims, "", func(event watch.Event) bool {
				if claim, ok := event.Object.(*v1.PersistentVolumeClaim); ok && !seen[claim.Name] && come(claim) {
					seen[claim.Name] = true
					due <- claim.Name
				}
				return len(seen) <= someShortLived
			})
			if err != nil {
				t.Fatal(err)
			}
			atOnceEach(t, 2*someShortLived, func(i int) error {
				if i%2 == 0 {
					_, err := claims.Create(env.Ctx, env.Claim(fmt.Sprintf("copy-%03d", i), kit.CloneOf("src")), metav1.CreateOptions{})
					return err
				}
				select {
				case name := <-due:
					return claims.Delete(env.Ctx, name, metav1.DeleteOptions{})
				case <-time.After(longest):
					return fmt.Errorf("no claim is %s", moment)
				}
			})
			endShortLived(t, env, someShortLived)
		})
	}
}
