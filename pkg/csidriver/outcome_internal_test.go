package csidriver

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		name, call, volume string
		err                error
		want               string
	}{
		{
			"an answer is quoted last", "CreateVolume", "pvc-1", status.Error(codes.ResourceExhausted, "pool is full"),
			`driver "clone.example.com" answered CreateVolume for volume "pvc-1": rpc error: code = ResourceExhausted desc = pool is full`,
		},
		{
			"no answer in time is said plainly", "DeleteVolume", "handle-1", status.Error(codes.DeadlineExceeded, "context deadline exceeded"),
			`driver "clone.example.com" has not answered DeleteVolume for volume "handle-1" in time; it is asked again: rpc error: code = DeadlineExceeded desc = context deadline exceeded`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := explain("clone.example.com", c.call, c.volume, c.err)
			if err.Error() != c.want {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
			if status.Code(errors.Unwrap(err)) != status.Code(c.err) || Classify(err).Proof != Classify(c.err).Proof {
				t.Error("the status cannot be reached any more")
			}
		})
	}
}
