package kit

import (
	"context"
	"time"
)

const (
	// patience is how long Eventually waits: generous, because a good result
	// comes at once and only a bad one takes that long.
	patience = 10 * time.Minute
	// Checks follow each other quickly at first, then more slowly, so that many
	// tests that wait do not keep the API server busy.
	firstPause   = 50 * time.Millisecond
	longestPause = 500 * time.Millisecond
)

// Eventually calls check until it returns nil. After ten minutes the test fails
// with what was waited for, check's last error and the state of the test's
// objects.
func (e *Env) Eventually(what string, check func() error) {
	e.t.Helper()
	if err := e.try(patience, check); err != nil {
		e.t.Fatalf("waited %s for this: %s\nbut: %v\n%s", patience, what, err, e.state())
	}
}

// Steadily calls check for some time and fails the test as soon as it returns an
// error. It is for what must not happen.
func (e *Env) Steadily(what string, during time.Duration, check func() error) {
	e.t.Helper()
	var broken error
	e.poll(during, func() bool {
		broken = check()
		return broken != nil
	})
	if broken != nil {
		e.t.Fatalf("this should hold: %s\nbut: %v\n%s", what, broken, e.state())
	}
}

// try calls check until it returns nil or the time is over, and returns its last
// error.
func (e *Env) try(within time.Duration, check func() error) error {
	var err error
	e.poll(within, func() bool {
		err = check()
		return err == nil
	})
	return err
}

// poll calls done until it returns true or the time is over.
func (e *Env) poll(within time.Duration, done func() bool) {
	ctx, cancel := context.WithTimeout(e.Ctx, within)
	defer cancel()
	pause := firstPause
	for !done() {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = min(pause*5/4, longestPause)
	}
}
