package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/gateway"
)

// patience bounds waiting for what must happen; nothing takes that long.
const patience = 3 * time.Minute

const claims = "/api/v1/namespaces/ns/persistentvolumeclaims"

// upstream stands for the API server: it notes what it was asked for and sends the
// lines of a watch that the test gives it.
type upstream struct {
	mu     sync.Mutex
	seen   []string
	events chan string
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	u.mu.Lock()
	u.seen = append(u.seen, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+string(body)))
	u.mu.Unlock()
	w.Header().Set("Authorized", r.Header.Get("Authorization"))
	if r.URL.Query().Get("watch") != "true" {
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "did %s", body)
		return
	}
	w.WriteHeader(http.StatusOK)
	for {
		_ = http.NewResponseController(w).Flush()
		select {
		case line, more := <-u.events:
			if !more {
				return
			}
			fmt.Fprintln(w, line)
		case <-r.Context().Done():
			return
		}
	}
}

func (u *upstream) did() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.seen)
}

// newBench returns a gateway to an upstream.
func newBench(t *testing.T) (*gateway.Gateway, *upstream) {
	t.Helper()
	u := &upstream{events: make(chan string, 100)}
	server := httptest.NewUnstartedServer(u)
	server.EnableHTTP2 = true // as the API server does
	server.StartTLS()
	g, err := gateway.Start(server.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), "the gateway's")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		server.Close()
	})
	return g, u
}

// send makes a request and returns its status and answer; 0 and the error when it
// got none.
func send(ctx context.Context, g *gateway.Gateway, method, path, body string) (int, string) {
	request, err := http.NewRequestWithContext(ctx, method, g.URL()+path, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(answer)
}

func create(g *gateway.Gateway, body string) int {
	code, _ := send(context.Background(), g, http.MethodPost, claims, body)
	return code
}

func TestWithoutRulesEverythingPasses(t *testing.T) {
	g, u := newBench(t)
	for token, want := range map[string]string{"": "Bearer the gateway's", "Bearer mine": "Bearer mine"} {
		code, answer, header := post(t, g, token)
		if code != http.StatusCreated || string(answer) != "did body" || header.Get("Authorized") != want {
			t.Errorf("answer is %d %q, token %q", code, answer, header.Get("Authorized"))
		}
	}
	if did := u.did(); len(did) != 2 || did[0] != "POST "+claims+" body" {
		t.Errorf("upstream saw %q", did)
	}
	if err := g.WaitRequests(t.Context(), "create", "persistentvolumeclaims", 2); err != nil {
		t.Fatal(err)
	}
	r := g.Requests("create", "persistentvolumeclaims")[0]
	if r.Namespace != "ns" || r.Size() != 4 || r.Status != http.StatusCreated || !r.Forwarded || !r.Answered || r.End.Before(r.Start) {
		t.Errorf("on the list it is %+v", r)
	}
}

// post sends "body" and returns all of the answer.
func post(t *testing.T, g *gateway.Gateway, token string) (int, []byte, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.URL()+claims, strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, answer, response.Header
}

func TestRulesChooseTheirRequests(t *testing.T) {
	const ok, cut, bad = http.StatusCreated, 0, http.StatusServiceUnavailable
	down := apierrors.NewServiceUnavailable("down")
	cases := []struct {
		name  string
		rules func(g *gateway.Gateway)
		want  []int
	}{
		{"another verb", func(g *gateway.Gateway) { g.On("patch", gateway.Any).Drop() }, []int{ok}},
		{"another resource", func(g *gateway.Gateway) { g.On(gateway.Any, "persistentvolumes").Drop() }, []int{ok}},
		{"a subresource", func(g *gateway.Gateway) { g.On(gateway.Any, "persistentvolumeclaims/status").Drop() }, []int{ok}},
		{"another name", func(g *gateway.Gateway) { g.On(gateway.Any, gateway.Any).Named("x").Drop() }, []int{ok}},
		{"verb and resource", func(g *gateway.Gateway) { g.On("create", "persistentvolumeclaims").Drop() }, []int{cut, cut}},
		{"all writes", func(g *gateway.Gateway) { g.On(gateway.Any, gateway.Any).When(gateway.Request.Write).Drop() }, []int{cut}},
		{"the second", func(g *gateway.Gateway) { g.On("create", gateway.Any).Nth(2).Drop() }, []int{ok, cut, ok}},
		{"the next two", func(g *gateway.Gateway) { g.On("create", gateway.Any).Next(2).Drop() }, []int{cut, cut, ok}},
		{"two rules take turns", func(g *gateway.Gateway) {
			g.On("create", gateway.Any).Next(1).Drop()
			g.On("create", gateway.Any).Next(1).Answer(down)
		}, []int{cut, bad, ok}},
		{"by what is sent, and only that is counted", func(g *gateway.Gateway) {
			g.On("create", gateway.Any).When(func(r gateway.Request) bool { return string(r.Body) != "1" }).Nth(2).Drop()
		}, []int{ok, ok, cut, ok}},
		{"a removed rule", func(g *gateway.Gateway) { g.On("create", gateway.Any).Drop().Remove() }, []int{ok}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g, _ := newBench(t)
			c.rules(g)
			for i, want := range c.want {
				if got := create(g, fmt.Sprint(i+1)); got != want {
					t.Errorf("request %d got %d, want %d", i+1, got, want)
				}
			}
		})
	}
}

func TestWhatBecomesOfARequest(t *testing.T) {
	cases := []struct {
		name      string
		rule      func(gateway.Selector) *gateway.Rule
		code      int
		forwarded bool
		answered  bool
		status    int
	}{
		{"passed on", func(s gateway.Selector) *gateway.Rule { return s.Before(func(gateway.Request) {}) }, 201, true, true, 201},
		{"dropped", gateway.Selector.Drop, 0, false, false, 0},
		{"done, and the answer lost", gateway.Selector.LoseReply, 0, true, false, 201},
		{"answered by a rule", func(s gateway.Selector) *gateway.Rule {
			return s.Answer(apierrors.NewForbidden(schema.GroupResource{Resource: "x"}, "y", nil))
		}, 403, false, true, 403},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g, u := newBench(t)
			rule := c.rule(g.On("create", "persistentvolumeclaims"))
			if code := create(g, "body"); code != c.code {
				t.Errorf("the caller got %d, want %d", code, c.code)
			}
			r := g.Requests(gateway.Any, gateway.Any)[0]
			if r.Forwarded != c.forwarded || len(u.did()) == 1 != c.forwarded || r.Answered != c.answered || r.Status != c.status {
				t.Errorf("on the list it is %+v; upstream saw %q", r, u.did())
			}
			if rule.Hits() != 1 {
				t.Errorf("%d hits, want 1", rule.Hits())
			}
		})
	}
}

func TestAnAnswerIsTheStatusThatClientsRead(t *testing.T) {
	g, _ := newBench(t)
	g.On("create", gateway.Any).Answer(apierrors.NewTooManyRequests("slowly", 7))
	_, answer, header := post(t, g, "")
	var status metav1.Status
	if err := json.Unmarshal(answer, &status); err != nil {
		t.Fatal(err)
	}
	if status.Kind != "Status" || status.Reason != metav1.StatusReasonTooManyRequests || header.Get("Retry-After") != "7" {
		t.Errorf("the answer is %+v, Retry-After %q", status, header.Get("Retry-After"))
	}
}

func TestGatesAndHooksStandBeforeTheWorkAndAfterIt(t *testing.T) {
	// A hook that holds the request as long as the test likes.
	hooked := func(register func(func(gateway.Request)) *gateway.Rule) (<-chan struct{}, func()) {
		held, release := make(chan struct{}), make(chan struct{})
		register(func(gateway.Request) { close(held); <-release })
		return held, func() { close(release) }
	}
	cases := map[string]struct {
		hold func(s gateway.Selector) (held <-chan struct{}, release func())
		// status and seen are what is known, and what upstream has seen, meanwhile.
		status, seen int
	}{
		"a gate": {func(s gateway.Selector) (<-chan struct{}, func()) {
			gate := s.Gate()
			return gate.Entered(), gate.Release
		}, 0, 0},
		"a gate for the answer": {func(s gateway.Selector) (<-chan struct{}, func()) {
			gate := s.GateReply()
			return gate.Entered(), gate.Release
		}, 201, 1},
		"a hook before": {func(s gateway.Selector) (<-chan struct{}, func()) { return hooked(s.Before) }, 0, 0},
		"a hook after":  {func(s gateway.Selector) (<-chan struct{}, func()) { return hooked(s.After) }, 201, 1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			g, u := newBench(t)
			held, release := c.hold(g.On("create", gateway.Any))
			code := make(chan int, 1)
			go func() { code <- create(g, "body") }()
			<-held
			if r := g.Requests("create", gateway.Any)[0]; r.Status != c.status || len(u.did()) != c.seen {
				t.Errorf("held, the status is %d and upstream saw %q; want %d and %d", r.Status, u.did(), c.status, c.seen)
			}
			select {
			case got := <-code:
				t.Errorf("the caller got %d while it was held", got)
			default:
			}
			release()
			if got := <-code; got != http.StatusCreated || len(u.did()) != 1 {
				t.Errorf("the caller got %d, upstream saw %q", got, u.did())
			}
		})
	}
}

func TestACallerThatGoesAwayAtAGateTakesItsRequestAlong(t *testing.T) {
	g, u := newBench(t)
	gate := g.On("create", gateway.Any).Gate()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-gate.Entered(); cancel() }()
	if code, _ := send(ctx, g, http.MethodPost, claims, "body"); code != 0 {
		t.Errorf("the caller got %d", code)
	}
	if err := g.WaitRequests(t.Context(), "create", gateway.Any, 1); err != nil {
		t.Fatal(err)
	}
	gate.Release()
	if did := u.did(); len(did) != 0 {
		t.Errorf("upstream saw %q", did)
	}
}

// watch opens a watch and returns its lines; the channel is closed when it ends,
// after a line that says how.
func watch(t *testing.T, g *gateway.Gateway, path string) <-chan string {
	t.Helper()
	lines := make(chan string, 100)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.URL()+path+"?watch=true", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request) //nolint:bodyclose // the goroutine does that
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(lines)
		defer response.Body.Close()
		scanner := bufio.NewScanner(response.Body)
		for scanner.Scan() {
			lines <- scanner.Text()
		}
		lines <- fmt.Sprintf("%s, %v", response.Status, scanner.Err())
	}()
	return lines
}

func TestEventsFlowAndTheEndIsPassedOn(t *testing.T) {
	g, u := newBench(t)
	lines := watch(t, g, claims)
	for _, line := range []string{"a", "b"} {
		u.events <- line
		if got := <-lines; got != line {
			t.Errorf("got %q, want %q", got, line)
		}
	}
	if n := g.Watches("persistentvolumeclaims"); n != 1 {
		t.Errorf("%d watches are open, want 1", n)
	}
	close(u.events)
	if got := <-lines; got != "200 OK, <nil>" {
		t.Errorf("the end is %q, want a clean one", got)
	}
}

func TestAStallHoldsTheEventsOfItsResourceInOrder(t *testing.T) {
	g, u := newBench(t)
	early := watch(t, g, claims)
	u.events <- "early"
	if got := <-early; got != "early" {
		t.Fatalf("got %q", got)
	}
	stall := g.Stall("persistentvolumeclaims")
	u.events <- "1"
	u.events <- "2"
	await(t, "both events are held", func() bool { return stall.Held() == len("1\n2\n") })
	if n := len(early); n != 0 {
		t.Errorf("%d events were not held", n)
	}
	stall.Release()
	stall.Release() // harmless
	for _, want := range []string{"1", "2"} {
		if got := <-early; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}

	// One opened under a stall is held, too; one of another resource is not.
	again := g.Stall("persistentvolumeclaims")
	if g.Cut("persistentvolumeclaims") != 1 {
		t.Error("there should have been one watch to cut")
	}
	<-early
	await(t, "the first watch has ended", func() bool { return g.Watches(gateway.Any) == 0 })
	late := watch(t, g, claims)
	u.events <- "late"
	await(t, "the event is held", func() bool { return again.Held() > 0 })
	g.Reset()
	if got := <-late; got != "late" {
		t.Errorf("got %q", got)
	}
	g.Cut(gateway.Any)
	await(t, "the second watch has ended", func() bool { return g.Watches(gateway.Any) == 0 })
	g.Stall("persistentvolumeclaims")
	other := watch(t, g, "/apis/storage.k8s.io/v1/storageclasses")
	u.events <- "other"
	if got := <-other; got != "other" {
		t.Errorf("got %q", got)
	}
}

func TestWatchesAreCutAndExpire(t *testing.T) {
	g, _ := newBench(t)
	lines, others := watch(t, g, claims), watch(t, g, "/api/v1/persistentvolumes")
	if n := g.Cut("persistentvolumeclaims"); n != 1 {
		t.Errorf("%d were cut, want 1", n)
	}
	if got := <-lines; got != "200 OK, unexpected EOF" {
		t.Errorf("the end is %q, want a rude one", got)
	}
	if n := g.Expire("persistentvolumes"); n != 1 {
		t.Errorf("%d have expired, want 1", n)
	}
	<-others
	again := watch(t, g, "/api/v1/persistentvolumes")
	var last string
	for line := range again {
		last = line
	}
	if last != "410 Gone, <nil>" {
		t.Errorf("the second watch ended with %q, want 410", last)
	}
	watch(t, g, "/api/v1/persistentvolumes")
	await(t, "the third watch is open", func() bool { return g.Watches("persistentvolumes") == 1 })
}

func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !so() {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("waited %s for this: %s", patience, what)
		}
	}
}

func TestAnUpstreamThatCannotBeTrustedOrReachedIsAnError(t *testing.T) {
	if _, err := gateway.Start("https://127.0.0.1:1", []byte("none"), ""); err == nil {
		t.Error("an authority without a certificate is no error")
	}
	server := httptest.NewTLSServer(http.NotFoundHandler())
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	server.Close()
	g, err := gateway.Start(server.URL, authority, "")
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if code := create(g, "body"); code != 0 {
		t.Errorf("got %d from a server that is gone", code)
	}
}
