package inuse_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/inuse"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

// server is an API server that answers when it is told to, which a real one cannot
// be made to do.
type server struct {
	mu      sync.Mutex
	queries []string
	// lists answers the n-th list, from 0.
	lists func(n int) (int, any)
	// watches answers the n-th watch with events, one after the other.
	watches func(n int) (int, <-chan metav1.WatchEvent)
	// reviews answers the n-th question what RBAC grants, which is nothing if it is
	// nil.
	reviews  func(n int) (int, any)
	listed   int
	reviewed int
	watched  int
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodPost {
		s.review(w)
		return
	}
	watching := r.URL.Query().Get("watch") != ""
	s.mu.Lock()
	s.queries = append(s.queries, r.URL.Path+"?"+r.URL.RawQuery)
	list, watch := s.listed, s.watched
	if watching {
		s.watched++
	} else {
		s.listed++
	}
	s.mu.Unlock()
	if !watching {
		code, body := s.lists(list)
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(body)
		return
	}
	code, events := s.watches(watch)
	w.WriteHeader(code)
	if code != http.StatusOK {
		_ = json.NewEncoder(w).Encode(failure(int32(code), metav1.StatusReasonForbidden))
		return
	}
	flush := func() { w.(http.Flusher).Flush() }
	flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case event, open := <-events:
			if !open {
				return
			}
			_ = json.NewEncoder(w).Encode(event)
			flush()
		}
	}
}

func (s *server) review(w http.ResponseWriter) {
	s.mu.Lock()
	n := s.reviewed
	s.reviewed++
	s.mu.Unlock()
	code, body := granted(false)
	if s.reviews != nil {
		code, body = s.reviews(n)
	}
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

// granted is an answer to the question what RBAC grants.
func granted(yes bool) (int, any) {
	return http.StatusCreated, authorizationv1.SelfSubjectAccessReview{
		TypeMeta: metav1.TypeMeta{Kind: "SelfSubjectAccessReview", APIVersion: "authorization.k8s.io/v1"},
		Status:   authorizationv1.SubjectAccessReviewStatus{Allowed: yes},
	}
}

// forbidden is the answer of an API server that has not read its roles, whatever the
// question.
func forbidden() (int, any) {
	return http.StatusForbidden, failure(http.StatusForbidden, metav1.StatusReasonForbidden)
}

func (s *server) counts() (lists, watches int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listed, s.watched
}

// failure is an answer that says why not.
func failure(code int32, reason metav1.StatusReason) metav1.Status {
	return metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: code, Reason: reason, Message: "test"}
}

// podList is an answer with the pods.
func podList(version, more string, pods ...v1.Pod) v1.PodList {
	return v1.PodList{
		TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"},
		ListMeta: metav1.ListMeta{ResourceVersion: version, Continue: more}, Items: pods,
	}
}

// podOf mounts the claims.
func podOf(name string, claims ...string) v1.Pod {
	pod := v1.Pod{
		TypeMeta:   metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, ResourceVersion: "12"},
	}
	for _, claim := range claims {
		pod.Spec.Volumes = append(pod.Spec.Volumes, v1.Volume{Name: "v-" + claim, VolumeSource: v1.VolumeSource{
			PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}})
	}
	return pod
}

// hands is a clock that is moved by hand.
type hands struct {
	clock.RealClock
	mu    sync.Mutex
	ahead time.Duration
	ticks chan time.Time
	// longest pause that is real; 0 for less than a second.
	longest time.Duration
}

func (h *hands) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.RealClock.Now().Add(h.ahead)
}

func (h *hands) Since(t time.Time) time.Duration { return h.Now().Sub(t) }

func (h *hands) move(by time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ahead += by
}

// After is over at the next tick; but the short pause between two looks is real.
func (h *hands) After(d time.Duration) <-chan time.Time {
	if d < max(time.Second, h.longest) {
		return h.RealClock.After(d)
	}
	return h.ticks
}

// NewTicker ticks when the test says so.
func (h *hands) NewTicker(time.Duration) clock.Ticker { return ticker{h} }

type ticker struct{ *hands }

func (t ticker) C() <-chan time.Time { return t.ticks }
func (t ticker) Stop()               {}

// waiters notes who was woken.
type waiters struct {
	mu      sync.Mutex
	awaited bool
	woken   chan waitlist.Object
}

func (w *waiters) Wake(object waitlist.Object) { w.woken <- object }

func (w *waiters) Awaited(waitlist.Object) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.awaited
}

func (w *waiters) await(yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.awaited = yes
}

// next returns who was woken next.
func (w *waiters) next(t *testing.T) waitlist.Object {
	t.Helper()
	select {
	case object := <-w.woken:
		return object
	case <-time.After(3 * time.Minute):
		t.Fatal("nobody was woken")
		return waitlist.Object{}
	}
}

// world is Pods in front of the server.
func world(t *testing.T, s *server) (*inuse.Pods, *waiters, *hands) {
	t.Helper()
	web := httptest.NewServer(s)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: web.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	w, h := &waiters{woken: make(chan waitlist.Object, 100), awaited: true}, &hands{ticks: make(chan time.Time)}
	pods := inuse.New(client, w, h)
	pods.Start(t.Context())
	t.Cleanup(func() {
		pods.Wait() // the test's context has ended
		web.CloseClientConnections()
		web.Close()
	})
	return pods, w, h
}
