package integration

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// collector is where traces are sent to.
type collector struct {
	collectorv1.UnimplementedTraceServiceServer

	// address of it as OTEL_EXPORTER_OTLP_ENDPOINT has it.
	address string

	mu       sync.Mutex
	spans    []*tracev1.Span
	services []string
}

// Export implements collectorv1.TraceServiceServer.
func (c *collector) Export(_ context.Context, req *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range req.GetResourceSpans() {
		for _, attribute := range resource.GetResource().GetAttributes() {
			if attribute.GetKey() == "service.name" {
				c.services = append(c.services, attribute.GetValue().GetStringValue())
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

// find returns the spans that have come and fit.
func (c *collector) find(fits func(*tracev1.Span) bool) []*tracev1.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []*tracev1.Span
	for _, span := range c.spans {
		if fits(span) {
			found = append(found, span)
		}
	}
	return found
}

// names returns what services call themselves.
func (c *collector) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.services)
	return slices.Compact(c.services)
}

// text returns everything that has come.
func (c *collector) text() string {
	var all strings.Builder
	for _, span := range c.find(func(*tracev1.Span) bool { return true }) {
		fmt.Fprintln(&all, span)
	}
	return all.String()
}

// traced starts a collector, and has provisioners that are started later send to it.
func traced(t *testing.T, env *kit.Env) *collector {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{address: "http://" + listener.Addr().String()}
	server := grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(server, c)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serving the collector: %v", err)
		}
	})
	env.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.address)
	env.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50") // ms
	return c
}

// about fits spans of that name about that object.
func about(name, kind, object string) func(*tracev1.Span) bool {
	return func(span *tracev1.Span) bool {
		return span.GetName() == name && attributeOf(span, "k8s."+kind+".name") == object
	}
}

func attributeOf(span *tracev1.Span, key string) string {
	for _, attribute := range span.GetAttributes() {
		if attribute.GetKey() == key {
			return attribute.GetValue().GetStringValue()
		}
	}
	return ""
}

// Each attempt at a claim, each deletion and each clean-up is a trace with the calls to
// the driver in it. The driver is told of the trace, and so is the log.
func TestTracesFollowAClaimToTheDriver(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	traces := traced(t, env)
	env.Setenv("OTEL_SERVICE_NAME", "acme-provisioner")
	var mu sync.Mutex
	parents := map[string]bool{} // of the calls that came to the driver
	var lost atomic.Bool
	for _, method := range []string{"CreateVolume", "DeleteVolume"} {
		env.Faults.On(method).Decide(func(ctx context.Context, _ any, work func(context.Context) (any, error)) (any, error) {
			incoming, _ := metadata.FromIncomingContext(ctx)
			mu.Lock()
			for _, parent := range incoming.Get("traceparent") {
				parents[parent] = true
			}
			mu.Unlock()
			if lost.Load() {
				return nil, status.Error(codes.Internal, "the backend has lost its way")
			}
			return work(ctx)
		})
	}
	p := env.StartProvisioner("--enable-otel-tracing")
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitBound("copy")
	pv := env.PV("copy").Name
	env.Delete("copy")
	env.WaitPVGone(pv)
	// One that fails until its deletion is seen, and is cleaned up then.
	lost.Store(true)
	env.Create(env.Claim("doomed", kit.CloneOf("src")))
	env.WaitEvent("doomed", "ProvisioningFailed")
	doomedPV := "pvc-" + string(env.Get("doomed").UID)
	env.Delete("doomed")
	untilSeen(env)
	lost.Store(false)
	env.WaitGone("doomed")
	p.Page("/healthz") // has the driver probed

	for _, c := range []struct{ name, kind, object, call string }{
		{"provision", "persistentvolumeclaim", "copy", "CreateVolume"},
		{"delete", "persistentvolume", pv, "DeleteVolume"},
		{"clean up", "persistentvolumeclaim", "doomed", "CreateVolume"},
		{"delete", "persistentvolume", doomedPV, "DeleteVolume"},
	} {
		env.Eventually(fmt.Sprintf("%s is in the trace %q of %s", c.call, c.name, c.object), func() error {
			var seen []string
			for _, outer := range traces.find(about(c.name, c.kind, c.object)) {
				calls := traces.find(func(span *tracev1.Span) bool {
					return slices.Equal(span.GetParentSpanId(), outer.GetSpanId()) && slices.Equal(span.GetTraceId(), outer.GetTraceId())
				})
				for _, call := range calls {
					seen = append(seen, call.GetName())
					parent := fmt.Sprintf("00-%s-%s-01", hex.EncodeToString(call.GetTraceId()), hex.EncodeToString(call.GetSpanId()))
					mu.Lock()
					told := parents[parent]
					mu.Unlock()
					if call.GetName() != "csi.v1.Controller/"+c.call || !told {
						continue
					}
					if !strings.Contains(p.Log(), hex.EncodeToString(outer.GetTraceId())) {
						return errors.New("the log does not have the trace")
					}
					return nil
				}
			}
			return fmt.Errorf("there are %q in it; everything that came:\n%s", seen, traces.text())
		})
	}
	failed := traces.find(func(span *tracev1.Span) bool {
		return about("provision", "persistentvolumeclaim", "doomed")(span) && span.GetStatus().GetCode() == tracev1.Status_STATUS_CODE_ERROR
	})
	if len(failed) == 0 || !strings.Contains(failed[0].GetStatus().GetMessage(), "the backend has lost its way") {
		t.Fatalf("the trace of the claim does not say why it failed: %v", failed)
	}
	if got := attributeOf(failed[0], "k8s.namespace.name"); got != env.Namespace {
		t.Errorf("the claim's namespace is %q in the trace", got)
	}
	if probes := traces.find(func(span *tracev1.Span) bool { return strings.Contains(span.GetName(), "Probe") }); len(probes) > 0 {
		t.Errorf("probes are traced: %v", probes)
	}
	if asked := traces.find(func(span *tracev1.Span) bool { return span.GetName() == "csi.v1.Identity/GetPluginInfo" }); len(asked) == 0 {
		t.Error("the driver was asked for its name, and that is not traced") // else the lack of probes proves nothing
	}
	if services := traces.names(); !slices.Equal(services, []string{"acme-provisioner"}) {
		t.Errorf("the service is called %q", services)
	}
	leave(env, "src")
}

// What is still unsent when a process is asked to stop is sent before it ends.
func TestTheLastTracesAreSent(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	traces := traced(t, env)
	env.Setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
	p := env.StartProvisioner("--enable-otel-tracing")
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	waitOffRecord(env, "data")
	if early := traces.text(); early != "" {
		t.Fatalf("sent before: %s", early)
	}
	if code := p.Stop(); code != 0 {
		t.Errorf("it ended with %d", code)
	}
	if len(traces.find(about("provision", "persistentvolumeclaim", "data"))) == 0 {
		t.Errorf("the claim's trace was not sent, only %s", traces.text())
	}
}

// A collector that is not there holds up neither claims nor the end of the process.
func TestNobodyWaitsForACollectorOfTraces(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	env.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	env.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "100")
	p := env.StartProvisioner("--enable-otel-tracing")
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	env.Eventually("the log says that traces are missing", func() error {
		if !strings.Contains(p.Log(), "traces may be missing") {
			return errors.New("it does not")
		}
		return nil
	})
	waitOffRecord(env, "data")       // nobody would take it off later
	if code := p.Stop(); code != 0 { // -1 if that takes too long
		t.Errorf("it ended with %d", code)
	}
}

// A setting of OpenTelemetry that is wrong is told as such, and without its value: headers
// hold what a collector asks for as a password.
func TestWrongSettingsOfTracesAreToldWithoutTheirValues(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization Bearer-hunter2")
	env.Setenv("OTEL_TRACES_SAMPLER", "sometimes")
	p := env.StartProvisioner("--enable-otel-tracing")
	for _, want := range []string{`"OpenTelemetry: parse headers" err="missing '="`, `"OpenTelemetry reports an error; traces may be missing" err="unsupported sampler: sometimes"`} {
		if !strings.Contains(p.Log(), want) {
			t.Errorf("the log lacks %s", want)
		}
	}
	if strings.Contains(p.Log(), "hunter2") {
		t.Error("the log has the headers")
	}
}

// waitOffRecord waits until the claim's work is done.
func waitOffRecord(env *kit.Env, claim string) {
	env.Eventually("claim "+claim+" is off record", func() error {
		if finalizers := env.Get(claim).Finalizers; slices.ContainsFunc(finalizers, func(f string) bool { return strings.HasSuffix(f, "/provisioning") }) {
			return fmt.Errorf("it has %q", finalizers)
		}
		return nil
	})
}
