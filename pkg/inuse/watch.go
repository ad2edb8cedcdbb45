package inuse

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

const (
	// idleCheck is how often a watch looks whether anybody still waits.
	idleCheck = time.Minute
	// blindPause is how long a claim waits to be judged again where pods may be
	// listed but not watched: what has no watch gets a timer, and only that.
	blindPause = 15 * time.Second
)

// Watch wakes the claims that wait for pods of the namespace when such a pod ends,
// beginning with what has happened since version, which a look has told. It ends by
// itself when no claim waits any more. Who calls it waits for waitlist.PodsIn the
// namespace.
func (p *Pods) Watch(namespace, version string) {
	if p.begin(namespace, version) {
		return
	}
	// The watch that is going on began with a later look than the caller's, and does
	// not tell what happened between the two: a new look does.
	p.waiters.Wake(waitlist.PodsIn(namespace))
}

// begin begins the watch, unless one is going on; false if that one began later.
func (p *Pods) begin(namespace, version string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx == nil || p.ctx.Err() != nil {
		return true
	}
	if began, found := p.watched[namespace]; found {
		order, err := resourceversion.CompareResourceVersion(version, began)
		return err != nil || order >= 0
	}
	p.watched[namespace] = version
	ctx := p.ctx
	p.workers.Go(func() { p.watch(ctx, namespace, version) })
	return true
}

func (p *Pods) watch(ctx context.Context, namespace, version string) {
	logger := klog.FromContext(ctx).WithValues("namespace", namespace)
	logger.V(4).Info("Watching the pods of a namespace, because a clone waits for one")
	watcher, err := toolswatch.NewRetryWatcherWithContext(ctx, version, p.watcher(namespace))
	if err != nil {
		p.over(ctx, namespace, blindPause) // only for a version that is none
		return
	}
	defer watcher.Stop()
	ticker := p.clock.NewTicker(idleCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
			if p.idle(namespace) {
				logger.V(4).Info("Nobody waits for pods of a namespace any more")
				return
			}
		case event, open := <-watcher.ResultChan():
			switch {
			case !open:
				p.over(ctx, namespace, 0)
				return
			case event.Type == watch.Error:
				p.over(ctx, namespace, p.pauseAfter(ctx, namespace, event.Object))
				return
			case event.Type == watch.Deleted:
				p.ended(namespace, event.Object)
			}
		}
	}
}

// ended wakes who waits for a pod that is not running any more.
func (p *Pods) ended(namespace string, object any) {
	pod, ok := object.(*v1.Pod)
	if !ok {
		return
	}
	for _, claim := range claimsOf(pod) {
		p.waiters.Wake(waitlist.PodsOf(namespace, claim))
	}
}

// idle ends the watch if nobody waits. The look at the waitlist is taken under the
// lock, so that Watch either finds a watch that goes on, or begins one.
func (p *Pods) idle(namespace string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiters.Awaited(waitlist.PodsIn(namespace)) {
		return false
	}
	delete(p.watched, namespace)
	return true
}

// over: the watch has come to an end that may have cost events. Everybody who waits
// looks again, after the pause, and has a new watch begun.
func (p *Pods) over(ctx context.Context, namespace string, pause time.Duration) {
	if pause > 0 {
		select {
		case <-ctx.Done():
		case <-p.clock.After(pause):
		}
	}
	p.mu.Lock()
	delete(p.watched, namespace)
	p.mu.Unlock()
	p.waiters.Wake(waitlist.PodsIn(namespace))
}

func (p *Pods) watcher(namespace string) cache.WatcherWithContext {
	return watcher(func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		options.FieldSelector = running
		return p.client.CoreV1().Pods(namespace).Watch(ctx, options)
	})
}

type watcher func(context.Context, metav1.ListOptions) (watch.Interface, error)

// WatchWithContext implements cache.WatcherWithContext.
func (w watcher) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	return w(ctx, options)
}
