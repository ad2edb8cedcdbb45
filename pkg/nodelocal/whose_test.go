package nodelocal_test

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/nodelocal"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

const driver = "clone.example.com"

func claimWith(node string, finalizers ...string) *v1.PersistentVolumeClaim {
	claim := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db", Finalizers: finalizers}}
	if node != "" {
		claim.Annotations = map[string]string{wellknown.SelectedNode: node}
	}
	return claim
}

func TestElsewhere(t *testing.T) {
	central := wellknown.RecordOf(driver)
	here, there := central.OnNode("here"), central.OnNode("there")
	for _, c := range []struct {
		name  string
		claim *v1.PersistentVolumeClaim
		want  bool
	}{
		{"no node is chosen", claimWith(""), false},
		{"this node is chosen", claimWith("here"), false},
		{"another node is chosen", claimWith("there"), true},
		{"no node is chosen, and we have begun", claimWith("", here.Finalizer), false},
		{"this node is chosen, and we have begun", claimWith("here", "other/finalizer", here.Finalizer), false},
		{"another node is chosen, and we have begun: it is to be undone", claimWith("there", here.Finalizer), true},
		{"no node is chosen, and another has begun", claimWith("", there.Finalizer), true},
		{"this node is chosen, and another has begun: that is to be undone first", claimWith("here", there.Finalizer), true},
		{"this node is chosen, and one for all nodes has begun", claimWith("here", central.Finalizer), true},
		{"this node is chosen, and we both have begun", claimWith("here", there.Finalizer, here.Finalizer), false},
		{"another driver's record", claimWith("here", "other.example.com/provisioning"), false},
		{"a finalizer that looks like a record", claimWith("here", driver+"/provisioningx"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := nodelocal.Elsewhere(c.claim, "here", here); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

func TestOpen(t *testing.T) {
	here := wellknown.RecordOf(driver).OnNode("here")
	immediate := &storagev1.StorageClass{VolumeBindingMode: ptr.To(storagev1.VolumeBindingImmediate)}
	delayed := &storagev1.StorageClass{VolumeBindingMode: ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)}
	for _, c := range []struct {
		name    string
		claim   *v1.PersistentVolumeClaim
		class   *storagev1.StorageClass
		compete bool
		open    bool
		reason  verdict.Reason
	}{
		{"immediate binding", claimWith(""), immediate, true, true, ""},
		{"immediate binding, which is left alone", claimWith(""), immediate, false, true, verdict.NotForNodes},
		{"the API server's default is immediate binding", claimWith(""), &storagev1.StorageClass{}, true, true, ""},
		{"the class is not there: that is to be told", claimWith(""), nil, true, true, ""},
		{"delayed binding: the scheduler chooses", claimWith(""), delayed, true, false, ""},
		{"delayed binding, whatever the flag says", claimWith(""), delayed, false, false, ""},
		{"a node is chosen", claimWith("here"), immediate, true, false, ""},
		{"a node is chosen, whatever the flag says", claimWith("here"), immediate, false, false, ""},
		{"we have begun", claimWith("", here.Finalizer), immediate, true, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			open, v := nodelocal.Open(c.claim, c.class, here, c.compete)
			if open != c.open || v.Reason != c.reason {
				t.Errorf("got %t, %+v", open, v)
			}
		})
	}
}
