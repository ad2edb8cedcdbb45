package app

import (
	"context"
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"k8s.io/klog/v2"
)

const (
	// gcPercent is how much the heap may grow, in per cent of what is in use, before
	// it is collected. Go's own is 100. Little garbage is made except while the caches
	// are filled, and that should not cost the pod memory that it never needs again.
	gcPercent = 50
	// limitShare is the part of the container's memory that Go may use; the rest is for
	// what Go does not count.
	limitShare = 0.9
)

// tuneMemory makes the process fit into its container: the nearer it is to the limit of
// its cgroup, the harder it works to stay below. The environment variables GOMEMLIMIT
// and GOGC (ownGC) go before (Go, package runtime).
func tuneMemory(ctx context.Context, cgroup memlimit.Provider, ownGC bool) {
	logger := klog.FromContext(ctx)
	if !ownGC {
		debug.SetGCPercent(gcPercent)
	}
	limit, err := memlimit.Set(memlimit.WithProvider(cgroup), memlimit.WithRatio(limitShare))
	switch {
	case err != nil:
		logger.V(2).Info("The memory limit of the container is not known, so none is kept to; GOMEMLIMIT sets one", "err", err)
	case limit != math.MaxInt64:
		logger.V(2).Info("Memory is limited", "bytes", limit)
	}
}
