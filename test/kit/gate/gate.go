package gate

import (
	"context"
	"sync"
)

// Gate holds whoever comes to it until a test releases them. Make it with New.
type Gate struct {
	mu      sync.Mutex
	entered int
	waiters []arrival
	open    chan struct{}
	release sync.Once
}

// arrival is closed once n have reached the gate.
type arrival struct {
	n    int
	done chan struct{}
}

// New returns a gate that is shut.
func New() *Gate { return &Gate{open: make(chan struct{})} }

// Entered returns a channel that is closed when the first has reached the gate.
func (g *Gate) Entered() <-chan struct{} { return g.EnteredBy(1) }

// EnteredBy returns a channel that is closed when n have reached the gate.
func (g *Gate) EnteredBy(n int) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	done := make(chan struct{})
	if g.entered >= n {
		close(done)
	} else {
		g.waiters = append(g.waiters, arrival{n: n, done: done})
	}
	return done
}

// Release lets go of all at the gate and of those that come later. It may be
// called more than once.
func (g *Gate) Release() { g.release.Do(func() { close(g.open) }) }

// Opened returns a channel that is closed by Release.
func (g *Gate) Opened() <-chan struct{} { return g.open }

// Enter counts somebody who has reached the gate, and does not wait.
func (g *Gate) Enter() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.entered++
	var left []arrival
	for _, w := range g.waiters {
		if g.entered >= w.n {
			close(w.done)
			continue
		}
		left = append(left, w)
	}
	g.waiters = left
}

// Pass enters, and waits for Release or the end of ctx, which is the error.
func (g *Gate) Pass(ctx context.Context) error {
	g.Enter()
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
