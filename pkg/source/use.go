package source

import (
	"time"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

// Evidence is what is known of who uses a source.
type Evidence struct {
	// Pods that may mount the source; those of its namespace that name it.
	Pods []*v1.Pod
	// PodsKnown: the pods could be listed.
	PodsKnown bool
	// Attachments of the source's PV.
	Attachments []*storagev1.VolumeAttachment
	// AttachmentsTell: who uses a volume of this driver attaches it, and the
	// attachments could be read, so that their absence tells something.
	AttachmentsTell bool
	// Before, unless zero, leaves out who came to the source then or later. It is the
	// clone's creation if its record was found by this process: the record was written
	// while nobody used the source, and work in progress is not stopped by who came
	// since. Who was there before the clone tells that nobody looked.
	Before time.Time
}

// JudgeUse is rule 6: the source of the claim, which all other rules let pass, is
// not in use. Where nobody could look the verdict is Ready with a reason to be told.
func JudgeUse(claim, src *v1.PersistentVolumeClaim, e Evidence) verdict.Verdict {
	ref := Of(claim)
	if pod := user(src, e); pod != nil {
		return verdict.Waiting(verdict.CloneSourceInUse,
			"clone waits until source PVC %q is not in use: pod %q on node %q mounts it; it starts by itself when no pod does any more (--clone-policy=compatible lifts this rule)",
			ref.Shown, pod.Name, pod.Spec.NodeName)
	}
	if first := attachment(e); first != nil {
		return verdict.Waiting(verdict.CloneSourceInUse,
			"clone waits until source PVC %q is not in use: its PV %q is attached to node %q (VolumeAttachment %q); it starts by itself when it is detached (--clone-policy=compatible lifts this rule)",
			ref.Shown, src.Spec.VolumeName, first.Spec.NodeName, first.Name)
	}
	if e.PodsKnown || e.AttachmentsTell || unused(src) {
		return verdict.Verdict{}
	}
	return verdict.Noted(verdict.CloneSourceUseUnknown,
		"nobody could look whether source PVC %q is in use, because the provisioner may not list pods; the clone is made all the same, and may lack what a running pod has not written yet. To have clones wait for pods, grant the provisioner list and watch on pods", ref.Shown)
}

// attachment returns the attachment, first by name, that counts; nil if there is none.
func attachment(e Evidence) *storagev1.VolumeAttachment {
	var first *storagev1.VolumeAttachment
	for _, a := range e.Attachments {
		if e.inTime(a.CreationTimestamp) && (first == nil || a.Name < first.Name) {
			first = a
		}
	}
	return first
}

// user returns the pod, first by name, that has a node, is not over and mounts the
// claim; nil if there is none. A pod without a node does not count: it may itself
// wait for the clone.
func user(claim *v1.PersistentVolumeClaim, e Evidence) *v1.Pod {
	var first *v1.Pod
	for _, pod := range e.Pods {
		over := pod.Status.Phase == v1.PodSucceeded || pod.Status.Phase == v1.PodFailed
		if pod.Spec.NodeName != "" && !over && mounts(pod, claim) && e.inTime(scheduled(pod)) && (first == nil || pod.Name < first.Name) {
			first = pod
		}
	}
	return first
}

func (e Evidence) inTime(came metav1.Time) bool {
	return e.Before.IsZero() || came.Time.Before(e.Before)
}

// scheduled returns when the pod got its node; its creation if nobody says.
func scheduled(pod *v1.Pod) metav1.Time {
	for _, c := range pod.Status.Conditions {
		if c.Type == v1.PodScheduled && c.Status == v1.ConditionTrue {
			return c.LastTransitionTime
		}
	}
	return pod.CreationTimestamp
}

// mounts: by name, or as the claim that was made for an ephemeral volume of the pod
// (Kubernetes, "Generic ephemeral volumes"): a claim of that name which is not the
// pod's keeps the pod from starting.
func mounts(pod *v1.Pod, claim *v1.PersistentVolumeClaim) bool {
	if pod.Namespace != claim.Namespace {
		return false
	}
	for i := range pod.Spec.Volumes {
		switch volume := &pod.Spec.Volumes[i]; {
		case volume.PersistentVolumeClaim != nil && volume.PersistentVolumeClaim.ClaimName == claim.Name:
			return true
		case volume.Ephemeral != nil && pod.Name+"-"+volume.Name == claim.Name && metav1.IsControlledBy(claim, pod):
			return true
		}
	}
	return false
}

// unused: newer clusters note on a claim that no pod refers to it.
func unused(claim *v1.PersistentVolumeClaim) bool {
	for _, c := range claim.Status.Conditions {
		if c.Type == v1.PersistentVolumeClaimUnused {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}
