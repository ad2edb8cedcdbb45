package csidriver

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A call that is not answered in time is told in the same words each time, so that a
// claim has one event for it.
func TestInTime(t *testing.T) {
	const late = "rpc error: code = DeadlineExceeded desc = no answer within 3s"
	open, over := context.Background(), func() context.Context {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return ctx
	}()
	for _, c := range []struct {
		name      string
		ctx, call context.Context
		code      codes.Code
		message   string
		want      string
	}{
		{"we noticed first", open, over, codes.DeadlineExceeded, "context deadline exceeded", late},
		{"the stream was ended", open, over, codes.DeadlineExceeded, "stream terminated by RST_STREAM with error code: CANCEL", late},
		{"the driver noticed first", open, open, codes.DeadlineExceeded, "context deadline exceeded", late},
		{"the driver's work was cancelled", open, open, codes.Canceled, "context canceled", late},
		{"the driver has a deadline of its own", open, open, codes.DeadlineExceeded, "the backend is slow", "rpc error: code = DeadlineExceeded desc = the backend is slow"},
		{"the process ends", over, over, codes.Canceled, "context canceled", "rpc error: code = Canceled desc = context canceled"},
		{"another error", open, over, codes.Aborted, "busy", "rpc error: code = Aborted desc = busy"},
	} {
		d := &Driver{timeout: 3 * time.Second}
		if got := d.inTime(c.ctx, c.call, status.Error(c.code, c.message)); got.Error() != c.want {
			t.Errorf("%s: got  %s\nwant %s", c.name, got, c.want)
		}
	}
	if err := new(Driver).inTime(open, over, nil); err != nil {
		t.Errorf("an answer became %v", err)
	}
}
