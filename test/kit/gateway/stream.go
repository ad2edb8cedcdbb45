package gateway

import (
	"context"
	"errors"
	"io"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// errCut ends a stream without the polite end that tells a caller so.
var errCut = errors.New("the gateway cut the watch")

// stream is the body of a watch. It is read from the API server without a pause,
// whether the caller may have it yet or not, so that a long stall is not taken
// there for a slow client.
type stream struct {
	gateway  *Gateway
	resource string
	upstream io.ReadCloser

	mu     sync.Mutex
	wake   *sync.Cond
	buffer []byte
	end    error // what the API server's stream ended with
	cut    bool
	stalls int
}

// newStream takes over the body of a watch. It is cut when ctx ends, the caller's.
func (g *Gateway) newStream(ctx context.Context, resource string, upstream io.ReadCloser) *stream {
	s := &stream{gateway: g, resource: resource, upstream: upstream}
	s.wake = sync.NewCond(&s.mu)
	g.mu.Lock()
	for stall := range g.stalls {
		if stall.of(s) {
			s.stalls++
		}
	}
	g.streams[s] = struct{}{}
	g.notify()
	g.mu.Unlock()
	context.AfterFunc(ctx, s.Cut)
	go s.fill()
	return s
}

// fill reads until the API server ends the stream or Close does.
func (s *stream) fill() {
	chunk := make([]byte, 32*1024)
	for {
		n, err := s.upstream.Read(chunk)
		s.mu.Lock()
		s.buffer = append(s.buffer, chunk[:n]...)
		s.end = err
		s.wake.Broadcast()
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Read implements io.Reader for the caller's side.
func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.cut:
			return 0, errCut
		case s.stalls > 0:
		case len(s.buffer) > 0:
			n := copy(p, s.buffer)
			s.buffer = s.buffer[n:]
			return n, nil
		case s.end != nil:
			return 0, s.end
		}
		s.wake.Wait()
	}
}

// Close implements io.Closer.
func (s *stream) Close() error {
	s.gateway.mu.Lock()
	delete(s.gateway.streams, s)
	s.gateway.notify()
	s.gateway.mu.Unlock()
	return s.upstream.Close()
}

// Cut ends the stream; what it holds back is lost.
func (s *stream) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = true
	s.wake.Broadcast()
}

func (s *stream) stall(by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalls += by
	s.wake.Broadcast()
}

// open returns the watches of a resource; the gateway's lock is held.
func (g *Gateway) open(resource string) []*stream {
	var found []*stream
	for s := range g.streams {
		if resource == Any || resource == s.resource {
			found = append(found, s)
		}
	}
	return found
}

// Watches returns how many watches of a resource are open.
func (g *Gateway) Watches(resource string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.open(resource))
}

// Cut cuts the connections of all open watches of a resource (or Any) and returns
// how many there were. A client then watches again from where it was.
func (g *Gateway) Cut(resource string) int {
	g.mu.Lock()
	cut := g.open(resource)
	g.mu.Unlock()
	for _, s := range cut {
		s.Cut()
	}
	return len(cut)
}

// Expire cuts the open watches of a resource and answers as many later ones that
// what they ask for is too old (410 Gone), so that the client begins anew. It
// returns how many there were.
func (g *Gateway) Expire(resource string) int {
	g.mu.Lock()
	cut := g.open(resource)
	g.mu.Unlock()
	if len(cut) > 0 {
		g.On("watch", resource).Next(len(cut)).Answer(apierrors.NewResourceExpired("too old resource version"))
	}
	for _, s := range cut {
		s.Cut()
	}
	return len(cut)
}

// Stall is what holds back the events of a resource.
type Stall struct {
	gateway  *Gateway
	resource string
}

func (l *Stall) of(s *stream) bool { return l.resource == Any || l.resource == s.resource }

// Stall holds back, from now on, what the API server sends on watches of a resource
// (or Any), those opened later included, until it is released. The order stays.
// Lists and reads are answered as ever. But a client may list by a watch that begins
// with what there is, as client-go does: such a list is held back, too.
func (g *Gateway) Stall(resource string) *Stall {
	l := &Stall{gateway: g, resource: resource}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stalls[l] = struct{}{}
	for _, s := range g.open(resource) {
		s.stall(1)
	}
	return l
}

// Held returns how many bytes the open watches of the resource hold back.
func (l *Stall) Held() int {
	l.gateway.mu.Lock()
	defer l.gateway.mu.Unlock()
	held := 0
	for _, s := range l.gateway.open(l.resource) {
		s.mu.Lock()
		held += len(s.buffer)
		s.mu.Unlock()
	}
	return held
}

// Release lets the events flow. It may be called more than once.
func (l *Stall) Release() {
	l.gateway.mu.Lock()
	defer l.gateway.mu.Unlock()
	if _, held := l.gateway.stalls[l]; !held {
		return
	}
	delete(l.gateway.stalls, l)
	for _, s := range l.gateway.open(l.resource) {
		s.stall(-1)
	}
}
