package observe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check returns nil if all is well, else what is wrong.
type Check func(*http.Request) error

// Server serves health and metrics. Without an address it serves nothing, and
// works all the same. See NewServer.
type Server struct {
	address string
	mux     *http.ServeMux

	mu    sync.Mutex
	live  Check
	ready Check
}

// NewServer returns a server that is live, and not ready until SetReady.
func NewServer(address string) *Server {
	s := &Server{address: address, mux: http.NewServeMux()}
	s.live = func(*http.Request) error { return nil }
	s.ready = func(*http.Request) error { return errors.New("waiting for the CSI driver") }
	s.mux.Handle("/healthz", s.answer(&s.live))
	s.mux.Handle("/readyz", s.answer(&s.ready))
	// The incumbent's liveness path.
	s.mux.Handle("/healthz/leader-election", s.answer(&s.live))
	return s
}

// AddLive adds a check to those behind /healthz.
func (s *Server) AddLive(c Check) {
	s.mu.Lock()
	defer s.mu.Unlock()
	others := s.live
	s.live = func(r *http.Request) error {
		return errors.Join(others(r), c(r))
	}
}

// SetReady replaces the check behind /readyz.
func (s *Server) SetReady(c Check) { s.set(&s.ready, c) }

func (s *Server) set(where *Check, c Check) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*where = c
}

func (s *Server) answer(check *Check) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		c := *check
		s.mu.Unlock()
		if err := c(r); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
}

// ServeMetrics serves what the gatherers have at the path.
func (s *Server) ServeMetrics(path string, gatherers ...prometheus.Gatherer) {
	s.mux.Handle(path, promhttp.HandlerFor(prometheus.Gatherers(gatherers), promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
}

// ServePprof serves profiles at /debug/pprof/.
func (s *Server) ServePprof() {
	s.mux.HandleFunc("/debug/pprof/", pprof.Index)
	s.mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	s.mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	s.mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	s.mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
}

// Run listens and serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	if s.address == "" {
		<-ctx.Done()
		return nil
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", s.address)
	if err != nil {
		return fmt.Errorf("listening at --http-endpoint: %w", err)
	}
	server := &http.Server{Handler: s.mux, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving --http-endpoint: %w", err)
	case <-ctx.Done():
	}
	// A scrape that is under way may end; nobody waits long for one.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return server.Close()
	}
	return nil
}
