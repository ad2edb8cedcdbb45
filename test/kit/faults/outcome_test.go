package faults_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// short is a deadline that is meant to pass, no matter how long it really takes.
const short = 50 * time.Millisecond

func TestACallIsRecordedAsItsCallerSawIt(t *testing.T) {
	b := newBench(t)
	start := time.Now()
	b.create(t.Context(), "a")
	_, err := b.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: "id-a"})
	if status.Code(err) != codes.FailedPrecondition {
		t.Fatalf("got %v, want the driver's own FailedPrecondition", err)
	}
	calls := b.inj.Calls(faults.AnyMethod)
	if len(calls) != 2 || calls[0].Method != "CreateVolume" || calls[1].FullMethod != "/csi.v1.Controller/DeleteVolume" {
		t.Fatalf("calls are %v, want CreateVolume, then DeleteVolume", calls)
	}
	create := calls[0]
	if !proto.Equal(create.Request, &csi.CreateVolumeRequest{Name: "a"}) {
		t.Errorf("request on record is %v", create.Request)
	}
	if id := create.Response.(*csi.CreateVolumeResponse).GetVolume().GetVolumeId(); id != "id-a" || create.Err != nil {
		t.Errorf("answer on record is %q, %v", id, create.Err)
	}
	if create.Start.Before(start) || create.End.Before(create.Start) || !create.Done() || create.Work == nil {
		t.Errorf("times and work on record are %v, %v, %v", create.Start, create.End, create.Work)
	}
	if deleted := calls[1]; deleted.Response != nil || status.Code(deleted.Err) != codes.FailedPrecondition {
		t.Errorf("answer on record is %v, %v", deleted.Response, deleted.Err)
	}
}

func TestFailKeepsTheCallFromTheDriver(t *testing.T) {
	b := newBench(t)
	b.inj.On("CreateVolume").Fail(codes.ResourceExhausted, "pool is full")
	_, err := b.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: "a"})
	if s := status.Convert(err); s.Code() != codes.ResourceExhausted || s.Message() != "pool is full" {
		t.Fatalf("got %v", err)
	}
	if made := b.driver.names(); len(made) != 0 {
		t.Fatalf("driver made %v, want nothing", made)
	}
	if call := b.inj.Calls("CreateVolume")[0]; call.Work != nil {
		t.Fatalf("work on record is %v, want none", call.Work)
	}
}

func TestALostReplyLeavesTheWorkDone(t *testing.T) {
	b := newBench(t)
	b.inj.On("CreateVolume").LoseReply()
	if got := b.create(t.Context(), "a"); got != codes.Unavailable {
		t.Fatalf("got %s, want Unavailable", got)
	}
	if made := b.driver.names(); len(made) != 1 {
		t.Fatalf("driver made %v, want one volume", made)
	}
	if call := b.inj.Calls("CreateVolume")[0]; call.Work == nil || call.Work.Err != nil || call.Response != nil {
		t.Fatalf("on record are work %v and reply %v, want work only", call.Work, call.Response)
	}
}

func TestHangFinishesAfterItsCallerHasGone(t *testing.T) {
	b := newBench(t)
	arrived := make(chan struct{})
	b.inj.On("CreateVolume").Next(1).When(func(any) bool { close(arrived); return true }).Hang()
	ctx, cancel := context.WithCancel(t.Context())
	var gone time.Time
	go func() { <-arrived; gone = time.Now(); cancel() }()
	if got := b.create(ctx, "late"); got != codes.Canceled {
		t.Fatalf("got %s, want Canceled", got)
	}
	ended, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := b.inj.WaitCalls(ended, "CreateVolume", 1); err != nil {
		t.Fatal(err)
	}
	b.waitIdle(t)
	if made := b.driver.names(); len(made) != 1 || made[0] != "late" {
		t.Fatalf("driver made %v, want the late volume", made)
	}
	call := b.inj.Calls("CreateVolume")[0]
	if call.Work == nil || call.Work.Err != nil || call.Work.End.Before(gone) {
		t.Fatalf("work on record is %v, want a success after %v", call.Work, gone)
	}
}

func TestAHungCallEndsWithItsDeadline(t *testing.T) {
	inj := faults.New()
	inj.On("CreateVolume").Hang()
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	var late error
	handler := func(ctx context.Context, _ any) (any, error) {
		late = ctx.Err()
		return &csi.CreateVolumeResponse{}, nil
	}
	_, err := inj.Interceptor()(ctx, &csi.CreateVolumeRequest{},
		&grpc.UnaryServerInfo{FullMethod: "/csi.v1.Controller/CreateVolume"}, handler)
	if status.Code(err) != codes.DeadlineExceeded {
		t.Fatalf("got %v, want DeadlineExceeded", err)
	}
	idle, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := inj.WaitIdle(idle); err != nil {
		t.Fatal(err)
	}
	if late != nil {
		t.Fatalf("the late work saw %v, want a context that goes on", late)
	}
}

func TestHangUntilReleasedWaitsForTheTest(t *testing.T) {
	b := newBench(t)
	gate := b.inj.On("CreateVolume").HangUntilReleased()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-gate.Entered(); cancel() }()
	if got := b.create(ctx, "late"); got != codes.Canceled {
		t.Fatalf("got %s, want Canceled", got)
	}
	waiting, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	if err := b.inj.WaitIdle(waiting); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("WaitIdle said %v before the release, want its deadline", err)
	}
	if made := b.driver.names(); len(made) != 0 {
		t.Fatalf("driver made %v before the release", made)
	}
	gate.Release()
	b.waitIdle(t)
	if made := b.driver.names(); len(made) != 1 {
		t.Fatalf("driver made %v after the release, want one volume", made)
	}
	if got := b.create(t.Context(), "later"); got != codes.OK {
		t.Errorf("a call after the release got %s", got)
	}
	b.waitIdle(t)
}

func TestAGateHoldsTheCallBeforeTheWork(t *testing.T) {
	b := newBench(t)
	gate := b.inj.On("CreateVolume").Gate()
	answer := make(chan codes.Code, 1)
	go func() { answer <- b.create(context.Background(), "a") }()
	<-gate.Entered()
	calls := b.inj.Calls("CreateVolume")
	if len(calls) != 1 || calls[0].Done() || len(b.driver.names()) != 0 {
		t.Fatalf("calls %v, made %v; want one call in progress and nothing made", calls, b.driver.names())
	}
	gate.Release()
	gate.Release() // harmless
	if got := <-answer; got != codes.OK {
		t.Fatalf("got %s, want OK", got)
	}
	if got := b.create(t.Context(), "b"); got != codes.OK {
		t.Fatalf("got %s at the open gate, want OK", got)
	}
}

func TestAGateForTheReplyHoldsTheCallAfterTheWork(t *testing.T) {
	b := newBench(t)
	gate := b.inj.On("CreateVolume").GateReply()
	answer := make(chan codes.Code, 1)
	go func() { answer <- b.create(context.Background(), "a") }()
	<-gate.Entered()
	if made := b.driver.names(); len(made) != 1 {
		t.Fatalf("driver made %v at the gate, want one volume", made)
	}
	gate.Release()
	if got := <-answer; got != codes.OK {
		t.Fatalf("got %s, want OK", got)
	}
}

func TestWorkThatNeverBeganIsNotWaitedFor(t *testing.T) {
	b := newBench(t)
	gate := b.inj.On("CreateVolume").Gate()
	b.inj.On("CreateVolume").Hang()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-gate.Entered(); cancel() }()
	b.create(ctx, "a")
	b.waitIdle(t)
	if made := b.driver.names(); len(made) != 0 {
		t.Fatalf("driver made %v, want nothing: the gate never opened", made)
	}
}

func TestWhatHoldsACallEndsWithItsCaller(t *testing.T) {
	cases := []struct {
		name string
		hold func(s faults.Selector, held func())
		made int
	}{
		{"a gate, and nothing is made", func(s faults.Selector, held func()) {
			gate := s.Gate()
			go func() { <-gate.Entered(); held() }()
		}, 0},
		{"a delay, and nothing is made", func(s faults.Selector, held func()) {
			s.When(func(any) bool { held(); return true }).Delay(time.Hour)
		}, 0},
		{"a gate for the reply, and the volume stays", func(s faults.Selector, held func()) {
			gate := s.GateReply()
			go func() { <-gate.Entered(); held() }()
		}, 1},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			ctx, cancel := context.WithCancel(t.Context())
			tc.hold(b.inj.On("CreateVolume"), cancel)
			if got := b.create(ctx, "a"); got != codes.Canceled {
				t.Fatalf("got %s, want Canceled", got)
			}
			ended, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := b.inj.WaitCalls(ended, "CreateVolume", 1); err != nil {
				t.Fatal(err)
			}
			if made := b.driver.names(); len(made) != tc.made {
				t.Fatalf("driver made %v, want %d volumes", made, tc.made)
			}
		})
	}
}

func TestAReplyCanBeChangedWithoutTheDriverNoticing(t *testing.T) {
	b := newBench(t)
	b.inj.On("CreateVolume").MutateReply(faults.Reply(func(resp *csi.CreateVolumeResponse) {
		resp.Volume.CapacityBytes = 1
	}))
	resp, err := b.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.GetVolume().GetCapacityBytes(); got != 1 {
		t.Fatalf("caller sees %d bytes, want the changed 1", got)
	}
	work := b.inj.Calls("CreateVolume")[0].Work.Response.(*csi.CreateVolumeResponse)
	if got := work.GetVolume().GetCapacityBytes(); got != 7 {
		t.Fatalf("driver's own reply is on record with %d bytes, want 7", got)
	}
	b.inj.On("DeleteVolume").MutateReply(func(proto.Message) { t.Error("an error has no reply to change") })
	_, _ = b.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: "x"})
}

func TestWaitCallsSaysWhatItWaitedFor(t *testing.T) {
	b := newBench(t)
	b.create(t.Context(), "a")
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	err := b.inj.WaitCalls(ctx, "CreateVolume", 2)
	want := `waiting for 2 answered calls of "CreateVolume" (there are 1): context deadline exceeded`
	if err == nil || err.Error() != want {
		t.Fatalf("got  %v\nwant %s", err, want)
	}
}

func TestATestMayDecideItselfWhenTheWorkIsDone(t *testing.T) {
	b := newBench(t)
	worked := make(chan error, 1)
	b.inj.On("CreateVolume").Decide(func(ctx context.Context, req any, work func(context.Context) (any, error)) (any, error) {
		go func() {
			<-ctx.Done() // the caller is answered
			_, err := work(context.WithoutCancel(ctx))
			worked <- err
		}()
		return nil, status.Error(codes.Aborted, req.(*csi.CreateVolumeRequest).GetName())
	})
	_, err := b.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: "a"})
	if s := status.Convert(err); s.Code() != codes.Aborted || s.Message() != "a" {
		t.Fatalf("got %v, want what the test decided", err)
	}
	if err := <-worked; err != nil {
		t.Fatal(err)
	}
	if made := b.driver.names(); len(made) != 1 {
		t.Fatalf("driver made %v, want one volume", made)
	}
	if call := b.inj.Calls("CreateVolume")[0]; call.Work == nil || call.Response != nil || call.Err == nil {
		t.Fatalf("on record are work %v, reply %v and error %v; want the work and the error", call.Work, call.Response, call.Err)
	}
}
