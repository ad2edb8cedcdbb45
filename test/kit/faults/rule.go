package faults

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/gate"
)

// Gate holds calls until a test releases them.
type Gate = gate.Gate

// wait holds a call back; an error is that of the context.
type wait func(context.Context) error

// outcome decides how a call ends.
type outcome func(*exchange) (any, error)

// Selector says which calls a rule is for. It is a value: every method returns
// a changed copy, and each action registers one rule.
type Selector struct {
	inj    *Injector
	method string
	nth    int
	next   int
	when   []func(any) bool
}

// Nth limits the rule to the n-th fitting call (from 1) after its registration,
// counting calls that other rules dealt with.
func (s Selector) Nth(n int) Selector {
	s.nth = n
	return s
}

// Next limits the rule to n uses: calls that an earlier rule dealt with do not
// count.
func (s Selector) Next(n int) Selector {
	s.next = n
	return s
}

// When limits the rule to requests for which the predicate is true; calls it
// turns down are not counted. Repeated use means all must be true. See Request
// for a typed form. The predicate must not change the request.
func (s Selector) When(predicate func(req any) bool) Selector {
	s.when = append(append([]func(any) bool(nil), s.when...), predicate)
	return s
}

// Fail answers with an error and does not call the driver.
func (s Selector) Fail(code codes.Code, message string) *Rule {
	return s.decide(func(*exchange) (any, error) {
		return nil, status.Error(code, message)
	})
}

// Delay holds the call back for a while, then lets it go on. The caller's
// deadline ends it early and then the driver is not called.
func (s Selector) Delay(d time.Duration) *Rule {
	return s.hold(func(ctx context.Context) error {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// Gate holds the call back, before the driver is called, until the test
// releases it. The caller's deadline ends it early and then the driver is not
// called.
func (s Selector) Gate() *Gate {
	g := s.inj.newGate()
	s.hold(g.Pass)
	return g
}

// GateReply lets the driver do the work at once and holds its reply back until
// the test releases it.
func (s Selector) GateReply() *Gate {
	g := s.inj.newGate()
	s.decide(func(x *exchange) (any, error) {
		resp, err := x.work(x.ctx)
		if passErr := g.Pass(x.ctx); passErr != nil {
			return nil, status.FromContextError(passErr).Err()
		}
		return resp, err
	})
	return g
}

// Hang keeps the caller waiting until its deadline (or until it goes away). Only
// then does the driver start the work, out of the reach of the caller's
// cancellation, and really finishes it. WaitIdle waits for that.
func (s Selector) Hang() *Rule {
	return s.late(func(x *exchange) (any, error) {
		return x.hang(x.ctx.Done())
	})
}

// HangUntilReleased is Hang whose work starts when the test releases the gate
// instead: long after the deadline, or before it (the caller waits on and times
// out all the same). Calls that arrive after the release are not held.
func (s Selector) HangUntilReleased() *Gate {
	g := s.inj.newGate()
	s.late(func(x *exchange) (any, error) {
		select {
		case <-g.Opened():
			defer x.inj.settle()
			return x.work(x.ctx)
		default:
		}
		g.Enter()
		return x.hang(g.Opened())
	})
	return g
}

// LoseReply lets the driver do the work, then answers Unavailable whatever the
// result was.
func (s Selector) LoseReply() *Rule {
	return s.LoseReplyAs(codes.Unavailable, "reply lost")
}

// LoseReplyAs is LoseReply with an error of choice.
func (s Selector) LoseReplyAs(code codes.Code, message string) *Rule {
	return s.decide(func(x *exchange) (any, error) {
		_, _ = x.work(x.ctx) // kept in Call.Work
		return nil, status.Error(code, message)
	})
}

// MutateReply lets the driver do the work and hands a copy of its reply to
// mutate before the caller gets it. Errors pass unchanged. See Reply for a typed
// form.
func (s Selector) MutateReply(mutate func(resp proto.Message)) *Rule {
	return s.decide(func(x *exchange) (any, error) {
		resp, err := x.work(x.ctx)
		if err != nil {
			return nil, err
		}
		changed := clone(resp)
		mutate(changed)
		return changed, nil
	})
}

func (i *Injector) newGate() *Gate {
	g := gate.New()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.gates = append(i.gates, g)
	return g
}

// Decide leaves the call to a function of the test's: work is the driver's own
// part, which it calls as often and as late as it likes, under a context of its
// choice. What it does after it has answered is its own to wait for: WaitIdle does
// not know of it.
func (s Selector) Decide(f func(ctx context.Context, req any, work func(context.Context) (any, error)) (any, error)) *Rule {
	return s.decide(func(x *exchange) (any, error) { return f(x.ctx, x.req, x.work) })
}

func (s Selector) hold(w wait) *Rule      { return s.register(&Rule{sel: s, wait: w}) }
func (s Selector) decide(o outcome) *Rule { return s.register(&Rule{sel: s, outcome: o}) }
func (s Selector) late(o outcome) *Rule   { return s.register(&Rule{sel: s, outcome: o, late: true}) }
func (s Selector) register(r *Rule) *Rule {
	s.inj.mu.Lock()
	defer s.inj.mu.Unlock()
	s.inj.rules = append(s.inj.rules, r)
	return r
}

// hang does the work, out of reach of the caller, once begin is closed. It answers
// when the caller's context ends.
func (x *exchange) hang(begin <-chan struct{}) (any, error) {
	go func() {
		defer x.inj.settle()
		<-begin
		_, _ = x.work(context.WithoutCancel(x.ctx)) // kept in Call.Work
	}()
	<-x.ctx.Done()
	return nil, status.FromContextError(x.ctx.Err()).Err()
}

// Rule is a registered rule: exactly one of wait and outcome is set.
type Rule struct {
	sel     Selector
	wait    wait
	outcome outcome
	late    bool // outcome leaves work behind, and settles it
	removed bool
	seen    int // fitting calls since registration
	hits    int // calls the rule was used for
}

// Hits returns how many calls the rule was used for.
func (r *Rule) Hits() int {
	r.sel.inj.mu.Lock()
	defer r.sel.inj.mu.Unlock()
	return r.hits
}

// Remove takes the rule out of use. Calls it already has hold of stay so.
func (r *Rule) Remove() {
	r.sel.inj.mu.Lock()
	defer r.sel.inj.mu.Unlock()
	r.removed = true
}

// fits looks at method and request only; no lock is needed.
func (r *Rule) fits(fullMethod string, req any) bool {
	if !matches(r.sel.method, fullMethod) {
		return false
	}
	for _, predicate := range r.sel.when {
		if !predicate(req) {
			return false
		}
	}
	return true
}

// apply counts a fitting call and, if it is the rule's turn, puts the rule into
// the exchange. The injector's lock is held.
func (r *Rule) apply(x *exchange) {
	r.seen++
	switch {
	case r.removed,
		r.outcome != nil && x.outcome != nil,
		r.sel.nth > 0 && r.seen != r.sel.nth,
		r.sel.next > 0 && r.hits >= r.sel.next:
		return
	}
	r.hits++
	if r.outcome != nil {
		x.outcome, x.late = r.outcome, r.late
		return
	}
	x.waits = append(x.waits, r.wait)
}

// Request makes a typed predicate fit When: requests of another type do not
// match.
func Request[T proto.Message](predicate func(T) bool) func(any) bool {
	return func(req any) bool {
		typed, ok := req.(T)
		return ok && predicate(typed)
	}
}

// Reply makes a typed change fit MutateReply: replies of another type stay as
// they are.
func Reply[T proto.Message](mutate func(T)) func(proto.Message) {
	return func(resp proto.Message) {
		if typed, ok := resp.(T); ok {
			mutate(typed)
		}
	}
}
