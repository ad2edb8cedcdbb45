package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

// errLost is why a caller is cut off whose answer a rule withholds.
var errLost = errors.New("the gateway lost the answer")

// exchange is one request on its way through the gateway.
type exchange struct {
	gateway       *Gateway
	request       *Request // shared with the list: the gateway's lock is needed
	before, after []hold
	outcome       *outcome // nil: forward it and pass on the answer
}

// exchangeKey is under which an exchange travels in a request's context.
type exchangeKey struct{}

// ServeHTTP implements http.Handler. To cut the caller off it panics with
// http.ErrAbortHandler, which the HTTP server takes for just that.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if !g.enter() {
		panic(http.ErrAbortHandler)
	}
	defer g.handlers.Done()
	r := parse(request)
	var err error
	if r.Body, err = io.ReadAll(request.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
	request.Body = io.NopCloser(bytes.NewReader(r.Body))
	x := g.begin(r)
	defer x.change(func(r *Request) { r.End = time.Now() })

	held := x.wait(request.Context(), x.before)
	switch {
	case held != nil, x.outcome != nil && x.outcome.drop:
		panic(http.ErrAbortHandler)
	case x.outcome != nil && x.outcome.answer != nil:
		x.answer(w)
		return
	}
	x.change(func(r *Request) { r.Forwarded = true })
	g.proxy.ServeHTTP(w, request.WithContext(context.WithValue(request.Context(), exchangeKey{}, x)))
}

// begin records the request and picks the rules that apply to it.
func (g *Gateway) begin(r Request) *exchange {
	g.mu.Lock()
	rules := append([]*Rule(nil), g.rules...)
	g.mu.Unlock()
	var fitting []*Rule
	for _, rule := range rules {
		if rule.fits(r) {
			fitting = append(fitting, rule)
		}
	}
	x := &exchange{gateway: g, request: &r}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests = append(g.requests, x.request)
	for _, rule := range fitting {
		rule.apply(x)
	}
	g.notify()
	return x
}

// change notes something about the request for who reads the list.
func (x *exchange) change(f func(*Request)) {
	x.gateway.mu.Lock()
	defer x.gateway.mu.Unlock()
	f(x.request)
	x.gateway.notify()
}

// wait holds the request or its answer back; an error says that the caller has gone.
func (x *exchange) wait(ctx context.Context, holds []hold) error {
	for _, h := range holds {
		x.gateway.mu.Lock()
		r := *x.request
		x.gateway.mu.Unlock()
		if err := h(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// answer sends the status of a rule.
func (x *exchange) answer(w http.ResponseWriter) {
	status := x.outcome.answer.Status()
	status.Kind, status.APIVersion = "Status", "v1"
	body, err := json.Marshal(status)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	code := int(status.Code)
	w.Header().Set("Content-Type", "application/json")
	if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(status.Details.RetryAfterSeconds)))
	}
	x.change(func(r *Request) { r.Status, r.Answered = code, true })
	w.WriteHeader(code)
	_, _ = w.Write(body) // the caller may have gone
}

// answered is called when the API server has answered and the caller has not. An
// error cuts the caller off.
func answered(response *http.Response) error {
	x := response.Request.Context().Value(exchangeKey{}).(*exchange)
	x.change(func(r *Request) { r.Status = response.StatusCode })
	if err := x.wait(response.Request.Context(), x.after); err != nil {
		return err
	}
	if x.outcome != nil && x.outcome.lose {
		return errLost
	}
	x.change(func(r *Request) { r.Answered = true })
	if x.request.Verb == "watch" && response.StatusCode == http.StatusOK {
		response.Body = x.gateway.newStream(response.Request.Context(), x.request.Resource, response.Body)
	}
	return nil
}
