package faults

import (
	"time"

	"google.golang.org/protobuf/proto"
)

// Call is one recorded call as its caller saw it. Messages are copies.
type Call struct {
	// Method is the short name, e.g. "CreateVolume".
	Method string
	// FullMethod is the gRPC name, e.g. "/csi.v1.Controller/CreateVolume".
	FullMethod string
	Request    proto.Message
	// Response is what the caller was sent; nil when Err is set.
	Response proto.Message
	// Err is what the caller was told, injected or not.
	Err   error
	Start time.Time
	// End is when the caller was answered; zero while the call is in progress.
	End time.Time
	// Work is what the driver itself did; nil while it has not finished, and for
	// good when a rule kept the call away from the driver.
	Work *Work
}

// Done is true when the caller was answered.
func (c Call) Done() bool { return !c.End.IsZero() }

// Work is the result of the real handler, which a rule may have withheld from
// the caller.
type Work struct {
	Response proto.Message
	Err      error
	End      time.Time
}
