package app

import (
	"errors"
	"math"
	"runtime/debug"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

func TestTuneMemory(t *testing.T) {
	const none = math.MaxInt64
	for _, c := range []struct {
		name        string
		cgroup      memlimit.Provider
		env         map[string]string
		ownGC       bool
		wantLimit   int64
		wantPercent int
	}{
		{"a container with a limit", memlimit.Limit(1000 << 20), nil, false, 900 << 20, gcPercent},
		{"a container without", func() (uint64, error) { return 0, memlimit.ErrNoLimit }, nil, false, none, gcPercent},
		{"no container", func() (uint64, error) { return 0, errors.New("no cgroup") }, nil, false, none, gcPercent},
		{"what the pod says goes before", memlimit.Limit(1000 << 20), map[string]string{"GOMEMLIMIT": "5MiB"}, true, none, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			for key, value := range c.env {
				t.Setenv(key, value)
			}
			limit, percent := debug.SetMemoryLimit(none), debug.SetGCPercent(100)
			defer func() {
				debug.SetMemoryLimit(limit)
				debug.SetGCPercent(percent)
			}()
			tuneMemory(t.Context(), c.cgroup, c.ownGC)
			if got := debug.SetMemoryLimit(-1); got != c.wantLimit {
				t.Errorf("the limit is %d bytes, want %d", got, c.wantLimit)
			}
			if got := debug.SetGCPercent(100); got != c.wantPercent {
				t.Errorf("GOGC is %d, want %d", got, c.wantPercent)
			}
		})
	}
}
