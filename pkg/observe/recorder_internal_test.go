package observe

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

func notFound() verdict.Verdict {
	return verdict.Waiting(verdict.CloneSourceNotFound, "clone waits for %q", "db")
}

func notBound() verdict.Verdict {
	return verdict.Waiting(verdict.CloneSourceNotBound, "clone waits until %q is bound", "db")
}

func tooSmall() verdict.Verdict { return verdict.Refused(verdict.CloneTooSmall, "it is too small") }

func TestAThingIsSaidOncePerChange(t *testing.T) {
	silent := verdict.Ignored("", "it has a PV")
	for _, c := range []struct {
		name string
		say  []verdict.Verdict
		want string // verbs
		last verdict.Reason
	}{
		{"nothing to say", []verdict.Verdict{silent, {}}, "", ""},
		{"the same again", []verdict.Verdict{notFound(), notFound(), notFound()}, "POST", verdict.CloneSourceNotFound},
		{"another one", []verdict.Verdict{notFound(), notFound(), notBound(), notBound()}, "POST POST", verdict.CloneSourceNotBound},
		{"back to the first", []verdict.Verdict{notFound(), notBound(), notFound()}, "POST POST POST PATCH", verdict.CloneSourceNotFound},
		{"silence between", []verdict.Verdict{notFound(), silent, notFound()}, "POST POST PATCH", verdict.CloneSourceNotFound},
		{"silence at the end", []verdict.Verdict{notFound(), silent}, "POST", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startServer(t)
			r, hands := startRecorder(t, s)
			for _, v := range c.say {
				r.Say(claimOf("copy"), v)
				idle(t, r)
				hands.Step(time.Second)
			}
			var verbs []string
			for _, request := range s.requests() {
				verbs = append(verbs, request.verb)
			}
			if got := strings.Join(verbs, " "); got != c.want {
				t.Errorf("requests are %q, want %q", got, c.want)
			}
			if got := r.Last("uid-copy"); got != c.last {
				t.Errorf("last said is %q, want %q", got, c.last)
			}
			if events := s.kept(); len(events) > 0 && c.last != "" && events[len(events)-1].Reason != string(c.last) {
				t.Errorf("the newest event is %s, want %s", events[len(events)-1].Reason, c.last)
			}
		})
	}
}

func TestARepeatedWaitIsRenewed(t *testing.T) {
	s := startServer(t)
	r, hands := startRecorder(t, s)
	say := func() v1.Event {
		t.Helper()
		r.Say(claimOf("copy"), notFound())
		idle(t, r)
		events := s.kept()
		if len(events) != 1 {
			t.Fatalf("there are %d events, want one: %v", len(events), events)
		}
		return events[0]
	}
	check := func(event v1.Event, count int32, first, last time.Time) {
		t.Helper()
		if event.Count != count || !event.FirstTimestamp.Time.Equal(first) || !event.LastTimestamp.Time.Equal(last) {
			t.Errorf("said %d times from %s to %s, want %d from %s to %s", event.Count,
				event.FirstTimestamp, event.LastTimestamp, count, first, last)
		}
	}
	if !r.Due("uid-copy") {
		t.Error("nothing was said, and nothing is due")
	}
	check(say(), 1, start(), start())
	hands.Step(45*time.Minute - time.Second)
	if r.Due("uid-copy") {
		t.Error("it is due too early")
	}
	check(say(), 1, start(), start())
	hands.Step(time.Second)
	if !r.Due("uid-copy") {
		t.Error("it is not due after 45 minutes")
	}
	renewed := hands.Now()
	check(say(), 2, start(), renewed)
	check(say(), 2, start(), renewed)
	hands.Step(45 * time.Minute)
	check(say(), 3, start(), hands.Now())

	s.forget()
	hands.Step(time.Hour)
	anew := hands.Now()
	check(say(), 1, anew, anew)
	hands.Step(45 * time.Minute)
	check(say(), 2, anew, hands.Now())
}

func TestARestartDoesNotMultiplyEvents(t *testing.T) {
	s := startServer(t)
	first, _ := startRecorder(t, s)
	first.Say(claimOf("copy"), notBound())
	idle(t, first)
	first.Say(claimOf("copy"), notFound())
	first.Stop()

	second, hands := startRecorder(t, s)
	hands.Step(10 * time.Minute)
	again := hands.Now()
	second.Say(claimOf("copy"), notBound())
	idle(t, second)
	if got, want := s.reasons(), "CloneSourceNotFound CloneSourceNotBound"; got != want {
		t.Fatalf("events are %s, want %s", got, want)
	}
	event := s.kept()[1]
	if event.Count != 1 || !event.LastTimestamp.Time.Equal(again) || !event.FirstTimestamp.Time.Equal(start()) {
		t.Errorf("said %d times from %s to %s, want once and last at %s", event.Count, event.FirstTimestamp, event.LastTimestamp, again)
	}
	log := s.requests()
	if _, sent := log[len(log)-1].body["count"]; sent {
		t.Error("a count was sent that nobody knows")
	}

	hands.Step(45 * time.Minute)
	second.Say(claimOf("copy"), notBound())
	idle(t, second)
	if event := s.kept()[1]; event.Count != 2 {
		t.Errorf("the renewal counts %d, want 2: one more than the API server had", event.Count)
	}
}

func TestAnEventThatExpiresBetweenTwoRequestsIsCreated(t *testing.T) {
	s := startServer(t)
	first, _ := startRecorder(t, s)
	first.Say(claimOf("copy"), notFound())
	idle(t, first)
	s.do(func(request requested, _ *http.Request) int {
		if request.verb == http.MethodPatch {
			s.forget()
		}
		return 0
	})
	second, _ := startRecorder(t, s)
	second.Say(claimOf("copy"), notFound())
	idle(t, second)
	if got := s.reasons(); got != "CloneSourceNotFound" {
		t.Errorf("events are %q", got)
	}
}

func TestTenThousandThingsSaidAtOnce(t *testing.T) {
	const claims, speakers = 10_000, 4
	s := startServer(t)
	r, _ := startRecorder(t, s)
	open := make(chan struct{})
	s.do(func(_ requested, request *http.Request) int {
		select {
		case <-open:
		case <-request.Context().Done():
		}
		return 0
	})
	var speaking sync.WaitGroup
	for speaker := range speakers {
		speaking.Go(func() {
			for i := speaker; i < claims; i += speakers {
				r.Say(claimOf(fmt.Sprint("copy-", i)), notFound())
			}
		})
	}
	speaking.Wait() // nobody is kept by an API server that does not answer
	if n := len(s.kept()); n != 0 {
		t.Fatalf("%d events were answered", n)
	}
	close(open)
	begun := time.Now()
	idle(t, r)
	t.Logf("%d events sent in %.1f s", claims, time.Since(begun).Seconds())
	events := s.kept()
	said := map[string]bool{}
	for _, event := range events {
		said[event.InvolvedObject.Name] = true
	}
	if len(events) != claims || len(said) != claims || len(s.requests()) != claims {
		t.Errorf("%d events about %d claims in %d requests, want %d of each", len(events), len(said), len(s.requests()), claims)
	}
}

// Whatever fails on the way.
func TestEventsAboutOneClaimGoOutInOrder(t *testing.T) {
	const claims, things = 30, 12
	s := startServer(t)
	r, hands := startRecorder(t, s)
	var n, now, tooMany atomic.Int32
	s.do(func(requested, *http.Request) int {
		defer now.Add(-1)
		if now.Add(1) > maxSenders {
			tooMany.Add(1)
		}
		if n.Add(1)%7 == 0 {
			return http.StatusInternalServerError
		}
		return 0
	})
	for thing := range things {
		for i := range claims {
			r.Say(claimOf(fmt.Sprint("copy-", i)), verdict.Refused(verdict.RecordNotWritten, "%02d", thing))
		}
	}
	eventually(t, "all is sent", func() bool {
		if hands.HasWaiters() {
			hands.Step(retryMax)
		}
		return len(s.kept()) == claims*things
	})
	idle(t, r)
	if tooMany.Load() > 0 {
		t.Errorf("more than %d requests were under way at once", maxSenders)
	}
	last := map[string]string{}
	for _, request := range s.requests() {
		message, _ := request.body["message"].(string)
		if message < last[request.claim] {
			t.Fatalf("claim %s: %s was sent after %s", request.claim, message, last[request.claim])
		}
		last[request.claim] = message
	}
}

// What the engine says goes the same way, between what else is said of the claim.
func TestWhatOthersSayIsSentInItsTurn(t *testing.T) {
	s := startServer(t)
	r, _ := startRecorder(t, s)
	claim := claimOf("copy")
	said := func(name, reason, message string, count int32) *v1.Event {
		event := newEvent("engine", claim, verdict.Waiting(verdict.Reason(reason), "%s", message), start())
		event.Name, event.Count = name, count
		return event
	}
	r.Say(claim, notFound())
	r.Send(said("copy.1", "Provisioning", "it is made", 1))
	r.Send(said("copy.2", "ProvisioningFailed", "no space", 1))
	r.Say(claim, notBound())
	r.Send(said("copy.2", "ProvisioningFailed", "no space at all", 2))
	r.Send(said("copy.3", "ProvisioningFailed", "of an hour ago", 7))
	idle(t, r)
	var order []string
	for _, request := range s.requests() {
		suffix := request.name[len("copy."):]
		if suffix[0] == '0' {
			suffix = "ours"
		}
		order = append(order, request.verb+" "+suffix)
	}
	if got, want := strings.Join(order, ", "), "POST ours, POST 1, POST 2, POST ours, PATCH 2, PATCH 3, POST 3"; got != want {
		t.Fatalf("requests are %q, want %q", got, want)
	}
	for _, event := range s.kept() {
		switch event.Name {
		case "copy.2":
			if event.Count != 2 || event.Message != "no space at all" || event.Source.Component != "engine" {
				t.Errorf("the repeat is %q, %d times, from %s", event.Message, event.Count, event.Source.Component)
			}
		case "copy.3":
			if event.Count != 7 {
				t.Errorf("a repeat of what the API server has forgotten counts %d, want 7", event.Count)
			}
		}
	}

	r.Forget(claim.UID)
	r.Send(said("copy.4", "ProvisioningSucceeded", "it is made", 1))
	idle(t, r)
	if r.mu.Lock(); len(r.topics) != 0 {
		t.Errorf("%d topics are kept", len(r.topics))
	}
	r.mu.Unlock()
	r.Stop()
	r.Send(said("copy.5", "ProvisioningFailed", "too late", 1))
	if got := len(s.kept()); got != 6 {
		t.Errorf("there are %d events after the end, want 6", got)
	}
}

// Progress is told one thing after the other, and whoever waits is told before it; at
// the end all is sent that can be.
func TestProgressDoesNotHoldUpWhatPeopleWaitFor(t *testing.T) {
	const claims = 20
	s := startServer(t)
	r, _ := startRecorder(t, s)
	open := make(chan struct{})
	var progress atomic.Int32
	s.do(func(request requested, _ *http.Request) int {
		if !strings.HasPrefix(request.claim, "copy") {
			return 0
		}
		progress.Add(1)
		<-open
		return 0
	})
	for i := range claims {
		claim := claimOf(fmt.Sprint("copy-", i))
		event := newEvent("engine", claim, verdict.Waiting("Provisioning", "it is made"), start())
		r.Send(event)
	}
	for i := range claims {
		r.Say(claimOf(fmt.Sprint("waiting-", i)), notFound())
	}
	eventually(t, "whoever waits is told", func() bool { return len(s.kept()) == claims })
	// Progress comes behind that, and may only just begin.
	eventually(t, "progress is told", func() bool { return progress.Load() > 0 })
	if n := progress.Load(); n != 1 {
		t.Errorf("%d events of progress were on their way at once, want 1", n)
	}
	ended := make(chan struct{})
	go func() {
		r.Stop()
		close(ended)
	}()
	eventually(t, "the rest is sent by as many as there may be", func() bool { return progress.Load() == maxSenders })
	close(open)
	<-ended
	if n := len(s.kept()); n != 2*claims {
		t.Errorf("%d events are sent, want %d", n, 2*claims)
	}
}

func TestWhatFailsIsTriedAgainIfThatCanHelp(t *testing.T) {
	for _, c := range []struct {
		name  string
		code  int
		again bool
	}{
		{"the connection breaks", broken, true},
		{"429", http.StatusTooManyRequests, true},
		{"500", http.StatusInternalServerError, true},
		{"503", http.StatusServiceUnavailable, true},
		{"504", http.StatusGatewayTimeout, true},
		{"401: a token may be late", http.StatusUnauthorized, true},
		{"403: no right, or the namespace is being deleted", http.StatusForbidden, false},
		{"404: the namespace is gone", http.StatusNotFound, false},
		{"422", http.StatusUnprocessableEntity, false},
		{"400", http.StatusBadRequest, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startServer(t)
			r, hands := startRecorder(t, s)
			var failing atomic.Bool
			failing.Store(true)
			s.do(func(request requested, _ *http.Request) int {
				if failing.Load() && request.claim == "copy" {
					return c.code
				}
				return 0
			})
			r.Say(claimOf("copy"), notFound())
			idle(t, r)
			r.Say(claimOf("other"), notFound())
			r.Say(claimOf("copy"), notBound())
			idle(t, r)
			if got := s.reasons(); got != "CloneSourceNotFound" {
				t.Fatalf("events are %q, want the other claim's: it has no part in this", got)
			}
			failing.Store(false)
			if !c.again {
				if n := len(s.requests()); n != 3 || hands.HasWaiters() {
					t.Errorf("%d requests, and a pause (%t); want 3, one for each event", n, hands.HasWaiters())
				}
				r.Say(claimOf("copy"), notBound())
				idle(t, r)
				if n := len(s.requests()); n != 3 {
					t.Errorf("what was refused was said again")
				}
				return
			}
			hands.Step(retryStart - time.Millisecond)
			idle(t, r)
			if n := len(s.kept()); n != 1 {
				t.Error("it was tried again too early")
			}
			eventually(t, "there is a pause", hands.HasWaiters)
			hands.Step(time.Millisecond)
			eventually(t, "all is sent", func() bool { return len(s.kept()) == 3 })
		})
	}
}

// A client that waits no longer makes the same of it as a context that ends.
func TestATimeoutIsTriedAgain(t *testing.T) {
	s := startServer(t)
	var tries atomic.Int32
	s.do(func(_ requested, request *http.Request) int {
		if tries.Add(1) == 1 {
			<-request.Context().Done()
		}
		return 0
	})
	hands := testingclock.NewFakeClock(start())
	r := NewRecorder(t.Context(), s.client(100*time.Millisecond), component, hands)
	r.Say(claimOf("copy"), notFound())
	eventually(t, "all is sent", func() bool {
		if hands.HasWaiters() {
			hands.Step(retryMax)
		}
		return len(s.kept()) > 0
	})
	idle(t, r)
	r.Stop()
}

func TestAnEventIsNotTriedForEver(t *testing.T) {
	s := startServer(t)
	r, hands := startRecorder(t, s)
	s.do(func(requested, *http.Request) int { return http.StatusServiceUnavailable })
	r.Say(claimOf("copy"), notFound())
	waited := time.Duration(0)
	for try := 1; try < maxTries; try++ {
		eventually(t, "there is a pause", hands.HasWaiters)
		if n := len(s.requests()); n != try {
			t.Fatalf("%d requests after %d tries", n, try)
		}
		pause := min(retryStart<<(try-1), retryMax)
		hands.Step(pause)
		waited += pause
	}
	eventually(t, "the last try is made", func() bool { return len(s.requests()) == maxTries })
	idle(t, r)
	if hands.HasWaiters() || waited < 3*time.Minute {
		t.Errorf("given up after %s, and still waiting: %t", waited, hands.HasWaiters())
	}
	if got := r.Last("uid-copy"); got != verdict.CloneSourceNotFound {
		t.Errorf("last said is %q", got)
	}
	s.do(nil)
	r.Say(claimOf("copy"), notFound()) // at the next look at the claim
	idle(t, r)
	if got := s.reasons(); got != "CloneSourceNotFound" {
		t.Errorf("events are %q: what did not come through was not said again", got)
	}
}

// An answer that gets lost does not make an event count twice.
func TestALostAnswer(t *testing.T) {
	s := startServer(t)
	r, hands := startRecorder(t, s)
	lose := func(verb string) {
		var lost atomic.Bool
		s.do(func(request requested, _ *http.Request) int {
			if request.verb == verb && !lost.Swap(true) {
				s.mu.Lock()
				defer s.mu.Unlock()
				if event := s.events[request.name]; event == nil {
					event = newEvent(component, claimOf("copy"), notFound(), hands.Now())
					s.events[event.Name] = event
				} else {
					event.Count++
				}
				return broken
			}
			return 0
		})
	}
	for count, verb := range []string{1: http.MethodPost, 2: http.MethodPatch} {
		if count == 0 {
			continue
		}
		lose(verb)
		r.Say(claimOf("copy"), notFound())
		eventually(t, "there is a pause", hands.HasWaiters)
		hands.Step(retryStart)
		idle(t, r)
		if events := s.kept(); len(events) != 1 || events[0].Count != int32(count) {
			t.Errorf("after a lost %s: %v, want one event that counts %d", verb, events, count)
		}
		hands.Step(renewAfter)
	}
}

func TestForgetSendsWhatIsQueuedAndFreesTheRest(t *testing.T) {
	s := startServer(t)
	r, _ := startRecorder(t, s)
	open := make(chan struct{})
	s.do(func(_ requested, request *http.Request) int {
		select {
		case <-open:
		case <-request.Context().Done():
		}
		return 0
	})
	topics := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.topics)
	}
	for i := range 20 {
		claim := claimOf(fmt.Sprint("copy-", i))
		r.Say(claim, notFound())
		r.Say(claim, tooSmall())
		r.Forget(claim.UID)
		if got := r.Last(claim.UID); got != "" {
			t.Errorf("%q is remembered", got)
		}
	}
	if n := topics(); n != 20 {
		t.Errorf("%d topics while events are queued, want 20", n)
	}
	close(open)
	idle(t, r)
	if n := len(s.kept()); n != 40 {
		t.Errorf("%d events were sent, want 40", n)
	}
	if n := topics(); n != 0 {
		t.Errorf("%d topics are kept", n)
	}
	r.Say(claimOf("copy"), notFound())
	idle(t, r)
	r.Forget("uid-copy")
	r.Forget("uid-unknown")
	if n := topics(); n != 0 {
		t.Errorf("%d topics are kept", n)
	}
}

func TestStopSendsWhatIsQueued(t *testing.T) {
	s := startServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	hands := testingclock.NewFakeClock(start())
	r := NewRecorder(ctx, s.client(0), component, hands)
	var failed atomic.Bool
	s.do(func(request requested, _ *http.Request) int {
		if request.claim == "pausing" && !failed.Swap(true) {
			return http.StatusServiceUnavailable
		}
		return 0
	})
	r.Say(claimOf("pausing"), notFound())
	eventually(t, "it pauses", hands.HasWaiters)
	cancel() // the work ends first
	for i := range 100 {
		r.Say(claimOf(fmt.Sprint("copy-", i)), notFound())
		r.Say(claimOf(fmt.Sprint("copy-", i)), notBound())
	}
	r.Say(claimOf("pausing"), tooSmall())
	r.Stop()
	r.Stop()
	if n := len(s.kept()); n != 202 {
		t.Errorf("%d events were sent, want 202", n)
	}
	if r.senders != 0 || len(r.ready) != 0 {
		t.Errorf("%d senders and %d topics after Stop", r.senders, len(r.ready))
	}
	before := len(s.requests())
	r.Say(claimOf("late"), notFound())
	hands.Step(time.Hour) // the timer of the pause fires
	if r.senders != 0 || len(s.requests()) != before {
		t.Error("the recorder works on after Stop")
	}
}

func TestStopTriesOnceWhatFails(t *testing.T) {
	s := startServer(t)
	r, hands := startRecorder(t, s)
	s.do(func(requested, *http.Request) int { return http.StatusServiceUnavailable })
	for i := range 10 {
		r.Say(claimOf(fmt.Sprint("copy-", i)), notFound())
	}
	eventually(t, "all of them pause", func() bool { return hands.Waiters() == 10 })
	r.Stop()
	if n := len(s.requests()); n != 20 {
		t.Errorf("%d requests, want two for each event", n)
	}
}

func TestStopDoesNotWaitForAnAPIServerThatHangs(t *testing.T) {
	s := startServer(t)
	r, hands := startRecorder(t, s)
	s.do(func(_ requested, request *http.Request) int {
		<-request.Context().Done()
		return http.StatusServiceUnavailable
	})
	for i := range 100 {
		r.Say(claimOf(fmt.Sprint("copy-", i)), notFound())
	}
	eventually(t, "all senders are at it", func() bool { return len(s.requests()) == maxSenders })
	stopped := make(chan struct{})
	go func() {
		r.Stop()
		close(stopped)
	}()
	eventually(t, "Stop waits", hands.HasWaiters)
	select {
	case <-stopped:
		t.Fatal("Stop did not wait")
	default:
	}
	hands.Step(stopPatience)
	select {
	case <-stopped:
	case <-time.After(3 * time.Minute):
		t.Fatal("Stop hangs")
	}
	if r.senders != 0 || len(s.requests()) != maxSenders {
		t.Errorf("%d senders after Stop, and %d requests in all", r.senders, len(s.requests()))
	}
}
