package request_test

import (
	"maps"
	"testing"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/request"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

func classOf(parameters map[string]string) *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Provisioner: "clone.example.com", Parameters: parameters}
}

func TestParameters(t *testing.T) {
	for _, c := range []struct {
		name   string
		class  map[string]string
		want   map[string]string
		fsType string
	}{
		{"no parameters are an empty map", nil, map[string]string{}, ""},
		{"the driver's own pass", map[string]string{"pool": "ssd", "Replicas": "3"}, map[string]string{"pool": "ssd", "Replicas": "3"}, ""},
		{"the reserved fstype is read and kept back", map[string]string{"csi.storage.k8s.io/fstype": "xfs", "pool": "ssd"}, map[string]string{"pool": "ssd"}, "xfs"},
		{"the old fstype is read and passed on", map[string]string{"fstype": "ext4"}, map[string]string{"fstype": "ext4"}, "ext4"},
		{"in any letter case", map[string]string{"fsType": "ext4"}, map[string]string{"fsType": "ext4"}, "ext4"},
		{"even in capitals", map[string]string{"FSTYPE": "ext4"}, map[string]string{"FSTYPE": "ext4"}, "ext4"},
		{"an empty fstype asks for none", map[string]string{"csi.storage.k8s.io/fstype": ""}, map[string]string{}, ""},
		{"a key that only looks reserved passes", map[string]string{"csi.storage.k8s.io": "x", "x.csi.storage.k8s.io/y": "z"}, map[string]string{"csi.storage.k8s.io": "x", "x.csi.storage.k8s.io/y": "z"}, ""},
		{"a key that only sounds like a secret passes", map[string]string{"secret-name": "x", "csiProvisionerSecret": "y"}, map[string]string{"secret-name": "x", "csiProvisionerSecret": "y"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			class := classOf(maps.Clone(c.class))
			got, fsType, v := request.Parameters(class)
			if v != (verdict.Verdict{}) {
				t.Fatalf("got %+v", v)
			}
			if got == nil {
				t.Fatal("the map is nil")
			}
			if !maps.Equal(got, c.want) || fsType != c.fsType {
				t.Errorf("got %v and %q, want %v and %q", got, fsType, c.want, c.fsType)
			}
			got["added"] = "by the caller"
			if !maps.Equal(class.Parameters, c.class) {
				t.Errorf("the class was changed: %v", class.Parameters)
			}
		})
	}
}

// The driver gets the contents of secrets, not their names; but the old spellings, which
// it always got, it still gets.
func TestParametersAboutSecrets(t *testing.T) {
	class, old := map[string]string{"pool": "ssd"}, map[string]string{"pool": "ssd"}
	for _, kind := range []string{"", "provisioner-", "controller-publish-", "controller-expand-", "controller-modify-", "node-stage-", "node-publish-", "node-expand-"} {
		class["csi.storage.k8s.io/"+kind+"secret-name"] = "x"
		class["csi.storage.k8s.io/"+kind+"secret-namespace"] = "x"
	}
	for _, kind := range []string{"Provisioner", "ControllerPublish", "NodeStage", "NodePublish"} {
		old["csi"+kind+"SecretName"], old["csi"+kind+"SecretNamespace"] = "x", "x"
	}
	maps.Copy(class, old)
	got, _, v := request.Parameters(classOf(class))
	if !v.Ready() || !maps.Equal(got, old) {
		t.Errorf("the driver gets %v, %s", got, v.Message)
	}
}

func TestParametersRefuses(t *testing.T) {
	unknown := func(key string) verdict.Verdict {
		return verdict.Verdict{
			Kind: verdict.Refuse, Reason: verdict.InvalidClass,
			Message: `StorageClass "fast" has the unknown parameter "` + key + `"; keys that begin with "csi.storage.k8s.io/" are reserved, correct or remove it`,
		}
	}
	twice := func(keys string) verdict.Verdict {
		return verdict.Verdict{
			Kind: verdict.Refuse, Reason: verdict.InvalidClass,
			Message: `StorageClass "fast" names the file system more than once (` + keys + `); keep "csi.storage.k8s.io/fstype" only`,
		}
	}
	type refusal struct {
		name string
		keys []string
		want verdict.Verdict
	}
	cases := []refusal{
		{"an unknown reserved key", []string{"csi.storage.k8s.io/fs"}, unknown("csi.storage.k8s.io/fs")},
		{"the reserved fstype in another letter case", []string{"csi.storage.k8s.io/FsType"}, unknown("csi.storage.k8s.io/FsType")},
		{"the prefix alone", []string{"csi.storage.k8s.io/"}, unknown("csi.storage.k8s.io/")},
		{"metadata keys, which are ours to write", []string{"csi.storage.k8s.io/pvc/name"}, unknown("csi.storage.k8s.io/pvc/name")},
		{"two spellings of fstype", []string{"csi.storage.k8s.io/fstype", "fstype"}, twice("csi.storage.k8s.io/fstype, fstype")},
		{"two letter cases of the old one", []string{"fsType", "fstype"}, twice("fsType, fstype")},
		{"three of them, in a fixed order", []string{"fstype", "FSTYPE", "csi.storage.k8s.io/fstype"}, twice("FSTYPE, csi.storage.k8s.io/fstype, fstype")},
		{"a secret of a kind that there is not", []string{"csi.storage.k8s.io/node-unstage-secret-name"}, unknown("csi.storage.k8s.io/node-unstage-secret-name")},
		{"of two unknown ones the first is named", []string{"csi.storage.k8s.io/b", "csi.storage.k8s.io/a"}, unknown("csi.storage.k8s.io/a")},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			parameters := map[string]string{"pool": "ssd"}
			for _, key := range c.keys {
				parameters[key] = "x"
			}
			got, fsType, v := request.Parameters(classOf(parameters))
			if v != c.want {
				t.Errorf("got %+v\nwant %+v", v, c.want)
			}
			if got != nil || fsType != "" {
				t.Errorf("a refused class gives %v and %q", got, fsType)
			}
			if len(parameters) != len(c.keys)+1 {
				t.Errorf("the class was changed: %v", parameters)
			}
		})
	}
}
