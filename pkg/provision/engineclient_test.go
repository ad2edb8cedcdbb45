package provision_test

import (
	"context"
	"errors"
	"slices"
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
	patched []string
}

func (c *core) PersistentVolumes() corev1.PersistentVolumeInterface { return volumes{core: c} }
func (c *core) Events(string) corev1.EventInterface                 { return nil }

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

func (v volumes) Patch(_ context.Context, name string, _ types.PatchType, _ []byte, _ metav1.PatchOptions, _ ...string) (*v1.PersistentVolume, error) {
	v.core.patched = append(v.core.patched, name)
	return &v1.PersistentVolume{}, nil
}

// sender is given what the engine says.
type sender struct{ sent []*v1.Event }

func (s *sender) Send(event *v1.Event) { s.sent = append(s.sent, event) }

func TestEngineClientAnswersTheCreateOfASavedPV(t *testing.T) {
	behind := &core{}
	client := provision.EngineClient(outer{core: behind}, "clone-provisioner", deleting{}, &sender{})
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
	client := provision.EngineClient(outer{core: behind}, "clone-provisioner", deleting{}, &sender{})
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
func (deleting) NotRemoved(string, error)             {}

func (deleting) MayRelease(_ context.Context, pv string) error {
	if pv == "pvc-recorded" {
		return errRecorded
	}
	return nil
}

var errRecorded = errors.New("its claim is on record")

// A finalizer comes off a PV only when nothing can make the PV's volume again.
func TestEngineClientPatchesOnlyAPVThatMayBeReleased(t *testing.T) {
	behind := &core{}
	pvs := provision.EngineClient(outer{core: behind}, "clone-provisioner", deleting{}, &sender{}).CoreV1().PersistentVolumes()
	for name, want := range map[string]error{"pvc-recorded": errRecorded, "pvc-free": nil} {
		if _, err := pvs.Patch(t.Context(), name, types.StrategicMergePatchType, nil, metav1.PatchOptions{}); !errors.Is(err, want) {
			t.Errorf("PV %s: got %v, want %v", name, err, want)
		}
	}
	if !slices.Equal(behind.patched, []string{"pvc-free"}) {
		t.Errorf("patched are %q", behind.patched)
	}
}

// The engine's library drops events while its queue is full, which it is soon if each
// has to wait for the API server.
func TestEngineClientSendsNoEventItself(t *testing.T) {
	queue := &sender{}
	client := provision.EngineClient(outer{core: &core{}}, "clone-provisioner", deleting{}, queue)
	sink := &corev1.EventSinkImpl{Interface: client.CoreV1().Events("")}
	event := &v1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "copy.1"}, Reason: "ProvisioningFailed", Count: 1,
		Source: v1.EventSource{Component: "clone.example.com_host_1b2c", Host: "host"}, ReportingController: "clone.example.com_host_1b2c",
	}
	if _, err := sink.Create(event); err != nil {
		t.Fatal(err)
	}
	again := event.DeepCopy()
	again.Count, again.Source.Component = 2, "clone.example.com_host_1b2c"
	if _, err := sink.Patch(again, []byte(`{"count":2}`)); err != nil {
		t.Fatal(err)
	}
	if len(queue.sent) != 2 {
		t.Fatalf("queued are %v, want both", queue.sent)
	}
	for i, sent := range queue.sent {
		if sent.Source.Component != "clone-provisioner" || sent.ReportingController != "clone-provisioner" || sent.Name != "copy.1" || int(sent.Count) != i+1 {
			t.Errorf("queued is %+v", sent)
		}
	}
}
