package record_test

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

func TestChoosingANode(t *testing.T) {
	claim := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db", UID: "u", ResourceVersion: "7"}}
	patch, err := record.Select(claim, "node-1")
	if want := `{"metadata":{"annotations":{"volume.kubernetes.io/selected-node":"node-1"},"resourceVersion":"7","uid":"u"}}`; err != nil || string(patch) != want {
		t.Errorf("Select: %s, %v", patch, err)
	}
	patch, err = record.Unselect(claim)
	if want := `{"metadata":{"annotations":{"volume.kubernetes.io/selected-node":null},"resourceVersion":"7","uid":"u"}}`; err != nil || string(patch) != want {
		t.Errorf("Unselect: %s, %v", patch, err)
	}
}

func TestAnybodys(t *testing.T) {
	central := wellknown.RecordOf("clone.example.com")
	here, there := central.OnNode("here"), central.OnNode("there")
	claim := &v1.PersistentVolumeClaim{}
	if record.Anybodys(here, claim) {
		t.Error("a claim without finalizers is on record")
	}
	for _, keys := range []wellknown.Record{central, here, there} {
		claim.Finalizers = []string{keys.Finalizer}
		if !record.Anybodys(here, claim) || record.On(here, claim) != (keys == here) {
			t.Errorf("with %s: anybody's %t, our own %t", keys.Finalizer, record.Anybodys(here, claim), record.On(here, claim))
		}
	}
}
