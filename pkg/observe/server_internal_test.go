package observe

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	testingclock "k8s.io/utils/clock/testing"
)

const component = "clone.example.com/csi-clone-provisioner"

// requested is one request about events, as it came in.
type requested struct {
	verb  string
	name  string // of the event
	claim string
	body  map[string]any
}

// apiServer keeps events like a real one, and fails where a real one cannot be
// made to.
type apiServer struct {
	*httptest.Server
	t *testing.T

	mu     sync.Mutex
	events map[string]*v1.Event
	log    []requested
	// before sees each request. What it returns other than 0 is the answer; a
	// request that it keeps waiting hangs.
	before func(requested, *http.Request) int
}

const broken = -1 // the answer of a connection that breaks

func startServer(t *testing.T) *apiServer {
	t.Helper()
	s := &apiServer{t: t, events: map[string]*v1.Event{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away
	}
	request := requested{verb: r.Method}
	event := &v1.Event{}
	if err := json.Unmarshal(data, &request.body); err != nil {
		s.t.Errorf("body %q: %v", data, err)
	}
	if r.Method == http.MethodPost {
		if err := json.Unmarshal(data, event); err != nil {
			s.t.Errorf("body %q: %v", data, err)
		}
		request.name = event.Name
		if want := "/api/v1/namespaces/" + event.Namespace + "/events"; r.URL.Path != want {
			s.t.Errorf("event sent to %s, want %s", r.URL.Path, want)
		}
	} else {
		request.name = r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	}
	request.claim = request.name[:strings.LastIndex(request.name, ".")]
	s.mu.Lock()
	s.log = append(s.log, request)
	before := s.before
	s.mu.Unlock()
	if before != nil {
		switch code := before(request, r); code {
		case 0:
		case broken:
			panic(http.ErrAbortHandler)
		default:
			answer(w, code, "")
			return
		}
	}
	s.keep(w, request, event)
}

// keep does what is asked for.
func (s *apiServer) keep(w http.ResponseWriter, request requested, event *v1.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, found := s.events[request.name]
	switch {
	case request.verb == http.MethodPost && found:
		answer(w, http.StatusConflict, metav1.StatusReasonAlreadyExists)
		return
	case request.verb == http.MethodPost:
		kept = event
		s.events[request.name] = kept
	case request.verb == http.MethodPatch && !found:
		answer(w, http.StatusNotFound, metav1.StatusReasonNotFound)
		return
	case request.verb == http.MethodPatch:
		data, err := json.Marshal(request.body)
		if err == nil {
			err = json.Unmarshal(data, kept)
		}
		if err != nil {
			s.t.Errorf("patch %v: %v", request.body, err)
		}
	default:
		s.t.Errorf("the recorder asked for %s, which it has no right to", request.verb)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(kept)
}

// answer refuses a request.
func answer(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: http.StatusText(code),
	})
}

func (s *apiServer) do(before func(requested, *http.Request) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

// requests returns what was asked for so far.
func (s *apiServer) requests() []requested {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

// kept returns the events, in the order in which kubectl describe shows them.
func (s *apiServer) kept() []v1.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	var events []v1.Event
	for _, event := range s.events {
		events = append(events, *event)
	}
	slices.SortFunc(events, func(a, b v1.Event) int {
		if order := a.LastTimestamp.Compare(b.LastTimestamp.Time); order != 0 {
			return order
		}
		return strings.Compare(a.Name, b.Name)
	})
	return events
}

// reasons returns those of the events, in order.
func (s *apiServer) reasons() string {
	var all []string
	for _, event := range s.kept() {
		all = append(all, event.Reason)
	}
	return strings.Join(all, " ")
}

// forget drops all events, as after an hour.
func (s *apiServer) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.events)
}

// start is when the clocks of tests begin.
func start() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) }

// client returns one that writes JSON, which this server reads.
func (s *apiServer) client(timeout time.Duration) kubernetes.Interface {
	s.t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: s.URL, QPS: -1, Timeout: timeout, ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeJSON},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return client
}

// startRecorder returns a recorder that talks to the server. It is stopped at
// the end of the test, whatever the server does.
func startRecorder(t *testing.T, s *apiServer) (*Recorder, *testingclock.FakeClock) {
	t.Helper()
	hands := testingclock.NewFakeClock(start())
	r := NewRecorder(t.Context(), s.client(0), component, hands)
	t.Cleanup(func() {
		r.cancel()
		r.Stop()
	})
	return r, hands
}

func claimOf(name string) *v1.PersistentVolumeClaim {
	return &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: name, UID: types.UID("uid-" + name), ResourceVersion: "17",
	}}
}

// eventually waits until what is expected has come true.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	patience := time.After(3 * time.Minute)
	for !condition() {
		select {
		case <-ticker.C:
		case <-patience:
			t.Fatalf("in vain: %s", what)
		}
	}
}

// idle waits until the recorder has nothing to send now.
func idle(t *testing.T, r *Recorder) {
	t.Helper()
	eventually(t, "the recorder is idle", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.senders == 0 && len(r.ready) == 0
	})
}
