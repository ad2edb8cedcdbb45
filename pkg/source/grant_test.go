package source_test

import (
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
)

func TestGrantOf(t *testing.T) {
	for _, c := range []struct {
		name, manifest string
		want           source.Grant
	}{
		{
			"a whole grant",
			`spec:
  from: [{group: "", kind: PersistentVolumeClaim, namespace: shop}]
  to: [{group: "", kind: PersistentVolumeClaim, name: db}, {group: snapshot.storage.k8s.io, kind: VolumeSnapshot}]`,
			source.Grant{
				From: []source.GrantFrom{{Kind: "PersistentVolumeClaim", Namespace: "shop"}},
				To:   []source.GrantTo{{Kind: "PersistentVolumeClaim", Name: "db"}, {Group: "snapshot.storage.k8s.io", Kind: "VolumeSnapshot"}},
			},
		},
		{"fields of later versions are passed over", `spec: {from: [{group: "", kind: A, namespace: b, until: 2030}], mood: good}`, source.Grant{From: []source.GrantFrom{{Kind: "A", Namespace: "b"}}}},
		{"nothing", `{}`, source.Grant{}},
		{"no spec", `spec: null`, source.Grant{}},
		{"a spec that is none", `spec: [1, 2]`, source.Grant{}},
		{"a list that is none", `spec: {from: all}`, source.Grant{}},
		{"an entry that is none", `spec: {from: [{kind: 7}]}`, source.Grant{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			object := map[string]any{}
			if err := yaml.Unmarshal([]byte(c.manifest), &object); err != nil {
				t.Fatal(err)
			}
			if got := source.GrantOf(&unstructured.Unstructured{Object: object}); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}
