package gateway

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/gate"
)

// Selector says which requests a rule is for. It is a value: every method returns
// a changed copy, and each action registers one rule.
type Selector struct {
	gateway        *Gateway
	verb, resource string
	nth, next      int
	when           []func(Request) bool
}

// On starts a rule for a verb ("patch", Any) and a resource as RBAC names it
// ("persistentvolumeclaims", "persistentvolumeclaims/status", Any). Nothing happens
// before one of the Selector's actions.
func (g *Gateway) On(verb, resource string) Selector {
	return Selector{gateway: g, verb: verb, resource: resource}
}

// Nth limits the rule to the n-th fitting request (from 1) after its registration,
// counting requests that other rules dealt with.
func (s Selector) Nth(n int) Selector {
	s.nth = n
	return s
}

// Next limits the rule to n uses: requests that an earlier rule dealt with do not
// count.
func (s Selector) Next(n int) Selector {
	s.next = n
	return s
}

// When limits the rule to requests for which the predicate is true; others are not
// counted. Repeated use means all must be true.
func (s Selector) When(predicate func(Request) bool) Selector {
	s.when = append(append([]func(Request) bool(nil), s.when...), predicate)
	return s
}

// Named limits the rule to requests with this name in the path.
func (s Selector) Named(name string) Selector {
	return s.When(func(r Request) bool { return r.Name == name })
}

// hold waits or tells; an error says that the caller has gone.
type hold func(context.Context, Request) error

// outcome is what becomes of a request: exactly one field is set.
type outcome struct {
	answer apierrors.APIStatus
	drop   bool
	lose   bool
}

// Answer sends a status instead of forwarding the request. The functions of
// package apierrors make them: NewForbidden, NewServiceUnavailable, NewConflict.
func (s Selector) Answer(status apierrors.APIStatus) *Rule {
	return s.register(&Rule{outcome: &outcome{answer: status}})
}

// Drop cuts the connection and does not forward the request.
func (s Selector) Drop() *Rule { return s.register(&Rule{outcome: &outcome{drop: true}}) }

// LoseReply lets the API server do the work and then cuts the connection instead
// of sending the answer.
func (s Selector) LoseReply() *Rule { return s.register(&Rule{outcome: &outcome{lose: true}}) }

// Gate holds the request back until the test releases it, and only then does with
// it what other rules say.
func (s Selector) Gate() *gate.Gate {
	held := s.gateway.newGate()
	s.register(&Rule{before: func(ctx context.Context, _ Request) error { return held.Pass(ctx) }})
	return held
}

// GateReply forwards the request at once and holds the answer back until the test
// releases it.
func (s Selector) GateReply() *gate.Gate {
	held := s.gateway.newGate()
	s.register(&Rule{after: func(ctx context.Context, _ Request) error { return held.Pass(ctx) }})
	return held
}

// Before calls the hook before the request is forwarded, which waits for it to
// return. It is not called from the test's goroutine.
func (s Selector) Before(hook func(Request)) *Rule {
	return s.register(&Rule{before: func(_ context.Context, r Request) error { hook(r); return nil }})
}

// After calls the hook when the API server has answered, and before the caller gets
// the answer, which waits for it to return. Status is set. It is not called from
// the test's goroutine.
func (s Selector) After(hook func(Request)) *Rule {
	return s.register(&Rule{after: func(_ context.Context, r Request) error { hook(r); return nil }})
}

// Rule is a registered rule: exactly one of before, after and outcome is set.
type Rule struct {
	sel           Selector
	before, after hold
	outcome       *outcome
	removed       bool
	seen          int // fitting requests since registration
	hits          int // requests the rule was used for
}

func (s Selector) register(r *Rule) *Rule {
	r.sel = s
	s.gateway.mu.Lock()
	defer s.gateway.mu.Unlock()
	s.gateway.rules = append(s.gateway.rules, r)
	return r
}

// Hits returns how many requests the rule was used for.
func (r *Rule) Hits() int {
	r.sel.gateway.mu.Lock()
	defer r.sel.gateway.mu.Unlock()
	return r.hits
}

// Remove takes the rule out of use. Requests it already has hold of stay so.
func (r *Rule) Remove() {
	r.sel.gateway.mu.Lock()
	defer r.sel.gateway.mu.Unlock()
	r.removed = true
}

// fits looks at the request only; no lock is needed, and predicates are test code.
func (r *Rule) fits(request Request) bool {
	if !request.matches(r.sel.verb, r.sel.resource) {
		return false
	}
	for _, predicate := range r.sel.when {
		if !predicate(request) {
			return false
		}
	}
	return true
}

// apply counts a fitting request and, if it is the rule's turn, puts the rule into
// the exchange. The gateway's lock is held.
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
	switch {
	case r.outcome != nil:
		x.outcome = r.outcome
	case r.before != nil:
		x.before = append(x.before, r.before)
	default:
		x.after = append(x.after, r.after)
	}
}

func (g *Gateway) newGate() *gate.Gate {
	held := gate.New()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gates = append(g.gates, held)
	return held
}
