package source_test

import (
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

// podOf returns a running pod that mounts the claims.
func podOf(name string, claims ...string) *v1.Pod {
	pod := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name)},
		Spec:       v1.PodSpec{NodeName: "node-1"},
		Status:     v1.PodStatus{Phase: v1.PodRunning},
	}
	for _, claim := range claims {
		pod.Spec.Volumes = append(pod.Spec.Volumes, v1.Volume{Name: "v-" + claim, VolumeSource: v1.VolumeSource{
			PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}})
	}
	return pod
}

func changed(pod *v1.Pod, change func(*v1.Pod)) *v1.Pod {
	change(pod)
	return pod
}

func attachment(name, node string) *storagev1.VolumeAttachment {
	return &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: storagev1.VolumeAttachmentSpec{NodeName: node}}
}

// Rule 6: the source is not in use.
func TestRule6(t *testing.T) {
	free := verdict.Verdict{}
	inUse := func(pod string) verdict.Verdict {
		return verdict.Verdict{
			Kind: verdict.Wait, Reason: verdict.CloneSourceInUse,
			Message: `clone waits until source PVC "db" is not in use: pod "` + pod + `" on node "node-1" mounts it; it starts by itself when no pod does any more (--clone-policy=compatible lifts this rule)`,
		}
	}
	attached := func(name, node string) verdict.Verdict {
		return verdict.Verdict{
			Kind: verdict.Wait, Reason: verdict.CloneSourceInUse,
			Message: `clone waits until source PVC "db" is not in use: its PV "pv-db" is attached to node "` + node + `" (VolumeAttachment "` + name + `"); it starts by itself when it is detached (--clone-policy=compatible lifts this rule)`,
		}
	}
	nobodyLooked := verdict.Verdict{
		Kind: verdict.Ready, Reason: verdict.CloneSourceUseUnknown,
		Message: `nobody could look whether source PVC "db" is in use, because the provisioner may not list pods; the clone is made all the same, and may lack what a running pod has not written yet. To have clones wait for pods, grant the provisioner list and watch on pods`,
	}
	ephemeral := func(owner types.UID) func(*source.Facts) {
		return func(f *source.Facts) {
			f.Source.Name, f.Claim.Spec.DataSource.Name = "web-data", "web-data"
			f.Source.OwnerReferences = []metav1.OwnerReference{{Kind: "Pod", Name: "web", UID: owner, Controller: new(true)}}
		}
	}
	condition := func(status v1.ConditionStatus) func(*source.Facts) {
		return func(f *source.Facts) {
			f.Source.Status.Conditions = []v1.PersistentVolumeClaimCondition{
				{Type: v1.PersistentVolumeClaimResizing, Status: v1.ConditionFalse}, {Type: v1.PersistentVolumeClaimUnused, Status: status},
			}
		}
	}
	web := changed(podOf("web"), func(p *v1.Pod) {
		p.Spec.Volumes = []v1.Volume{{Name: "data", VolumeSource: v1.VolumeSource{Ephemeral: &v1.EphemeralVolumeSource{}}}}
	})
	pods := func(pods ...*v1.Pod) source.Evidence { return source.Evidence{Pods: pods, PodsKnown: true} }
	for _, c := range []struct {
		name     string
		evidence source.Evidence
		change   func(*source.Facts)
		want     verdict.Verdict
	}{
		{"no pod at all", pods(), nil, free},
		{"a pod that runs", pods(podOf("app", "db")), nil, inUse("app")},
		{"a pod that is being started", pods(changed(podOf("app", "db"), func(p *v1.Pod) { p.Status.Phase = v1.PodPending })), nil, inUse("app")},
		{"a pod whose node does not answer", pods(changed(podOf("app", "db"), func(p *v1.Pod) { p.Status.Phase = v1.PodUnknown })), nil, inUse("app")},
		{"a pod that is being deleted", pods(changed(podOf("app", "db"), func(p *v1.Pod) { p.DeletionTimestamp = new(metav1.Now()) })), nil, inUse("app")},
		{"a pod that mounts it among others", pods(podOf("app", "logs", "db")), nil, inUse("app")},
		{"several pods: the first by name is told", pods(podOf("web", "db"), podOf("app", "db")), nil, inUse("app")},
		{"a pod without a node may itself wait for the clone", pods(changed(podOf("app", "db", "copy"), func(p *v1.Pod) { p.Spec.NodeName = "" })), nil, free},
		{"a pod that has succeeded", pods(changed(podOf("app", "db"), func(p *v1.Pod) { p.Status.Phase = v1.PodSucceeded })), nil, free},
		{"a pod that has failed", pods(changed(podOf("app", "db"), func(p *v1.Pod) { p.Status.Phase = v1.PodFailed })), nil, free},
		{"a pod that mounts another claim", pods(podOf("app", "logs")), nil, free},
		{"a pod of another namespace", pods(changed(podOf("app", "db"), func(p *v1.Pod) { p.Namespace = "vault" })), nil, free},
		{"the claim of a pod's ephemeral volume", pods(web), ephemeral("uid-web"), verdict.Verdict{
			Kind: verdict.Wait, Reason: verdict.CloneSourceInUse,
			Message: `clone waits until source PVC "web-data" is not in use: pod "web" on node "node-1" mounts it; it starts by itself when no pod does any more (--clone-policy=compatible lifts this rule)`,
		}},
		{"a claim that only has the name of an ephemeral volume", pods(web), ephemeral("uid-of-another"), free},
		{"an attachment without a pod", source.Evidence{PodsKnown: true, Attachments: []*storagev1.VolumeAttachment{attachment("csi-2", "node-2"), attachment("csi-1", "node-1")}}, nil, attached("csi-1", "node-1")},
		{"a pod and an attachment: the pod is told", source.Evidence{Pods: []*v1.Pod{podOf("app", "db")}, PodsKnown: true, Attachments: []*storagev1.VolumeAttachment{attachment("csi-1", "node-1")}}, nil, inUse("app")},
		{"what the condition says does not matter where pods are known", pods(), condition(v1.ConditionFalse), free},

		{"nobody could look", source.Evidence{}, nil, nobodyLooked},
		{"nobody could look, but it is attached", source.Evidence{Attachments: []*storagev1.VolumeAttachment{attachment("csi-1", "node-1")}}, nil, attached("csi-1", "node-1")},
		{"nobody could look, but the driver attaches, and it is not attached", source.Evidence{AttachmentsTell: true}, nil, free},
		{"nobody could look, but the cluster notes that it is unused", source.Evidence{}, condition(v1.ConditionTrue), free},
		{"the cluster notes that a pod names it, but not whether it runs", source.Evidence{}, condition(v1.ConditionFalse), nobodyLooked},
		{"the cluster does not know", source.Evidence{}, condition(v1.ConditionUnknown), nobodyLooked},
		{"attached beats what the cluster notes", source.Evidence{Attachments: []*storagev1.VolumeAttachment{attachment("csi-1", "node-1")}}, condition(v1.ConditionTrue), attached("csi-1", "node-1")},
	} {
		t.Run(c.name, func(t *testing.T) {
			facts := fit()
			if c.change != nil {
				c.change(&facts)
			}
			if v := source.JudgeUse(facts.Claim, facts.Source, c.evidence); v != c.want {
				t.Errorf("got %s %s\n%s\nwant %s %s\n%s", v.Kind, v.Reason, v.Message, c.want.Kind, c.want.Reason, c.want.Message)
			}
		})
	}
}

// Work on a record that is found is not stopped by who came to the source since it
// began, but by who was there before.
func TestRule6OfARecordThatIsFound(t *testing.T) {
	born := time.Unix(1_800_000_000, 0)
	at := func(seconds int) metav1.Time { return metav1.NewTime(born.Add(time.Duration(seconds) * time.Second)) }
	pod := func(created, scheduled int, status v1.ConditionStatus) source.Evidence {
		return source.Evidence{PodsKnown: true, Pods: []*v1.Pod{changed(podOf("app", "db"), func(p *v1.Pod) {
			p.CreationTimestamp = at(created)
			p.Status.Conditions = []v1.PodCondition{
				{Type: v1.PodReady, LastTransitionTime: at(9)},
				{Type: v1.PodScheduled, Status: status, LastTransitionTime: at(scheduled)},
			}
		})}}
	}
	attached := func(created int) source.Evidence {
		a := attachment("csi-1", "node-1")
		a.CreationTimestamp = at(created)
		return source.Evidence{PodsKnown: true, Attachments: []*storagev1.VolumeAttachment{a}}
	}
	for _, c := range []struct {
		name     string
		evidence source.Evidence
		ready    bool
	}{
		{"a pod that had its node before the clone was created", pod(-9, -5, v1.ConditionTrue), false},
		{"a pod that got its node in the same second", pod(-9, 0, v1.ConditionTrue), true},
		{"a pod that got its node later", pod(-9, 1, v1.ConditionTrue), true},
		{"a pod that was created later", pod(1, 2, v1.ConditionTrue), true},
		{"an old pod of which nobody says when it got its node", pod(-9, 5, v1.ConditionUnknown), false},
		{"an attachment from before", attached(-1), false},
		{"an attachment of the same second", attached(0), true},
		{"an attachment that came later", attached(1), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			facts := fit()
			if v := source.JudgeUse(facts.Claim, facts.Source, c.evidence); v.Reason != verdict.CloneSourceInUse {
				t.Errorf("without a record: %s %s", v.Kind, v.Reason)
			}
			c.evidence.Before = born
			if v := source.JudgeUse(facts.Claim, facts.Source, c.evidence); v.Ready() != c.ready {
				t.Errorf("with one: %s %s %s", v.Kind, v.Reason, v.Message)
			}
		})
	}
}
