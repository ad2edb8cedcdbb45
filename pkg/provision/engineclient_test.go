package provision_test

import (
	"context"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/provision"
)

// outer, core, volumes and events stand where the real client would; what a
// test does not expect has no implementation and panics.
type outer struct {
	kubernetes.Interface
	core *core
}

func (o outer) CoreV1() corev1.CoreV1Interface { return o.core }

type core struct {
	corev1.CoreV1Interface
	deleted []string
	guarded []types.UID
	sent    []*v1.Event
	sentTo  string
}

func (c *core) PersistentVolumes() corev1.PersistentVolumeInterface { return volumes{core: c} }
func (c *core) Events(namespace string) corev1.EventInterface {
	c.sentTo = namespace
	return events{core: c}
}

type volumes struct {
	corev1.PersistentVolumeInterface
	core *core
}

func (v volumes) Delete(_ context.Context, name string, options metav1.DeleteOptions) error {
	v.core.deleted = append(v.core.deleted, name)
	if options.Preconditions != nil {
		v.core.guarded = append(v.core.guarded, *options.Preconditions.UID)
	}
	return nil
}

type events struct {
	corev1.EventInterface
	core *core
}

func (e events) CreateWithEventNamespaceWithContext(_ context.Context, event *v1.Event) (*v1.Event, error) {
	e.core.sent = append(e.core.sent, event)
	return event, nil
}

func TestEngineClientAnswersTheCreateOfASavedPV(t *testing.T) {
	behind := &core{}
	client := provision.EngineClient(outer{core: behind}, "clone-provisioner", deleting{})
	pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pvc-1"}}
	got, err := client.CoreV1().PersistentVolumes().Create(t.Context(), pv, metav1.CreateOptions{})
	if err != nil || got != pv {
		t.Errorf("got %v and %v", got, err)
	}
	if err := client.CoreV1().PersistentVolumes().Delete(t.Context(), "pvc-1", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if len(behind.deleted) != 1 {
		t.Error("the delete of a PV did not get through")
	}
}

// The name may be another claim's by the time the engine deletes its PV.
func TestEngineClientDeletesOnlyThePVWhoseVolumeIsDeleted(t *testing.T) {
	behind := &core{}
	client := provision.EngineClient(outer{core: behind}, "clone-provisioner", deleting{})
	if err := client.CoreV1().PersistentVolumes().Delete(t.Context(), "pvc-deleting", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if len(behind.guarded) != 1 || behind.guarded[0] != "uid-deleting" {
		t.Errorf("the delete is guarded by %v", behind.guarded)
	}
}

// deleting knows one PV whose volume is being deleted.
type deleting struct{}

func (deleting) Deleting(pv string) (types.UID, bool) { return "uid-deleting", pv == "pvc-deleting" }
func (deleting) Patched(string)                       {}

func TestEngineClientNamesTheSourceOfEvents(t *testing.T) {
	behind := &core{}
	sink := &corev1.EventSinkImpl{Interface: provision.EngineClient(outer{core: behind}, "clone-provisioner", deleting{}).CoreV1().Events("")}
	event := &v1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Reason: "ProvisioningSucceeded",
		Source: v1.EventSource{Component: "clone.example.com_host_1b2c", Host: "host"}, ReportingController: "clone.example.com_host_1b2c",
	}
	if _, err := sink.Create(event); err != nil {
		t.Fatal(err)
	}
	if len(behind.sent) != 1 || behind.sentTo != "" {
		t.Fatalf("sent %v to namespace %q", behind.sent, behind.sentTo)
	}
	sent := behind.sent[0]
	if sent.Source.Component != "clone-provisioner" || sent.ReportingController != "clone-provisioner" || sent.Reason != "ProvisioningSucceeded" {
		t.Errorf("sent %+v", sent)
	}
}
