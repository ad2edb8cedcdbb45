package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/gate"
)

// Gateway is a running proxy. It is safe for concurrent use.
type Gateway struct {
	url       string
	server    *http.Server
	transport *http.Transport
	proxy     *httputil.ReverseProxy
	served    chan error
	handlers  sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	rules    []*Rule
	gates    []*gate.Gate
	requests []*Request
	streams  map[*stream]struct{}
	stalls   map[*Stall]struct{}
	changed  chan struct{} // closed and replaced whenever requests or streams change
}

// Start serves a gateway to the API server at a URL, whose certificate is checked
// against the authority (PEM). Requests that say not who asks get the token: a
// client keeps its own to itself where nothing is encrypted. Without rules
// everything passes.
func Start(upstream string, authority []byte, token string) (*Gateway, error) {
	target, err := url.Parse(upstream)
	if err != nil {
		return nil, fmt.Errorf("starting a gateway to %q: %w", upstream, err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("starting a gateway to %s: there is no certificate in the authority's %d bytes", upstream, len(authority))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting a gateway to %s: %w", upstream, err)
	}
	g := &Gateway{
		url: "http://" + listener.Addr().String(),
		transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2: true,
		},
		served:  make(chan error, 1),
		streams: map[*stream]struct{}{},
		stalls:  map[*Stall]struct{}{},
		changed: make(chan struct{}),
	}
	// Connections are cut all the time here; that is no news.
	quiet := log.New(io.Discard, "", 0)
	g.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			if r.Out.Header.Get("Authorization") == "" {
				r.Out.Header.Set("Authorization", "Bearer "+token)
			}
		},
		Transport:      g.transport,
		FlushInterval:  -1,
		ModifyResponse: answered,
		// The API server cannot be reached, or a rule says so.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     quiet,
	}
	g.server = &http.Server{Handler: g, ReadHeaderTimeout: time.Minute, ErrorLog: quiet}
	go func() { g.served <- g.server.Serve(listener) }()
	return g, nil
}

// URL is what callers take for the API server's.
func (g *Gateway) URL() string { return g.url }

// Close lets go of what is held, cuts all connections and ends the gateway.
func (g *Gateway) Close() error {
	g.mu.Lock()
	g.closed = true // so that nobody comes once handlers is waited for
	g.mu.Unlock()
	g.Reset()
	err := g.server.Close()
	if serveErr := <-g.served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	g.handlers.Wait()
	g.transport.CloseIdleConnections()
	if err != nil {
		return fmt.Errorf("closing the gateway: %w", err)
	}
	return nil
}

// Reset removes all rules, opens all gates, lets stalled events flow and forgets
// the recorded requests. Requests in progress go on.
func (g *Gateway) Reset() {
	g.mu.Lock()
	gates, stalls := g.gates, slices.Collect(maps.Keys(g.stalls))
	g.rules, g.gates, g.requests = nil, nil, nil
	g.mu.Unlock()
	for _, held := range gates {
		held.Release()
	}
	for _, stall := range stalls {
		stall.Release()
	}
}

// Requests returns the requests for a verb and a resource, chosen as in On, in
// order of arrival; those in progress are among them. The slice is a copy.
func (g *Gateway) Requests(verb, resource string) []Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []Request
	for _, r := range g.requests {
		if r.matches(verb, resource) {
			out = append(out, *r)
		}
	}
	return out
}

// WaitRequests returns when at least n requests for a verb and a resource have
// ended since the last Reset, or with an error when ctx ends. A watch ends late.
func (g *Gateway) WaitRequests(ctx context.Context, verb, resource string, n int) error {
	for {
		ended := 0
		g.mu.Lock()
		for _, r := range g.requests {
			if r.matches(verb, resource) && !r.End.IsZero() {
				ended++
			}
		}
		changed := g.changed
		g.mu.Unlock()
		if ended >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d requests of %s %s to end (%d did): %w", n, verb, resource, ended, ctx.Err())
		}
	}
}

// enter counts a handler that runs, unless the gateway is closed.
func (g *Gateway) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.handlers.Add(1)
	}
	return !g.closed
}

// notify wakes who waits for a change; the lock is held.
func (g *Gateway) notify() {
	close(g.changed)
	g.changed = make(chan struct{})
}
