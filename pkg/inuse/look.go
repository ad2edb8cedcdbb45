package inuse

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

// running selects the pods that can use a volume: those that have a node and are
// not over. A watch with this selector tells the end of a pod as its deletion.
const running = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"

const (
	// page is how many pods are asked for at once.
	page = 500
	// lookTimeout bounds one look.
	lookTimeout = 30 * time.Second
	// apart is how far apart the looks at one namespace begin at least, so that many
	// who ask shortly after one another share one: a lone one is not kept waiting.
	apart = 100 * time.Millisecond
	// denialLasts is how long a namespace is not asked about again whose pods we
	// may not list: RBAC may be mended while we run, and a request that is refused
	// for every clone helps nobody.
	denialLasts = time.Minute
)

// ErrDenied: RBAC does not let us list the pods of the namespace.
var ErrDenied = errors.New("RBAC does not grant list on pods")

// Waiters is who waits for pods.
type Waiters interface {
	// Wake wakes the claims that wait for the object.
	Wake(object waitlist.Object)
	// Awaited says whether a claim waits for the object.
	Awaited(object waitlist.Object) bool
}

// Pods looks at pods and watches them. See New.
type Pods struct {
	client  kubernetes.Interface
	waiters Waiters
	clock   clock.WithTicker

	mu      sync.Mutex
	next    map[string]*round    // namespace -> the look that has not begun
	busy    map[string]bool      // namespaces that are being looked at
	denied  map[string]time.Time // namespace -> when RBAC did not let us look
	watched map[string]string    // namespace -> the version that its watch began with
	// ctx of Start bounds all that is done in the background; nil before.
	ctx     context.Context
	workers sync.WaitGroup
}

// New returns a Pods that works from Start on.
func New(client kubernetes.Interface, waiters Waiters, ticks clock.WithTicker) *Pods {
	return &Pods{
		client: client, waiters: waiters, clock: ticks,
		next: map[string]*round{}, busy: map[string]bool{}, denied: map[string]time.Time{}, watched: map[string]string{},
	}
}

// Start lets looks and watches run until ctx ends; Wait returns when they all have
// ended.
func (p *Pods) Start(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ctx = ctx
}

// Wait returns when all looks and watches have ended. Nothing may be begun any more
// when it is called.
func (p *Pods) Wait() { p.workers.Wait() }

// Seen is what a look has found.
type Seen struct {
	// Version is that of the list: a watch from there misses nothing.
	Version string
	byClaim map[string][]*v1.Pod
}

// Of returns the running pods that name the claim.
func (s *Seen) Of(claim string) []*v1.Pod { return s.byClaim[claim] }

// round is one look at one namespace.
type round struct {
	done chan struct{}
	seen *Seen
	err  error
}

// Look returns the running pods of the namespace as they were after Look was
// called: who comes while a look is going on shares the next one, so that a pod
// that ran before somebody asked is never missed. ErrDenied means that RBAC does
// not let us look.
func (p *Pods) Look(ctx context.Context, namespace string) (*Seen, error) {
	r, err := p.join(namespace)
	if err != nil {
		return nil, err
	}
	select {
	case <-r.done:
		return r.seen, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// join returns the look at the namespace that has not begun yet; if none is going
// on, it begins now.
func (p *Pods) join(namespace string) (*round, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx == nil || p.ctx.Err() != nil {
		return nil, fmt.Errorf("looking at the pods of namespace %q: %w", namespace, context.Canceled)
	}
	if since, found := p.denied[namespace]; found {
		if p.clock.Since(since) < denialLasts {
			return nil, ErrDenied
		}
		delete(p.denied, namespace)
	}
	if p.next[namespace] == nil {
		p.next[namespace] = &round{done: make(chan struct{})}
		if !p.busy[namespace] {
			p.busy[namespace] = true
			ctx := p.ctx
			p.workers.Go(func() { p.rounds(ctx, namespace) })
		}
	}
	return p.next[namespace], nil
}

// rounds looks at the namespace for as long as somebody asks.
func (p *Pods) rounds(ctx context.Context, namespace string) {
	for {
		p.mu.Lock()
		r := p.next[namespace]
		delete(p.next, namespace)
		if r == nil {
			delete(p.busy, namespace)
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		next := p.clock.After(apart)
		r.seen, r.err = p.list(ctx, namespace)
		if errors.Is(r.err, ErrDenied) {
			p.mu.Lock()
			p.denied[namespace] = p.clock.Now()
			p.mu.Unlock()
		}
		close(r.done)
		select {
		case <-next:
		case <-ctx.Done(): // who has asked since is told by the next look that it is over
		}
	}
}

// list asks the API server, not its cache: what it tells is true when it is asked.
func (p *Pods) list(ctx context.Context, namespace string) (*Seen, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	seen := &Seen{byClaim: map[string][]*v1.Pod{}}
	options, pods := metav1.ListOptions{FieldSelector: running, Limit: page}, 0
	for {
		list, err := p.client.CoreV1().Pods(namespace).List(ctx, options)
		switch {
		case apierrors.IsForbidden(err):
			if denied, unknown := p.refused(ctx, namespace, "list"); denied {
				return nil, ErrDenied
			} else if unknown != nil {
				err = unknown
			}
			fallthrough
		case err != nil:
			return nil, fmt.Errorf("looking at the pods of namespace %q: %w", namespace, err)
		}
		for i := range list.Items {
			pod := &list.Items[i]
			for _, claim := range claimsOf(pod) {
				seen.byClaim[claim] = append(seen.byClaim[claim], pod)
			}
		}
		pods += len(list.Items)
		if options.Continue = list.Continue; options.Continue == "" {
			seen.Version = list.ResourceVersion
			klog.FromContext(ctx).V(4).Info("Looked at the running pods of a namespace", "namespace", namespace, "pods", pods)
			return seen, nil
		}
	}
}

// claimsOf returns the names of the claims that the pod names, those of its
// ephemeral volumes too (Kubernetes, "Generic ephemeral volumes": pod-volume).
func claimsOf(pod *v1.Pod) []string {
	var names []string
	for i := range pod.Spec.Volumes {
		switch volume := &pod.Spec.Volumes[i]; {
		case volume.PersistentVolumeClaim != nil:
			names = append(names, volume.PersistentVolumeClaim.ClaimName)
		case volume.Ephemeral != nil:
			names = append(names, pod.Name+"-"+volume.Name)
		}
	}
	return names
}
