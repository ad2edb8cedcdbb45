// Package faults is a gRPC unary server interceptor that stands in front of a
// CSI driver, keeps a record of every call and makes calls go wrong on demand.
//
// A test says what goes wrong with a rule:
//
//	inj := faults.New()
//	server := grpc.NewServer(grpc.UnaryInterceptor(inj.Interceptor()))
//
//	inj.On("CreateVolume").Nth(2).Fail(codes.Internal, "disk on fire")
//	inj.On("CreateVolume").Next(1).Hang()       // times out, finishes later
//	inj.On("DeleteVolume").LoseReply()          // every call
//	gate := inj.On("CreateVolume").When(isClone).Gate()
//	<-gate.Entered()
//	gate.Release()
//
// A rule is chosen by method ("CreateVolume", the full gRPC name, or "*" for
// all), by count (Nth, Next, else every call) and by request (When). Rules that
// only hold a call back (Delay, Gate) all apply, one after the other. Of the
// rules that decide the outcome (Fail, Hang, LoseReply, MutateReply, GateReply)
// the first that applies, in order of registration, is used. So two rules with
// Next(1) make the first call go wrong one way and the second another way.
//
// The package knows nothing of any particular driver: the work behind a call is
// always the real handler's, or is not done at all.
package faults
