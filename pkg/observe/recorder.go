package observe

import (
	"context"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

// Recorder tells users about their claims in events, each thing once.
type Recorder struct {
	broadcaster record.EventBroadcaster
	events      record.EventRecorder

	mu   sync.Mutex
	said map[types.UID]verdict.Verdict
}

// NewRecorder returns a recorder whose events come from component. It works
// until Stop.
func NewRecorder(ctx context.Context, client kubernetes.Interface, component string) *Recorder {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&corev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	return &Recorder{
		broadcaster: broadcaster,
		events:      broadcaster.NewRecorder(scheme.Scheme, v1.EventSource{Component: component}),
		said:        map[types.UID]verdict.Verdict{},
	}
}

// Say tells the verdict in an event about the claim, unless it is what was said
// of this claim last. A verdict without a reason is not told, but the next one
// is then new.
func (r *Recorder) Say(claim *v1.PersistentVolumeClaim, v verdict.Verdict) {
	r.mu.Lock()
	last, spoken := r.said[claim.UID]
	if v.Reason == "" {
		delete(r.said, claim.UID)
	} else {
		r.said[claim.UID] = v
	}
	r.mu.Unlock()
	if v.Reason != "" && (!spoken || last != v) {
		r.events.Event(claim, string(verdict.TypeOf(v.Reason)), string(v.Reason), v.Message)
	}
}

// Last returns the reason of what was said last of the claim; "" if nothing.
func (r *Recorder) Last(claim types.UID) verdict.Reason {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said[claim].Reason
}

// Forget drops the memory of a claim that is gone or through.
func (r *Recorder) Forget(claim types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.said, claim)
}

// Stop sends what is still queued, as far as the API server takes it.
func (r *Recorder) Stop() { r.broadcaster.Shutdown() }
