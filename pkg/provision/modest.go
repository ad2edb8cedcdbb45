package provision

import (
	"context"

	"k8s.io/klog/v2"
)

// bodies is the verbosity from which on client-go logs the answers of the API server.
const bodies = 8

// withoutBodies returns a context whose logger logs no answers of the API server, however
// much else is logged: for the reading of Secrets.
func withoutBodies(ctx context.Context) context.Context {
	logger := klog.FromContext(ctx)
	return klog.NewContext(ctx, logger.WithSink(modest{logger.GetSink()}))
}

// modest is a sink that is never as verbose as bodies.
type modest struct{ klog.LogSink }

func (m modest) Enabled(level int) bool { return level < bodies && m.LogSink.Enabled(level) }

func (m modest) WithValues(pairs ...any) klog.LogSink {
	return modest{m.LogSink.WithValues(pairs...)}
}

func (m modest) WithName(name string) klog.LogSink { return modest{m.LogSink.WithName(name)} }
