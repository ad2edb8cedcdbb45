package csidriver

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
)

// Outcome is what the end of a CreateVolume means.
type Outcome struct {
	// Proof is what it proves about the volume.
	Proof ledger.Proof
	// OtherNode is true if the call may succeed for another node: there is no room where the
	// volume had to be. Source: CSI spec, CreateVolume errors, RESOURCE_EXHAUSTED.
	OtherNode bool
	// SourceRefused is true if the driver may mean that it cannot copy the source to where the
	// volume had to be. Source: CSI spec, CreateVolume errors: RESOURCE_EXHAUSTED for the place,
	// INVALID_ARGUMENT and NOT_FOUND for the source, and the codes of the error scheme for calls
	// that the current state does not allow.
	SourceRefused bool
	// Err is nil if the driver has created the volume. Otherwise its text is for the user, and
	// wraps the gRPC status.
	Err error
}

// Classify returns what the error of a CreateVolume means; nil is a success.
//
//   - No answer, a code for work in progress (Canceled, DeadlineExceeded, Unavailable,
//     Aborted), and an error that is no gRPC status are Indeterminate.
//   - Unauthenticated and PermissionDenied are Unauthorized.
//   - InvalidArgument, NotFound (the source), ResourceExhausted, FailedPrecondition, OutOfRange
//     and Unimplemented say that nothing exists: Absent.
//   - AlreadyExists says that another request has created something: Conflict.
//   - Unknown, Internal and DataLoss, which drivers also answer when they failed halfway, and
//     codes that gRPC does not have are Inconclusive.
//
// Source: CSI spec, CreateVolume errors and "error scheme"; docs/reliability.md.
func Classify(err error) Outcome {
	if err == nil {
		return Outcome{Proof: ledger.Created}
	}
	o := Outcome{Proof: ledger.Inconclusive, Err: err}
	st, ok := status.FromError(err)
	if !ok {
		o.Proof = ledger.Indeterminate
		return o
	}
	switch st.Code() {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.Aborted:
		o.Proof = ledger.Indeterminate
	case codes.AlreadyExists:
		o.Proof = ledger.Conflict
	case codes.Unauthenticated, codes.PermissionDenied:
		o.Proof = ledger.Unauthorized
	case codes.ResourceExhausted:
		o.Proof, o.SourceRefused, o.OtherNode = ledger.Absent, true, true
	case codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented:
		o.Proof, o.SourceRefused = ledger.Absent, true
	default:
	}
	return o
}

// explain wraps a driver's error for the user: which driver answered what to which call, the
// driver's own text last. It returns nil for nil.
func explain(driver, call, volume string, err error) error {
	if err == nil {
		return nil
	}
	if st, ok := status.FromError(err); ok && st.Code() == codes.DeadlineExceeded {
		return fmt.Errorf("driver %q has not answered %s for volume %q in time; it is asked again: %w", driver, call, volume, err)
	}
	return fmt.Errorf("driver %q answered %s for volume %q: %w", driver, call, volume, err)
}
