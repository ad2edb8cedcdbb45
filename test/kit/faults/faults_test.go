package faults_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// patience bounds waiting for what must happen; nothing takes that long.
const patience = 3 * time.Minute

// memory is a driver that only remembers what it was told to make.
type memory struct {
	csi.UnimplementedControllerServer
	mu   sync.Mutex
	made []string
}

func (m *memory) CreateVolume(ctx context.Context, req *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if err := ctx.Err(); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made = append(m.made, req.GetName())
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{VolumeId: "id-" + req.GetName(), CapacityBytes: 7}}, nil
}

func (m *memory) DeleteVolume(context.Context, *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	return nil, status.Error(codes.FailedPrecondition, "in use")
}

func (m *memory) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.made...)
}

// bench is a driver behind an injector, and a client.
type bench struct {
	csi.ControllerClient
	driver *memory
	inj    *faults.Injector
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{driver: &memory{}, inj: faults.New()}
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(grpc.UnaryInterceptor(b.inj.Interceptor()))
	csi.RegisterControllerServer(server, b.driver)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:bench",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.inj.Reset()
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	b.ControllerClient = csi.NewControllerClient(conn)
	return b
}

// create asks for a volume and returns the code of the answer.
func (b *bench) create(ctx context.Context, name string) codes.Code {
	_, err := b.CreateVolume(ctx, &csi.CreateVolumeRequest{Name: name})
	return status.Code(err)
}

func (b *bench) waitIdle(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := b.inj.WaitIdle(ctx); err != nil {
		t.Fatal(err)
	}
}

func named(name string) func(any) bool {
	return faults.Request(func(req *csi.CreateVolumeRequest) bool { return req.GetName() == name })
}

func TestRulesChooseTheirCalls(t *testing.T) {
	const ok, bad, other = codes.OK, codes.Internal, codes.Aborted
	cases := []struct {
		name  string
		rules func(inj *faults.Injector)
		calls []string
		want  []codes.Code
	}{
		{
			name:  "without rules everything passes",
			rules: func(*faults.Injector) {},
			calls: []string{"a", "b"},
			want:  []codes.Code{ok, ok},
		},
		{
			name:  "a rule without count is for every call",
			rules: func(inj *faults.Injector) { inj.On("CreateVolume").Fail(bad, "x") },
			calls: []string{"a", "b"},
			want:  []codes.Code{bad, bad},
		},
		{
			name:  "a rule for another method is not for this one",
			rules: func(inj *faults.Injector) { inj.On("Volume").Fail(bad, "x"); inj.On("DeleteVolume").Fail(bad, "x") },
			calls: []string{"a"},
			want:  []codes.Code{ok},
		},
		{
			name: "the full method name and any method match too",
			rules: func(inj *faults.Injector) {
				inj.On("/csi.v1.Controller/CreateVolume").Nth(1).Fail(bad, "x")
				inj.On(faults.AnyMethod).Nth(2).Fail(other, "x")
			},
			calls: []string{"a", "b", "c"},
			want:  []codes.Code{bad, other, ok},
		},
		{
			name:  "Nth is for the n-th call only",
			rules: func(inj *faults.Injector) { inj.On("CreateVolume").Nth(2).Fail(bad, "x") },
			calls: []string{"a", "b", "c"},
			want:  []codes.Code{ok, bad, ok},
		},
		{
			name:  "Next is for the next n calls",
			rules: func(inj *faults.Injector) { inj.On("CreateVolume").Next(2).Fail(bad, "x") },
			calls: []string{"a", "b", "c"},
			want:  []codes.Code{bad, bad, ok},
		},
		{
			name: "two rules with Next take turns in order of registration",
			rules: func(inj *faults.Injector) {
				inj.On("CreateVolume").Next(1).Fail(bad, "x")
				inj.On("CreateVolume").Next(1).Fail(other, "x")
			},
			calls: []string{"a", "b", "c"},
			want:  []codes.Code{bad, other, ok},
		},
		{
			name:  "When picks requests and only these are counted",
			rules: func(inj *faults.Injector) { inj.On("CreateVolume").When(named("b")).Nth(2).Fail(bad, "x") },
			calls: []string{"b", "a", "b", "b"},
			want:  []codes.Code{ok, ok, bad, ok},
		},
		{
			name: "a predicate for another type never matches",
			rules: func(inj *faults.Injector) {
				inj.On(faults.AnyMethod).When(faults.Request(func(*csi.DeleteVolumeRequest) bool { return true })).Fail(bad, "x")
			},
			calls: []string{"a"},
			want:  []codes.Code{ok},
		},
		{
			name:  "a removed rule does nothing",
			rules: func(inj *faults.Injector) { inj.On("CreateVolume").Fail(bad, "x").Remove() },
			calls: []string{"a"},
			want:  []codes.Code{ok},
		},
		{
			name: "a delay and an outcome apply together",
			rules: func(inj *faults.Injector) {
				inj.On(faults.AnyMethod).Delay(time.Millisecond)
				inj.On("CreateVolume").Fail(bad, "x")
			},
			calls: []string{"a"},
			want:  []codes.Code{bad},
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			tc.rules(b.inj)
			for i, name := range tc.calls {
				if got := b.create(t.Context(), name); got != tc.want[i] {
					t.Errorf("call %d (%q) got %s, want %s", i+1, name, got, tc.want[i])
				}
			}
		})
	}
}

func TestResetForgetsRulesAndCallsAndOpensGates(t *testing.T) {
	b := newBench(t)
	b.inj.On("CreateVolume").When(named("b")).Fail(codes.Internal, "x")
	gate := b.inj.On("CreateVolume").When(named("a")).Gate()
	answer := make(chan codes.Code, 1)
	go func() { answer <- b.create(context.Background(), "a") }()
	<-gate.Entered()
	b.inj.Reset()
	if got := <-answer; got != codes.OK {
		t.Fatalf("the call at the gate got %s, want OK", got)
	}
	if calls := b.inj.Calls(faults.AnyMethod); len(calls) != 0 {
		t.Fatalf("%d calls on record after Reset, want none", len(calls))
	}
	if got := b.create(t.Context(), "b"); got != codes.OK {
		t.Fatalf("got %s, want OK without the rule", got)
	}
}

func TestManyCallsAtOnceAreCountedOnceEach(t *testing.T) {
	b := newBench(t)
	failing := b.inj.On("CreateVolume").Next(10).Fail(codes.Internal, "x")
	gate := b.inj.On("CreateVolume").Gate()
	var wg sync.WaitGroup
	answers := make(chan codes.Code, 50)
	for range 50 {
		wg.Go(func() { answers <- b.create(context.Background(), "a") })
	}
	<-gate.EnteredBy(50)
	gate.Release()
	wg.Wait()
	close(answers)
	bad := 0
	for code := range answers {
		if code == codes.Internal {
			bad++
		}
	}
	if bad != 10 || failing.Hits() != 10 || len(b.driver.names()) != 40 || len(b.inj.Calls("CreateVolume")) != 50 {
		t.Fatalf("%d failed, %d hits, %d made, %d on record; want 10, 10, 40, 50",
			bad, failing.Hits(), len(b.driver.names()), len(b.inj.Calls("CreateVolume")))
	}
}
