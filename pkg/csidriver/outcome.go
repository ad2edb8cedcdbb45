package csidriver

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
)

// Meaning says what the end of a CreateVolume tells about the volume.
//
//   - No answer, or one that speaks of work in progress (Canceled,
//     DeadlineExceeded, Unavailable, Aborted), or an error that is no gRPC
//     status: Lost.
//   - Unauthenticated and PermissionDenied: Denied.
//   - InvalidArgument, NotFound (the source), ResourceExhausted,
//     FailedPrecondition, OutOfRange and Unimplemented are the driver's word that
//     nothing exists: Absent.
//   - AlreadyExists speaks of something that exists, and that another request has made:
//     Differs.
//   - Codes that a driver also uses when it stumbled halfway (Unknown, Internal,
//     DataLoss), or that gRPC does not have: Unproven.
//
// Source: CSI spec, CreateVolume errors and "error scheme"; design, "The
// ledger".
func Meaning(err error) ledger.Answer {
	if err == nil {
		return ledger.Created
	}
	st, ok := status.FromError(err)
	if !ok {
		return ledger.Lost
	}
	switch st.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.Aborted:
		return ledger.Lost
	case codes.AlreadyExists:
		return ledger.Differs
	case codes.Unauthenticated, codes.PermissionDenied:
		return ledger.Denied
	case codes.InvalidArgument, codes.NotFound, codes.ResourceExhausted,
		codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented:
		return ledger.Absent
	default:
		return ledger.Unproven
	}
}

// CuredElsewhere says whether a call that failed may succeed for another node: there
// is no room where the volume had to be. Source: CSI spec, CreateVolume errors,
// RESOURCE_EXHAUSTED.
func CuredElsewhere(err error) bool { return status.Code(err) == codes.ResourceExhausted }

// SourceRefused says whether a driver may answer so that it cannot copy a source to where
// the volume had to be. Source: CSI spec, CreateVolume errors: RESOURCE_EXHAUSTED for the
// place, INVALID_ARGUMENT and NOT_FOUND for the source, and what the error scheme has for
// calls that the state of things does not allow.
func SourceRefused(err error) bool {
	switch status.Code(err) {
	case codes.ResourceExhausted, codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented:
		return true
	default:
		return false
	}
}

// Explain wraps a driver's error in words for the user: who answered what to
// which call, the driver's own text last. The gRPC status stays reachable.
func Explain(driver, call, volume string, err error) error {
	if st, ok := status.FromError(err); ok && st.Code() == codes.DeadlineExceeded {
		return fmt.Errorf("driver %q has not answered %s for volume %q in time; it is asked again: %w", driver, call, volume, err)
	}
	return fmt.Errorf("driver %q answered %s for volume %q: %w", driver, call, volume, err)
}
