package faults

import (
	"context"
	"sync"
)

// Gate holds calls until a test releases them.
type Gate struct {
	mu      sync.Mutex
	entered int
	waiters []arrival
	open    chan struct{}
	release sync.Once
}

// arrival is closed once n calls have reached the gate.
type arrival struct {
	n    int
	done chan struct{}
}

func (i *Injector) newGate() *Gate {
	gate := &Gate{open: make(chan struct{})}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.gates = append(i.gates, gate)
	return gate
}

// Entered returns a channel that is closed when the first call has reached the
// gate.
func (g *Gate) Entered() <-chan struct{} { return g.EnteredBy(1) }

// EnteredBy returns a channel that is closed when n calls have reached the gate.
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

// Release lets go of all calls at the gate and of those that come later. It may
// be called more than once.
func (g *Gate) Release() { g.release.Do(func() { close(g.open) }) }

func (g *Gate) enter() {
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

// pass waits for Release or the end of ctx.
func (g *Gate) pass(ctx context.Context) error {
	g.enter()
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
