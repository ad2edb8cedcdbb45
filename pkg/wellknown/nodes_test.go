package wellknown_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

func TestRecordsOfNodes(t *testing.T) {
	central := wellknown.RecordOf("Clone.example.com")
	here, there := central.OnNode(strings.Repeat("long-", 50)), central.OnNode("there")
	for _, f := range []string{here.Finalizer, there.Finalizer} {
		if wrong := validation.IsQualifiedName(f); len(wrong) > 0 {
			t.Errorf("%s is no finalizer: %v", f, wrong)
		}
	}
	if here.Finalizer == there.Finalizer || here.VolumeName != there.VolumeName || here.OnNode("there") != there || here.Central() != central.Finalizer || central.Central() != central.Finalizer {
		t.Errorf("records are %+v, %+v, %+v", central, here, there)
	}
	for _, c := range []struct {
		name       string
		finalizers []string
		is         bool
		other      string
	}{
		{"nothing", nil, false, ""},
		{"our own", []string{"x", here.Finalizer}, true, ""},
		{"another node's", []string{"x", there.Finalizer}, true, there.Finalizer},
		{"both", []string{here.Finalizer, there.Finalizer}, true, there.Finalizer},
		{"of one for all nodes", []string{central.Finalizer}, true, central.Finalizer},
		{"another driver's", []string{"other.example.com/provisioning"}, false, ""},
		{"what only begins so", []string{central.Finalizer + "x"}, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			is := false
			for _, f := range c.finalizers {
				is = is || here.Is(f)
			}
			if got := here.Other(c.finalizers); is != c.is || got != c.other {
				t.Errorf("a record: %t, another's: %q", is, got)
			}
		})
	}
}
