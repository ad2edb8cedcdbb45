package inuse_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/inuse"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

func event(t *testing.T, kind string, object any) metav1.WatchEvent {
	t.Helper()
	raw, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: raw}}
}

// watchFrom is a server whose watches are fed by the channel.
func watchFrom(events <-chan metav1.WatchEvent) *server {
	return &server{watches: func(int) (int, <-chan metav1.WatchEvent) { return http.StatusOK, events }}
}

// again waits until a namespace can be watched anew, and is.
func again(t *testing.T, pods *inuse.Pods, s *server, want int) {
	t.Helper()
	ticker, deadline := time.NewTicker(time.Millisecond), time.After(3*time.Minute)
	defer ticker.Stop()
	for {
		pods.Watch("shop", "7")
		if _, watches := s.counts(); watches >= want {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatal("the namespace is not watched again")
		}
	}
}

func TestThePodThatEndsWakesWhoWaitsForIt(t *testing.T) {
	events := make(chan metav1.WatchEvent)
	s := watchFrom(events)
	pods, waiters, _ := world(t, s)
	pods.Watch("shop", "7")
	pods.Watch("shop", "9") // is on already
	events <- event(t, "ADDED", podOf("late", "db"))
	events <- event(t, "MODIFIED", podOf("late", "db"))
	events <- event(t, "DELETED", podOf("app", "db", "logs"))
	for _, claim := range []string{"db", "logs"} {
		if got := waiters.next(t); got != waitlist.PodsOf("shop", claim) {
			t.Errorf("woken: %+v, want who waits for pods of %q", got, claim)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watched != 1 || !strings.Contains(s.queries[0], "resourceVersion=7") || !strings.Contains(s.queries[0], "status.phase%21%3DFailed") {
		t.Errorf("%d watches: %v", s.watched, s.queries)
	}
}

// Two claims look one after the other, but the second is faster: what the first
// waits for may have ended before the watch begins.
func TestWhoLookedBeforeTheWatchBeganLooksAgain(t *testing.T) {
	pods, waiters, _ := world(t, watchFrom(make(chan metav1.WatchEvent)))
	pods.Watch("shop", "10")
	pods.Watch("shop", "10")
	if n := len(waiters.woken); n > 0 {
		t.Errorf("%d were woken for nothing", n)
	}
	pods.Watch("shop", "9") // versions are numbers, not words
	if got := waiters.next(t); got != waitlist.PodsIn("shop") {
		t.Errorf("woken: %+v", got)
	}
}

func TestAWatchGoesOnWhereItWasCutOff(t *testing.T) {
	first, second := make(chan metav1.WatchEvent), make(chan metav1.WatchEvent)
	s := &server{watches: func(n int) (int, <-chan metav1.WatchEvent) {
		return http.StatusOK, []<-chan metav1.WatchEvent{first, second}[n]
	}}
	pods, waiters, _ := world(t, s)
	pods.Watch("shop", "7")
	first <- event(t, "ADDED", podOf("late", "db"))
	close(first)
	second <- event(t, "DELETED", podOf("late", "db"))
	if got := waiters.next(t); got != waitlist.PodsOf("shop", "db") {
		t.Errorf("woken: %+v", got)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !strings.Contains(s.queries[1], "resourceVersion=12") {
		t.Errorf("the second watch is %s", s.queries[1])
	}
}

// What happened since an expired version is not known: everybody looks again.
func TestAnExpiredWatchWakesAllOfTheNamespace(t *testing.T) {
	events := make(chan metav1.WatchEvent)
	s := watchFrom(events)
	pods, waiters, _ := world(t, s)
	pods.Watch("shop", "7")
	events <- event(t, "ERROR", failure(http.StatusGone, metav1.StatusReasonExpired))
	if got := waiters.next(t); got != waitlist.PodsIn("shop") {
		t.Errorf("woken: %+v", got)
	}
	again(t, pods, s, 2)
}

func TestWithoutTheRightToWatchATimerWakes(t *testing.T) {
	s := &server{watches: func(int) (int, <-chan metav1.WatchEvent) { return http.StatusForbidden, nil }}
	pods, waiters, hands := world(t, s)
	pods.Watch("shop", "7")
	for pauses := 0; ; pauses++ {
		select {
		case hands.ticks <- time.Now():
			continue // the pause, or a look whether anybody waits
		case got := <-waiters.woken:
			if got != waitlist.PodsIn("shop") || pauses == 0 {
				t.Errorf("woken after %d ticks: %+v", pauses, got)
			}
			return
		}
	}
}

func TestAWatchThatIsRefusedWithoutAReasonIsTakenUpSoon(t *testing.T) {
	s := &server{
		watches: func(int) (int, <-chan metav1.WatchEvent) { return http.StatusForbidden, nil },
		reviews: func(n int) (int, any) {
			if n == 0 {
				return forbidden()
			}
			return granted(true)
		},
	}
	pods, waiters, hands := world(t, s)
	hands.longest = 2 * time.Second
	pods.Watch("shop", "7")
	if got := waiters.next(t); got != waitlist.PodsIn("shop") {
		t.Errorf("woken: %+v", got)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reviewed != 2 {
		t.Errorf("it was asked %d times what RBAC grants, want 2: until there is an answer", s.reviewed)
	}
}

func TestAWatchEndsWhenNobodyWaits(t *testing.T) {
	events := make(chan metav1.WatchEvent)
	s := watchFrom(events)
	pods, waiters, hands := world(t, s)
	pods.Watch("shop", "7")
	hands.ticks <- time.Now() // somebody waits
	events <- event(t, "DELETED", podOf("app", "db"))
	waiters.next(t)
	waiters.await(false)
	hands.ticks <- time.Now()
	again(t, pods, s, 2)
	if n := len(waiters.woken); n > 0 {
		t.Errorf("%d were woken for nothing", n)
	}
}
