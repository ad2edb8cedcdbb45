package csidriver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kubernetes-csi/csi-lib-utils/rpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

const (
	// pulseEvery is how often the driver is asked at most, however often we are.
	pulseEvery = 20 * time.Second
	// pulsePatience is how long a driver may answer nothing at all. A driver that does one
	// thing at a time may answer nothing while it copies a volume, and to start us again
	// does not make it any faster: so this is far longer than a call may take.
	pulsePatience = 5 * time.Minute
	// pulseTries is how many calls without an answer it takes besides: a process that was
	// stopped itself has missed but one.
	pulseTries = 3
)

// Pulse notices a driver that is connected and answers nothing: it hangs, or the
// connection does. It asks (Probe) only when it is asked itself, and no slow call to
// the driver counts against it.
type Pulse struct {
	ask   func(context.Context) error
	clock clock.PassiveClock

	mu         sync.Mutex
	asking     bool
	asked      time.Time // last
	silent     time.Time // since when there was no answer; zero if the last one was answered
	unanswered int       // calls since then
}

// Pulse returns the driver's.
func (d *Driver) Pulse() *Pulse {
	return &Pulse{clock: clock.RealClock{}, ask: func(ctx context.Context) error {
		_, err := within(ctx, d.timeout, d.conn, rpc.Probe)
		return err
	}}
}

// Check returns an error if the driver has answered nothing for too long. It does not wait
// for the driver: what it has begun to ask is known the next time.
func (p *Pulse) Check(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	if !p.asking && now.Sub(p.asked) >= pulseEvery {
		p.asking, p.asked = true, now
		whole := context.WithoutCancel(ctx) // the caller does not wait for the answer
		go func() { p.answered(whole, now, p.ask(whole)) }()
	}
	if quiet := now.Sub(p.silent); !p.silent.IsZero() && quiet > pulsePatience && p.unanswered >= pulseTries {
		return fmt.Errorf("the CSI driver has not answered Probe for %s", quiet.Round(time.Second))
	}
	return nil
}

// answered notes the end of a call that began at some time.
func (p *Pulse) answered(ctx context.Context, began time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asking = false
	if !isNoAnswer(err) {
		p.silent, p.unanswered = time.Time{}, 0
		return
	}
	if p.unanswered == 0 {
		p.silent = began
	}
	p.unanswered++
	klog.FromContext(ctx).Info("The CSI driver does not answer Probe", "since", p.silent, "calls", p.unanswered, "err", err)
}

// isNoAnswer reports whether the error of a call means that the driver did not answer. Any other
// error is an answer, which a restart would not change: that the driver is not ready, for instance.
func isNoAnswer(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	code := status.Code(err)
	return code == codes.DeadlineExceeded || code == codes.Unavailable
}
