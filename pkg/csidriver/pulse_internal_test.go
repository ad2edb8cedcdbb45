package csidriver

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	testingclock "k8s.io/utils/clock/testing"
)

// patient is a pulse with a clock that is moved by hand.
type patient struct {
	*Pulse
	hands *testingclock.FakeClock
}

func newPatient() patient {
	hands := testingclock.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	return patient{&Pulse{clock: hands}, hands}
}

// check has the driver asked every 20 seconds, as the kubelet does, and returns the last
// verdict. Each Probe ends with the error, and at once.
func (p patient) check(t *testing.T, times int, err error) error {
	t.Helper()
	var verdict error
	for range times {
		p.answered(t.Context(), p.hands.Now(), err)
		p.asking = true // none is made in the background
		verdict = p.Check(t.Context())
		p.hands.Step(pulseEvery)
	}
	return verdict
}

func TestAPulse(t *testing.T) {
	late, gone := status.Error(codes.DeadlineExceeded, "late"), status.Error(codes.Unavailable, "gone")
	for _, c := range []struct {
		name string
		do   func(patient) error
		want string
	}{
		{"a driver that answers", func(p patient) error { return p.check(t, 30, nil) }, ""},
		{"one that answers with an error", func(p patient) error { return p.check(t, 30, status.Error(codes.FailedPrecondition, "no")) }, ""},
		{"one that is slow for a while", func(p patient) error { return p.check(t, 15, late) }, ""},
		{"one that answers nothing", func(p patient) error { return p.check(t, 17, late) }, "the CSI driver has not answered Probe for 5m20s"},
		{"a context that ends counts, too", func(p patient) error { return p.check(t, 17, context.DeadlineExceeded) }, "the CSI driver has not answered Probe for 5m20s"},
		{"nor can be reached", func(p patient) error { return p.check(t, 17, gone) }, "the CSI driver has not answered Probe for 5m20s"},
		{"one that answers in between", func(p patient) error {
			_ = p.check(t, 15, late)
			_ = p.check(t, 1, nil)
			return p.check(t, 15, late)
		}, ""},
		{"one that comes back", func(p patient) error {
			_ = p.check(t, 40, late)
			_ = p.check(t, 1, nil)
			return p.check(t, 1, nil)
		}, ""},
		{"a process that was stopped itself", func(p patient) error {
			_ = p.check(t, 1, late)
			p.hands.Step(time.Hour)
			return p.check(t, 1, late)
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if err := c.do(newPatient()); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// However often somebody looks at health, the driver is asked one thing at a time, and
// nobody waits for it.
func TestAPulseIsTakenOnceAtATime(t *testing.T) {
	p := newPatient()
	asked, answer := make(chan struct{}), make(chan error)
	p.ask = func(context.Context) error {
		asked <- struct{}{}
		return <-answer
	}
	for range 5 {
		if err := p.Check(t.Context()); err != nil {
			t.Error(err)
		}
		p.hands.Step(pulseEvery)
	}
	<-asked
	select {
	case <-asked:
		t.Error("it was asked again before it answered")
	default:
	}
	answer <- nil
}
