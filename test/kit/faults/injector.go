package faults

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// AnyMethod matches every method in On and Calls.
const AnyMethod = "*"

// Injector records calls and applies rules to them. It is safe for concurrent
// use and may stand in front of several servers, one after the other as well.
type Injector struct {
	mu       sync.Mutex
	rules    []*Rule
	gates    []*Gate
	calls    []*Call
	detached int           // late work (Hang) that has not finished
	changed  chan struct{} // closed and replaced whenever calls or detached change
}

// New returns an Injector without rules: it records and lets everything pass.
func New() *Injector {
	return &Injector{changed: make(chan struct{})}
}

// Interceptor returns the interceptor to hand to grpc.NewServer.
func (i *Injector) Interceptor() grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		x := &exchange{ctx: ctx, req: req, handler: handler, inj: i}
		i.begin(x, info.FullMethod)
		resp, err := x.run()
		i.end(x, resp, err)
		return resp, err
	}
}

// On starts a rule for a method: its short name ("CreateVolume"), its full gRPC
// name or AnyMethod. Nothing happens before one of the Selector's actions.
func (i *Injector) On(method string) Selector {
	return Selector{inj: i, method: method}
}

// Calls returns the calls of a method in order of arrival, those in progress
// included (their End is zero). AnyMethod returns all. The slice is a copy.
func (i *Injector) Calls(method string) []Call {
	i.mu.Lock()
	defer i.mu.Unlock()
	var out []Call
	for _, call := range i.calls {
		if matches(method, call.FullMethod) {
			out = append(out, *call)
		}
	}
	return out
}

// Reset removes all rules, opens all gates and forgets the recorded calls. Late
// work that waited for a gate starts then: follow with WaitIdle to see it end.
func (i *Injector) Reset() {
	i.mu.Lock()
	gates := i.gates
	i.rules, i.gates, i.calls = nil, nil, nil
	i.mu.Unlock()
	for _, g := range gates {
		g.Release()
	}
}

// WaitIdle returns when no late work (Hang) is outstanding, or with an error
// when ctx ends. Work behind a gate that nobody releases is outstanding.
func (i *Injector) WaitIdle(ctx context.Context) error {
	err := i.await(ctx, func() bool { return i.detached == 0 })
	if err != nil {
		return fmt.Errorf("waiting for late work behind hung calls (is its gate still shut?): %w", err)
	}
	return nil
}

// WaitCalls returns when at least n calls of a method were answered since the
// last Reset, or with an error when ctx ends.
func (i *Injector) WaitCalls(ctx context.Context, method string, n int) error {
	done := 0
	err := i.await(ctx, func() bool {
		done = 0
		for _, call := range i.calls {
			if matches(method, call.FullMethod) && call.Done() {
				done++
			}
		}
		return done >= n
	})
	if err != nil {
		return fmt.Errorf("waiting for %d answered calls of %q (there are %d): %w", n, method, done, err)
	}
	return nil
}

// await returns when condition, called with the lock held, is true.
func (i *Injector) await(ctx context.Context, condition func() bool) error {
	for {
		i.mu.Lock()
		ok, changed := condition(), i.changed
		i.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// notify wakes everyone in await; the lock is held.
func (i *Injector) notify() {
	close(i.changed)
	i.changed = make(chan struct{})
}

// begin records the call and picks the rules that apply to it. Predicates are
// test code and run without the lock.
func (i *Injector) begin(x *exchange, fullMethod string) {
	i.mu.Lock()
	rules := append([]*Rule(nil), i.rules...)
	i.mu.Unlock()
	var fitting []*Rule
	for _, rule := range rules {
		if rule.fits(fullMethod, x.req) {
			fitting = append(fitting, rule)
		}
	}

	x.call = &Call{
		Method:     fullMethod[strings.LastIndex(fullMethod, "/")+1:],
		FullMethod: fullMethod,
		Request:    clone(x.req),
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	x.call.Start = time.Now()
	i.calls = append(i.calls, x.call)
	for _, rule := range fitting {
		rule.apply(x)
	}
	if x.late {
		i.detached++ // from the start, so that WaitIdle cannot come in between
	}
	i.notify()
}

// end records what the caller is told.
func (i *Injector) end(x *exchange, resp any, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	x.call.End = time.Now()
	x.call.Err = err
	if err == nil {
		x.call.Response = clone(resp)
	}
	i.notify()
}

// settle tells WaitIdle that the late work of one call is done, or will not be.
func (i *Injector) settle() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.detached--
	i.notify()
}

// exchange is one call on its way through the interceptor.
type exchange struct {
	ctx     context.Context
	req     any
	handler grpc.UnaryHandler
	inj     *Injector
	call    *Call
	waits   []wait
	outcome outcome // nil: the handler's own
	late    bool    // outcome leaves work behind
}

func (x *exchange) run() (any, error) {
	for _, hold := range x.waits {
		if err := hold(x.ctx); err != nil {
			if x.late {
				x.inj.settle()
			}
			return nil, status.FromContextError(err).Err()
		}
	}
	if x.outcome != nil {
		return x.outcome(x)
	}
	return x.work(x.ctx)
}

// work runs the real handler and records its result.
func (x *exchange) work(ctx context.Context) (any, error) {
	resp, err := x.handler(ctx, x.req)
	work := &Work{Err: err, End: time.Now()}
	if err == nil {
		work.Response = clone(resp)
	}
	x.inj.mu.Lock()
	defer x.inj.mu.Unlock()
	x.call.Work = work
	return resp, err
}

// clone copies a gRPC message; nil for what is not one.
func clone(message any) proto.Message {
	m, ok := message.(proto.Message)
	if !ok || m == nil {
		return nil
	}
	return proto.Clone(m)
}

func matches(pattern, fullMethod string) bool {
	return pattern == AnyMethod || pattern == fullMethod || strings.HasSuffix(fullMethod, "/"+pattern)
}
