package observe

import (
	"context"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

const (
	// maxSenders is how many events are on their way to the API server at once.
	maxSenders = 8
	// renewAfter is how old an event must be to be said again: API servers drop
	// events an hour after they were written last, and whoever looks at a claim
	// that waits for a day must still see why.
	renewAfter = 45 * time.Minute
	// sendPatience is how long the API server may take over one event.
	sendPatience = 30 * time.Second
	// stopPatience is how long Stop waits for what is queued.
	stopPatience = 5 * time.Second
	// retryStart doubles with each try up to retryMax: with maxTries an event
	// outlives three and a half minutes without an API server.
	retryStart = time.Second
	retryMax   = 30 * time.Second
	maxTries   = 12
)

// Recorder tells users about their claims in events, each thing once. No event
// is dropped because there are many, and the events about one claim are sent in
// the order in which they were said.
type Recorder struct {
	client    kubernetes.Interface
	component string
	clock     clock.WithDelayedExecution
	// ctx is that of all requests. It ends with Stop.
	ctx     context.Context
	cancel  context.CancelFunc
	sending sync.WaitGroup

	// The clock is not used while mu is held: one that tests move by hand runs
	// what is due while it is locked itself.
	mu      sync.Mutex
	topics  map[types.UID]*topic
	ready   []*topic // their first event may be sent now
	later   []*topic // likewise, if it is one of Send
	trailer bool     // a sender is at one of later
	senders int
	stopped bool
}

// topic is what there is to be said about one object: a claim, or a PV.
type topic struct {
	uid   types.UID
	said  verdict.Verdict // last; without a reason if that was forgotten
	again time.Time       // from then on the same is said again

	queue   []said
	tries   int  // of the first in the queue
	busy    bool // is ready, at a sender, or pausing
	pausing bool // until resume

	sent  string // name of the event that the API server took last
	count int32  // of that event
}

// said is an event to be sent. Who waits needs to read why at once; progress, which is
// what the engine tells, may come after it.
type said struct {
	*v1.Event
	progress bool
}

// NewRecorder returns a recorder whose events come from component. It works
// until Stop, even if ctx ends before.
func NewRecorder(ctx context.Context, client kubernetes.Interface, component string, delays clock.WithDelayedExecution) *Recorder {
	r := &Recorder{client: client, component: component, clock: delays, topics: map[types.UID]*topic{}}
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return r
}

// Say tells the verdict in an event about the claim, unless it is what was said
// of this claim last, and not long ago. A verdict without a reason is not told,
// but the next one is then new. Say does not wait for the event to be sent.
func (r *Recorder) Say(claim *v1.PersistentVolumeClaim, v verdict.Verdict) {
	r.say(claim.UID, v, func(now time.Time) *v1.Event { return newEvent(r.component, claim, v, now) })
}

// SayOfPV is Say about a PV.
func (r *Recorder) SayOfPV(pv *v1.PersistentVolume, v verdict.Verdict) {
	r.SayOf(v1.ObjectReference{
		Kind: "PersistentVolume", APIVersion: "v1", Name: pv.Name, UID: pv.UID, ResourceVersion: pv.ResourceVersion,
	}, v)
}

// SayOfClass is Say about a StorageClass.
func (r *Recorder) SayOfClass(class *storagev1.StorageClass, v verdict.Verdict) {
	r.SayOf(v1.ObjectReference{
		Kind: "StorageClass", APIVersion: "storage.k8s.io/v1", Name: class.Name, UID: class.UID, ResourceVersion: class.ResourceVersion,
	}, v)
}

// SayOf is Say about any object.
func (r *Recorder) SayOf(object v1.ObjectReference, v verdict.Verdict) {
	r.say(object.UID, v, func(now time.Time) *v1.Event { return eventOf(r.component, object, v, now) })
}

func (r *Recorder) say(uid types.UID, v verdict.Verdict, event func(now time.Time) *v1.Event) {
	if v.Reason == "" {
		r.Forget(uid)
		return
	}
	now := r.clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.topics[uid]
	if t == nil {
		t = &topic{uid: uid}
		r.topics[uid] = t
	}
	if t.said == v && now.Before(t.again) {
		return
	}
	t.said, t.again = v, now.Add(renewAfter)
	r.queue(t, said{event(now), false})
}

// Send sends an event that somebody else made, in the order of what is said
// about its object. With a count above 1 it replaces the count and the message of
// an event of that name. These events are sent one after the other, so that what tells
// of the work does not hold up the work: thousands of clones at once keep the API
// server busy enough.
func (r *Recorder) Send(event *v1.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.topics[event.InvolvedObject.UID]
	if t == nil {
		t = &topic{uid: event.InvolvedObject.UID}
		r.topics[t.uid] = t
	}
	r.queue(t, said{event, true})
	r.dropIfDone(t)
}

// queue puts an event behind those of its topic. The caller holds mu.
func (r *Recorder) queue(t *topic, event said) {
	if r.stopped {
		return
	}
	t.queue = append(t.queue, event)
	if !t.busy {
		t.busy = true
		r.push(t)
	}
}

// Last returns the reason of what was said last of the claim; "" if nothing.
func (r *Recorder) Last(claim types.UID) verdict.Reason {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.topics[claim]; t != nil {
		return t.said.Reason
	}
	return ""
}

// Due says whether Say would say of the claim what it said last.
func (r *Recorder) Due(claim types.UID) bool {
	now := r.clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.topics[claim]
	return t == nil || t.said.Reason == "" || !now.Before(t.again)
}

// Forget drops the memory of a claim that is gone or through. What is queued is
// sent nevertheless: it says what happened.
func (r *Recorder) Forget(claim types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.topics[claim]; t != nil {
		t.said = verdict.Verdict{}
		r.dropIfDone(t)
	}
}

// Stop sends what is still queued, each event with one try, for as long as that
// takes but no longer than stopPatience. Nothing is sent after it.
func (r *Recorder) Stop() {
	r.mu.Lock()
	if r.stopped {
		r.mu.Unlock()
		return
	}
	r.stopped = true
	for _, t := range r.topics {
		if t.pausing {
			t.pausing = false
			r.push(t)
		}
	}
	for r.senders < min(maxSenders, len(r.later)) {
		r.senders++
		r.sending.Go(r.send)
	}
	r.mu.Unlock()

	sent := make(chan struct{})
	go func() {
		r.sending.Wait()
		close(sent)
	}()
	patience := r.clock.NewTimer(stopPatience)
	defer patience.Stop()
	select {
	case <-sent:
	case <-patience.C():
	}
	r.cancel()
	<-sent

	r.mu.Lock()
	defer r.mu.Unlock()
	left := 0
	for _, t := range r.topics {
		left += len(t.queue)
	}
	if left > 0 {
		klog.FromContext(r.ctx).Info("Some events were not sent: the API server took too long", "count", left)
	}
}

// push makes a topic ready, and has a sender look after it. Senders end when
// nothing is ready, so that an idle recorder costs nothing. The caller holds mu.
func (r *Recorder) push(t *topic) {
	r.line(t)
	if r.senders < maxSenders {
		r.senders++
		r.sending.Go(r.send)
	}
}

// line puts a topic behind those that are ready. The caller holds mu.
func (r *Recorder) line(t *topic) {
	if t.queue[0].progress {
		r.later = append(r.later, t)
	} else {
		r.ready = append(r.ready, t)
	}
}

// send sends events until none is ready.
func (r *Recorder) send() {
	for {
		t, event, count := r.next()
		if t == nil {
			return
		}
		count, err := r.deliver(event.Event, count)
		if pause := r.settle(t, event, count, err); pause > 0 {
			r.clock.AfterFunc(pause, func() { r.resume(t) })
		}
	}
}

// next returns a topic and its first event; with the count of that event if it
// is the one that the API server took last. Without a topic the sender ends.
func (r *Recorder) next() (t *topic, event said, count int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ctx.Err() != nil:
	case len(r.ready) > 0:
		t = take(&r.ready)
	case len(r.later) > 0 && (!r.trailer || r.stopped):
		t, r.trailer = take(&r.later), true
	}
	if t == nil {
		r.senders--
		return nil, said{}, 0
	}
	event = t.queue[0]
	if event.Name == t.sent {
		count = t.count
	}
	return t, event, count
}

// take returns the first of the topics, without which they are left.
func take(topics *[]*topic) *topic {
	t := (*topics)[0]
	(*topics)[0] = nil
	*topics = (*topics)[1:]
	return t
}

// settle notes what became of a topic's first event, and returns how long to
// pause before it is tried again. Otherwise the topic goes to the end of those
// that are ready, so that nobody waits for one that has much to say.
func (r *Recorder) settle(t *topic, event said, count int32, err error) (pause time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if event.progress {
		r.trailer = false
	}
	if err != nil && r.ctx.Err() != nil {
		return 0 // Stop counts it
	}
	t.tries++
	retry := err != nil && transient(err)
	switch {
	case retry && t.tries < maxTries && !r.stopped:
		t.pausing = true
		return min(retryStart<<(t.tries-1), retryMax)
	case retry && len(t.queue) == 1:
		t.again = time.Time{} // whoever says it next may have more luck
	case err == nil:
		t.sent, t.count = event.Name, count
	}
	if err != nil {
		klog.FromContext(r.ctx).V(2).Info("Event is given up", "claim", klog.KRef(event.Namespace, event.InvolvedObject.Name),
			"reason", event.Reason, "tries", t.tries, "err", err)
	}
	t.tries, t.queue[0] = 0, said{}
	t.queue = t.queue[1:]
	if len(t.queue) > 0 {
		r.line(t) // this sender is free for it
		return 0
	}
	t.busy, t.queue = false, nil
	r.dropIfDone(t)
	return 0
}

// resume ends the pause of a topic, unless Stop has.
func (r *Recorder) resume(t *topic) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.pausing && !r.stopped {
		t.pausing = false
		r.push(t)
	}
}

// dropIfDone frees a topic with nothing to send and nothing to remember. The
// caller holds mu.
func (r *Recorder) dropIfDone(t *topic) {
	if !t.busy && t.said.Reason == "" {
		delete(r.topics, t.uid)
	}
}
