package nodelocal

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// A claim that another node has is looked at after patient times the longest delay of the
// flags, and then ever more seldom up to seldom times it (five minutes and an hour): is that
// node still there?
const (
	patient = 5
	seldom  = 60
)

// Watch implements intake.Nodes: the claim is for another node's provisioner. If it is not
// bound after a while it is found out whether that node is gone.
func (c *Controller) Watch(claim *v1.PersistentVolumeClaim) {
	if claim.Spec.VolumeName != "" {
		c.Drop(claim.Namespace, claim.Name, claim.UID)
		return
	}
	k := key{claim.Namespace, claim.Name, claim.UID}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[k]
	if e != nil && e.elsewhere && sameNode(e.claim, claim) {
		e.claim = claim
		return
	}
	now := c.Clock.Now()
	e = &entry{claim: claim, elsewhere: true, since: now, due: now.Add(c.pause(0))}
	c.entries[k] = e
	c.queue.AddAfter(k, e.due.Sub(now))
}

func sameNode(a, b *v1.PersistentVolumeClaim) bool {
	return a.Annotations[wellknown.SelectedNode] == b.Annotations[wellknown.SelectedNode]
}

// pause is how long to wait after so many looks; longer by chance, so that of all nodes not
// many look at once, and most find that it is done.
func (c *Controller) pause(looks int) time.Duration {
	wait := patient * c.Delays.Max
	for ; looks > 0 && wait < seldom*c.Delays.Max; looks-- {
		wait *= 2
	}
	wait = min(wait, seldom*c.Delays.Max)
	return wait + c.Random(wait)
}

// lookElsewhere gives a claim back whose node is gone, if nothing was begun for it. If
// something was, its volume may exist where nobody can look: that is for a person to decide.
func (c *Controller) lookElsewhere(ctx context.Context, k key, e entry) {
	if v, free := c.orphaned(ctx, e.claim); free {
		c.free(ctx, e.claim)
	} else if !v.Ready() {
		c.Recorder.Say(e.claim, v)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	found := c.entries[k]
	if found == nil || !found.elsewhere {
		return
	}
	found.tries++
	wait := c.pause(found.tries)
	found.due = c.Clock.Now().Add(wait)
	c.queue.AddAfter(k, wait)
}

// orphaned says whether the claim is free because its node is gone, or what is to be told.
func (c *Controller) orphaned(ctx context.Context, claim *v1.PersistentVolumeClaim) (v verdict.Verdict, free bool) {
	node, other := claim.Annotations[wellknown.SelectedNode], c.Keys.Other(claim.Finalizers)
	switch {
	case other == c.Keys.Central():
		return verdict.Refused(verdict.RecordOfAnother,
			"the claim is on record of a provisioner that works without --node-deployment, which has to finish it; run that again, or see docs/node-deployment.md"), false
	case node == "" || node == c.Here.Node:
		return verdict.Verdict{}, false // nobody can tell whose record it is
	case other != "" && other != c.Keys.OnNode(node).Finalizer:
		return verdict.Verdict{}, false // a third node's
	}
	exists, err := c.NodeExists(ctx, node)
	switch {
	case err != nil:
		klog.FromContext(ctx).V(2).Info("Whether the node of a claim is still there is not known", "node", node, "err", err)
		return verdict.Verdict{}, false
	case exists:
		return verdict.Verdict{}, false
	case other == "":
		return verdict.Verdict{}, claim.DeletionTimestamp == nil
	}
	return verdict.Refused(verdict.RecordOfAnother,
		"node %q, whose provisioner had begun with this claim, is gone, and with it perhaps a volume; if it does not come back, take finalizer %s and annotation %s off the claim, see docs/node-deployment.md",
		node, other, wellknown.SelectedNode), false
}

// free takes the chosen node off.
func (c *Controller) free(ctx context.Context, claim *v1.PersistentVolumeClaim) {
	patch, err := record.Unselect(claim)
	if err == nil {
		_, err = c.Writer.Patch(ctx, claim, patch)
	}
	logger := klog.FromContext(ctx)
	switch {
	case err == nil:
		logger.Info("Claim given back, because its node is gone", "node", claim.Annotations[wellknown.SelectedNode])
	case !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && ctx.Err() == nil:
		logger.Info("A claim whose node is gone could not be given back; tried again", "err", err)
	}
}
