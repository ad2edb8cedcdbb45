package planner

import (
	"context"

	"k8s.io/klog/v2"
)

// bodiesLevel is the verbosity from which client-go logs the bodies of API responses.
const bodiesLevel = 8

// withoutBodies returns a context whose logger never logs the bodies of API responses: they may
// be Secrets.
func withoutBodies(ctx context.Context) context.Context {
	logger := klog.FromContext(ctx)
	return klog.NewContext(ctx, logger.WithSink(bodilessSink{logger.GetSink()}))
}

// bodilessSink is a sink whose verbosity stays below bodiesLevel.
type bodilessSink struct{ klog.LogSink }

func (m bodilessSink) Enabled(level int) bool { return level < bodiesLevel && m.LogSink.Enabled(level) }

func (m bodilessSink) WithValues(pairs ...any) klog.LogSink {
	return bodilessSink{m.LogSink.WithValues(pairs...)}
}

func (m bodilessSink) WithName(name string) klog.LogSink {
	return bodilessSink{m.LogSink.WithName(name)}
}
