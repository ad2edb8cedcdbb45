package observe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/klog/v2"
)

// scope names the spans that are begun here, those about Kubernetes objects.
const scope = "github.com/csi-clone-provisioner/csi-clone-provisioner"

// lastSpans is how long StartTracing's stop waits for a collector.
const lastSpans = 2 * time.Second

// StartTracing has the spans of this process sent by OTLP over gRPC. Where to, how many
// and under which name of the service the environment says (OpenTelemetry specification,
// "Environment Variable Specification"). A collector that is not there costs lines in the
// log and nothing else. stop sends what is left.
//
// OpenTelemetry keeps the provider of a process in a global variable, which the library
// that makes the calls reads. It is set here and nowhere else.
func StartTracing(ctx context.Context, version string) (stop func(), err error) {
	logger := klog.FromContext(ctx)
	otel.SetLogger(logger.WithSink(terse{logger.GetSink()}))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { logger.Info("OpenTelemetry reports an error; traces may be missing", "err", err) }))
	sender, err := otlptracegrpc.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("making a client for the collector of traces: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "csi-clone-provisioner"), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		// What is right of it is in effect.
		logger.Info("Traces say less about this process than they should; set OTEL_RESOURCE_ATTRIBUTES to key=value, comma separated", "err", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(discreet{sender}), sdktrace.WithResource(about))
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSpans)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			logger.Info("The last traces could not be sent", "err", err)
		}
	}, nil
}

// Span begins a span about an object, within which calls to the driver are; end ends it
// with the outcome, whose text must be fit for everybody to read. Lines that are logged
// meanwhile have the span's trace. Without StartTracing nothing is traced.
func Span(ctx context.Context, name, kind string, object klog.KMetadata) (spanned context.Context, end func(error)) {
	ctx, span := otel.Tracer(scope).Start(ctx, name, trace.WithAttributes(
		attribute.String("k8s.namespace.name", object.GetNamespace()),
		attribute.String("k8s."+kind+".name", object.GetName())))
	if !span.IsRecording() {
		return ctx, func(error) { span.End() }
	}
	ctx = klog.NewContext(ctx, klog.FromContext(ctx).WithValues("traceID", span.SpanContext().TraceID()))
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

// discreet sends spans without what the driver says in its errors. There may be a secret
// in it, and the library notes it before we can look. What is fit to be read stands in the
// span around the call. Probes, by which health is watched, are left out.
type discreet struct {
	sdktrace.SpanExporter
}

// ExportSpans implements sdktrace.SpanExporter.
func (d discreet) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	var send []sdktrace.ReadOnlySpan
	for _, span := range spans {
		switch {
		case span.InstrumentationScope().Name == scope:
			send = append(send, span)
		case !strings.HasSuffix(span.Name(), "Identity/Probe"):
			send = append(send, wordless{span})
		}
	}
	if len(send) == 0 {
		return nil
	}
	return d.SpanExporter.ExportSpans(ctx, send) //nolint:wrapcheck // we are the exporter
}

// wordless is a span whose outcome is a code alone.
type wordless struct {
	sdktrace.ReadOnlySpan
}

// Status implements sdktrace.ReadOnlySpan.
func (w wordless) Status() sdktrace.Status {
	return sdktrace.Status{Code: w.ReadOnlySpan.Status().Code}
}

// Events implements sdktrace.ReadOnlySpan.
func (w wordless) Events() []sdktrace.Event { return nil }

// terse is a sink for what OpenTelemetry says of its settings. It leaves the values out:
// headers may hold what a collector asks for as a password.
type terse struct {
	klog.LogSink
}

// Info implements klog.LogSink.
func (t terse) Info(level int, msg string, _ ...any) { t.LogSink.Info(level, "OpenTelemetry: "+msg) }

// Error implements klog.LogSink.
func (t terse) Error(err error, msg string, _ ...any) { t.LogSink.Error(err, "OpenTelemetry: "+msg) }
