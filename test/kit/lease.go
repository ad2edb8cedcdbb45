package kit

import (
	"fmt"
	"regexp"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

// notInLeases is what the incumbent replaces in a driver's name to get the name
// of its lease.
var notInLeases = regexp.MustCompile("[^a-zA-Z0-9-]")

// Lease returns the lease of the test's driver, which its leader holds.
func (e *Env) Lease() *coordinationv1.Lease {
	e.t.Helper()
	lease, err := e.lease()
	if err != nil {
		e.t.Fatal(err)
	}
	return lease
}

func (e *Env) lease() (*coordinationv1.Lease, error) {
	name := notInLeases.ReplaceAllString(e.DriverName, "-")
	lease, err := e.Admin.CoordinationV1().Leases(accountNamespace).Get(e.Ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading lease %s/%s: %w", accountNamespace, name, err)
	}
	return lease, nil
}

// expireLease does what time does to the lease of a leader that is dead.
func (e *Env) expireLease() error {
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		lease, err := e.lease()
		if err != nil {
			return err
		}
		lease.Spec.HolderIdentity = ptr.To("")
		_, err = e.Admin.CoordinationV1().Leases(lease.Namespace).Update(e.Ctx, lease, metav1.UpdateOptions{})
		return err
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("letting the lease of driver %q run out: %w", e.DriverName, err)
	}
	return nil
}
