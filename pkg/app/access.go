package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/options"
)

// right is a rule of RBAC that the provisioner can do without, in some way.
type right struct {
	group, resource string
	verbs           []string
	// without says what it means when the rule is missing.
	without string
}

func (r right) rule() string {
	group := r.group
	if group == "" {
		group = `""`
	}
	return fmt.Sprintf("apiGroups: [%s], resources: [%s], verbs: [%s]", group, r.resource, strings.Join(r.verbs, ", "))
}

// access is what RBAC lets us do.
type access struct {
	// patchClaims: else claims are updated whole.
	patchClaims bool
	// attachments may be listed and watched.
	attachments bool
	// grants and snapshots may be listed and watched, if they are served.
	grants, snapshots bool
	// attributesMissing: the API server has no VolumeAttributesClasses.
	attributesMissing bool
	// attributesClasses may be listed and watched, are served and asked for.
	attributesClasses bool
}

// abilities are what the driver has, so that it is worth to be looked at.
type abilities struct {
	// publishes: its volumes are attached to be used; modifies: it has
	// VolumeAttributesClasses; restores: it has snapshots.
	publishes, modifies, restores bool
	// hasTopology: its volumes may be reachable from some nodes only, and that counts.
	hasTopology bool
}

// look finds out what RBAC lets us do, and tells which rules are missing.
func look(ctx context.Context, client kubernetes.Interface, o *options.Options, driver abilities) access {
	a := access{patchClaims: mayPatchClaims(ctx, client), attachments: driver.publishes}
	if driver.publishes {
		// Without it the caches are never filled.
		may(ctx, client, right{"storage.k8s.io", "volumeattachments", []string{"list", "watch"},
			"nothing is provisioned or deleted before it is granted: the driver's volumes are attached to be used (PUBLISH_UNPUBLISH_VOLUME), and one that is attached must not be deleted"})
	}
	if o.ClonePolicy == options.Strict {
		mayWatchPods(ctx, client)
		if !driver.publishes {
			a.attachments = may(ctx, client, right{"storage.k8s.io", "volumeattachments", []string{"list", "watch"},
				"a clone does not wait until its source is detached"})
		}
	}
	if o.CrossNamespace {
		grants := informers.ReferenceGrants()
		a.grants = may(ctx, client, right{grants.Group, grants.Resource, []string{"list", "watch"},
			"clones of sources in other namespaces wait until it is granted"})
	}
	if o.NodeDeployment.Enabled {
		may(ctx, client, right{"", "nodes", []string{"get"},
			"claims of a node that is gone are not given to another one by themselves (--node-deployment)"})
	}
	if driver.hasTopology && !o.NodeDeployment.Enabled {
		const without = "nothing is provisioned or deleted before it is granted: the driver has topology, so it must be known where its nodes are (or start with --feature-gates=Topology=false, if its volumes can be used on all nodes)"
		may(ctx, client, right{"", "nodes", []string{"list", "watch"}, without})
		may(ctx, client, right{"storage.k8s.io", "csinodes", []string{"list", "watch"}, without})
	}
	if driver.restores {
		snapshots := informers.VolumeSnapshots()
		a.snapshots = may(ctx, client, right{snapshots.Group, snapshots.Resource, []string{"list", "watch"},
			"a claim's VolumeSnapshot is read for each attempt, if get is granted, a claim that waits for one looks again every few seconds, and snapshots are not protected while they are being restored"})
		if a.snapshots {
			may(ctx, client, right{snapshots.Group, snapshots.Resource, []string{"get", "update"},
				"snapshots are not protected from deletion while they are being restored"})
		}
	}
	// Without the capability no claim with such a class gets so far that it is read.
	if driver.modifies && o.AttributesClasses != options.GateOff {
		a.attributesMissing = !attributesServed(ctx, client)
		a.attributesClasses = !a.attributesMissing && may(ctx, client, right{"storage.k8s.io", "volumeattributesclasses", []string{"list", "watch"},
			"a claim's VolumeAttributesClass is read for each attempt, if get is granted, and a claim that waits for one looks again every few seconds"})
	}
	return a
}

// mayWatchPods tells if RBAC does not let us list, or watch, pods.
func mayWatchPods(ctx context.Context, client kubernetes.Interface) {
	pods := right{"", "pods", []string{"list", "watch"},
		"whether the source of a clone is in use is told by VolumeAttachments and by the condition Unused of the source alone; where neither tells, the clone is made all the same, and an event on it says so"}
	switch verb := missing(ctx, client, pods); verb {
	case "":
	case "watch":
		pods.without = "clones that wait for a pod to end look again every few seconds"
		fallthrough
	default:
		pods.tell(ctx, verb)
	}
}

// mayPatchClaims says whether claims are to be patched: also where RBAC grants
// neither patch nor update, for then patch is what is to be granted.
func mayPatchClaims(ctx context.Context, client kubernetes.Interface) bool {
	patch := right{"", "persistentvolumeclaims", []string{"patch"},
		"claims are updated whole instead, which costs one request more for each write"}
	verb := missing(ctx, client, patch)
	if verb == "" {
		return true
	}
	neither := missing(ctx, client, right{group: "", resource: "persistentvolumeclaims", verbs: []string{"update"}}) != ""
	if neither {
		patch.without = "nothing can be put on record, so nothing is provisioned before it is granted"
	}
	patch.tell(ctx, verb)
	return neither
}

// may says whether RBAC grants all verbs, in all namespaces, and tells what it means
// if it does not.
func may(ctx context.Context, client kubernetes.Interface, r right) bool {
	verb := missing(ctx, client, r)
	if verb == "" {
		return true
	}
	r.tell(ctx, verb)
	return false
}

// tell says that the rule is missing, of which the verb is one.
func (r right) tell(ctx context.Context, verb string) {
	klog.FromContext(ctx).Info("A rule of RBAC is missing", "rule", r.rule(), "missing", verb, "meaning", r.without)
}

// missing returns the first verb that RBAC does not grant in all namespaces, "" if
// there is none. Where even that question is refused there is none: the requests
// themselves will tell.
func missing(ctx context.Context, client kubernetes.Interface, r right) string {
	return missingIn(ctx, client, "", r)
}

// missingIn is missing for one namespace; "" are all.
func missingIn(ctx context.Context, client kubernetes.Interface, namespace string, r right) string {
	for _, verb := range r.verbs {
		review := &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: namespace, Group: r.group, Resource: r.resource, Verb: verb,
			}},
		}
		allowed := false
		err := answered(ctx, func(ctx context.Context) error {
			answer, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
			allowed = err == nil && answer.Status.Allowed
			return err
		})
		switch {
		case err != nil:
			if !errors.Is(err, context.Canceled) {
				klog.FromContext(ctx).Info("Could not find out what RBAC grants; going on as if it did", "rule", r.rule(), "err", err)
			}
			return ""
		case !allowed:
			return verb
		}
	}
	return ""
}

// attributesServed says whether the API server serves VolumeAttributesClasses. Where it
// does not say, it is taken to: then the requests themselves will tell.
func attributesServed(ctx context.Context, client kubernetes.Interface) bool {
	found := false
	err := answered(ctx, func(context.Context) error {
		list, err := client.Discovery().ServerResourcesForGroupVersion("storage.k8s.io/v1")
		found = err == nil && slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == "volumeattributesclasses" })
		return err
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return true
	}
	if !found {
		klog.FromContext(ctx).Info("The API server has no VolumeAttributesClasses in storage.k8s.io/v1; claims with spec.volumeAttributesClassName are refused")
	}
	return found
}

// served says whether the API server serves a resource that it need not have; if not, it
// tells what that means.
func served(ctx context.Context, client kubernetes.Interface, resource schema.GroupVersionResource, missing string) bool {
	found := false
	err := answered(ctx, func(context.Context) error {
		list, err := client.Discovery().ServerResourcesForGroupVersion(resource.GroupVersion().String())
		found = err == nil && slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == resource.Resource })
		return err
	})
	if !found && (err == nil || apierrors.IsNotFound(err)) {
		klog.FromContext(ctx).Info(missing, "apiVersion", resource.GroupVersion().String())
	}
	return found
}

// servedToUs answers informers.Wanted.Served.
func (a access) servedToUs(client kubernetes.Interface) func(context.Context, schema.GroupVersionResource) bool {
	return func(ctx context.Context, resource schema.GroupVersionResource) bool {
		if resource == informers.ReferenceGrants() {
			return a.grants && served(ctx, client, resource, "The API server has no ReferenceGrants; clones of sources in other namespaces wait until it has")
		}
		return a.snapshots && served(ctx, client, resource, "The API server has no VolumeSnapshots; claims that are to be restored from one wait until it has")
	}
}

// answered asks until the API server has given an answer, be it an error, or ctx
// ends: what is found out at the start holds for as long as the process runs, and
// nothing else could be done without an API server.
func answered(ctx context.Context, ask func(context.Context) error) error {
	pauses := wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Steps: 6, Cap: 10 * time.Second}
	var last error
	err := pauses.DelayFunc().Until(ctx, true, true, func(ctx context.Context) (bool, error) {
		if last = ask(ctx); last == nil || definite(last) {
			return true, nil
		}
		klog.FromContext(ctx).Info("The API server does not say what RBAC grants and what it serves; it is asked again", "err", last)
		return false, nil
	})
	if err != nil {
		return err
	}
	return last
}

// definite says whether the API server has turned the question down; every other
// error is about the moment.
func definite(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) ||
		apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)
}
