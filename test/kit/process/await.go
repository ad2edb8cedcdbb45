package process

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

const (
	// awaitPause is how long a condition is left alone before it is looked at again.
	awaitPause = 50 * time.Millisecond
	// awaitTail is how much of a log goes into an error.
	awaitTail = 20
)

// Await calls check until it returns nil. It gives up when ctx ends, and at once when the
// process does; p may be nil. The error says what was waited for, what check said last,
// and the end of the process's log.
func Await(ctx context.Context, p *Process, what string, check func(context.Context) error) error {
	var exited <-chan struct{}
	if p != nil {
		exited = p.Done()
	}
	ticker := time.NewTicker(awaitPause)
	defer ticker.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-exited:
			return fmt.Errorf("waiting until %s: %s ended (%s); the end of its log:\n%s", what, p.Name(), p.Fate(), p.LogTail(awaitTail))
		case <-ctx.Done():
			err = fmt.Errorf("waiting until %s: %w (%w)", what, ctx.Err(), err)
			if p != nil {
				err = fmt.Errorf("%w; the end of the log of %s:\n%s", err, p.Name(), p.LogTail(awaitTail))
			}
			return err
		}
	}
}

// Answers says whether a page answers with 200: what a process is often awaited for.
func Answers(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	return nil
}
