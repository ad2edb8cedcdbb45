package inuse

import (
	"context"
	"fmt"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// startPause is how long an API server is left alone that does not know yet what it
// grants.
const startPause = time.Second

// refused says whether RBAC is why a request for the pods of the namespace was
// refused. An API server that is starting refuses everything until it has read its
// roles, and then this question, too: who took that for a denial would clone a
// source in use.
func (p *Pods) refused(ctx context.Context, namespace, verb string) (denied bool, err error) {
	review, err := p.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: namespace, Resource: "pods", Verb: verb,
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("asking whether RBAC grants %s on pods of namespace %q: %w", verb, namespace, err)
	}
	return !review.Status.Allowed, nil
}

// pauseAfter returns how long to wait after a watch that ended with this object; if
// it was refused, it returns when the API server knows why.
func (p *Pods) pauseAfter(ctx context.Context, namespace string, object any) time.Duration {
	status, ok := object.(*metav1.Status)
	switch {
	case ok && status.Reason == metav1.StatusReasonExpired:
		return 0
	case !ok || status.Reason != metav1.StatusReasonForbidden:
		return blindPause
	}
	for range blindPause / startPause {
		if denied, err := p.refused(ctx, namespace, "watch"); denied || ctx.Err() != nil {
			return blindPause
		} else if err == nil {
			return startPause
		}
		select {
		case <-ctx.Done():
		case <-p.clock.After(startPause):
		}
	}
	return 0
}
