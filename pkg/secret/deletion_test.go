package secret_test

import (
	"maps"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/secret"
)

const (
	keyName      = "volume.kubernetes.io/provisioner-deletion-secret-name"
	keyNamespace = "volume.kubernetes.io/provisioner-deletion-secret-namespace"
)

func TestAnnotate(t *testing.T) {
	got := map[string]string{"kept": "x"}
	secret.Annotate(got, secret.Refs{})
	if want := map[string]string{"kept": "x", keyName: "", keyNamespace: ""}; !maps.Equal(got, want) {
		t.Errorf("without secrets: %v", got)
	}
	secret.Annotate(got, secret.Refs{Provisioner: secret.Ref{Namespace: "ns", Name: "n"}, ControllerModify: secret.Ref{Namespace: "mns", Name: "m"}})
	want := map[string]string{
		"kept": "x", keyName: "n", keyNamespace: "ns",
		"volume.kubernetes.io/controller-modify-secret-name": "m", "volume.kubernetes.io/controller-modify-secret-namespace": "mns",
	}
	if !maps.Equal(got, want) {
		t.Errorf("with secrets: %v", got)
	}
}

func TestOnPV(t *testing.T) {
	for _, c := range []struct {
		name        string
		annotations map[string]string
		want        secret.Ref
		told        bool
	}{
		{"both", map[string]string{keyName: "n", keyNamespace: "ns"}, secret.Ref{Namespace: "ns", Name: "n"}, true},
		{"both empty", map[string]string{keyName: "", keyNamespace: ""}, secret.Ref{}, true},
		{"an empty name", map[string]string{keyName: "", keyNamespace: "ns"}, secret.Ref{}, true},
		{"an empty namespace", map[string]string{keyName: "n", keyNamespace: ""}, secret.Ref{}, true},
		{"only one of them", map[string]string{keyName: "n"}, secret.Ref{}, false},
		{"none", nil, secret.Ref{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			pv := &v1.PersistentVolume{}
			pv.Annotations = c.annotations
			if got, told := secret.OnPV(pv); got != c.want || told != c.told {
				t.Errorf("got %+v, told %t", got, told)
			}
		})
	}
}

func TestOfClass(t *testing.T) {
	static := classOf("provisioner-secret-name=${pvc.name}-${pv.name}", "provisioner-secret-namespace=${pvc.namespace}")
	byTeam := classOf("secret-name=${pvc.annotations['team']}", "secret-namespace=ns")
	claim := func(uid string) *v1.PersistentVolumeClaim {
		c := &v1.PersistentVolumeClaim{}
		c.UID, c.Annotations = "uid-data", map[string]string{"team": "blue"}
		if uid != "" {
			c.UID = "other"
		}
		return c
	}
	for _, c := range []struct {
		name  string
		class *storagev1.StorageClass
		claim *v1.PersistentVolumeClaim
		bound bool
		want  string
		words string
	}{
		{"a class that tells", static, nil, true, "shop/data-pvc-1", ""},
		{"no class", nil, nil, true, "", ""},
		{"a class without secrets", classOf(), nil, true, "", ""},
		{"a PV that was never bound", static, nil, false, "", ""},
		{"an annotation of a claim that is there", byTeam, claim(""), true, "ns/blue", ""},
		{"one of a claim that is gone", byTeam, nil, true, "", `annotation "team"`},
		{"one of another claim of that name", byTeam, claim("other"), true, "", `annotation "team"`},
		{"a class that contradicts itself", classOf("secret-name=n"), nil, true, "", "needs both, or none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pv := &v1.PersistentVolume{}
			pv.Name = "pvc-1"
			if c.bound {
				pv.Spec.ClaimRef = &v1.ObjectReference{Namespace: "shop", Name: "data", UID: "uid-data"}
			}
			got, v := secret.OfClass(pv, c.class, c.claim)
			if got.String() != c.want || v.Ready() != (c.words == "") {
				t.Errorf("got %q, %s", got, v.Message)
			}
			for _, words := range []string{c.words, keyName, keyNamespace} {
				if c.words != "" && !strings.Contains(v.Message, words) {
					t.Errorf("%q lacks %q", v.Message, words)
				}
			}
		})
	}
}

func TestClassOf(t *testing.T) {
	pv := &v1.PersistentVolume{}
	if got := secret.ClassOf(pv); got != "" {
		t.Errorf("none is %q", got)
	}
	pv.Spec.StorageClassName = "field"
	if got := secret.ClassOf(pv); got != "field" {
		t.Errorf("the field is %q", got)
	}
	pv.Annotations = map[string]string{"volume.beta.kubernetes.io/storage-class": "annotation"}
	if got := secret.ClassOf(pv); got != "annotation" {
		t.Errorf("the annotation is %q", got)
	}
}

func TestVouches(t *testing.T) {
	ref := secret.Ref{Namespace: "vault", Name: "old"}
	for _, c := range []struct {
		name   string
		change func(*v1.PersistentVolume)
		want   bool
	}{
		{"a PV of the class, of the claim's namespace, with the Secret", func(*v1.PersistentVolume) {}, true},
		{"with another Secret", func(pv *v1.PersistentVolume) { pv.Annotations[keyName] = "new" }, false},
		{"one that says nothing", func(pv *v1.PersistentVolume) { pv.Annotations = nil }, false},
		{"of another class", func(pv *v1.PersistentVolume) { pv.Spec.StorageClassName = "slow" }, false},
		{"of another driver", func(pv *v1.PersistentVolume) { pv.Spec.CSI.Driver = "other.example.com" }, false},
		{"one that is none of CSI", func(pv *v1.PersistentVolume) { pv.Spec.CSI = nil }, false},
		{"of another namespace", func(pv *v1.PersistentVolume) { pv.Spec.ClaimRef.Namespace = "bank" }, false},
		{"one that was never bound", func(pv *v1.PersistentVolume) { pv.Spec.ClaimRef = nil }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			pv := &v1.PersistentVolume{}
			pv.Annotations = map[string]string{keyName: "old", keyNamespace: "vault"}
			pv.Spec.StorageClassName = "fast"
			pv.Spec.ClaimRef = &v1.ObjectReference{Namespace: "shop", Name: "data"}
			pv.Spec.CSI = &v1.CSIPersistentVolumeSource{Driver: "csi.example.com"}
			c.change(pv)
			if got := secret.Vouches(pv, ref, "csi.example.com", "fast", "shop"); got != c.want {
				t.Errorf("got %t", got)
			}
			if secret.Vouches(pv, secret.Ref{}, "csi.example.com", "fast", "shop") {
				t.Error("none is vouched for")
			}
		})
	}
}
