package capacity_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/capacity"
)

func TestManagedBy(t *testing.T) {
	const base = "external-provisioner"
	for _, c := range []struct{ name, node, want string }{
		{"for all nodes", "", base},
		{"one node", "node-1", base + "-node-1"},
		{"the longest name that fits", strings.Repeat("n", 42), base + "-" + strings.Repeat("n", 42)},
		{"one more: a part of the base goes", strings.Repeat("n", 43), "external-p-" + baseHash + "-" + strings.Repeat("n", 43)},
		{"the longest that goes with a part", strings.Repeat("n", 52), "e-" + baseHash + "-" + strings.Repeat("n", 52)},
		{"longer: a hash stands for all", strings.Repeat("n", 53), base + "-" + hash53},
		{"as long as nodes can be called", strings.Repeat("n", 253), base + "-" + hash253},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := capacity.ManagedBy(c.node)
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if wrong := validation.IsValidLabelValue(got); len(wrong) > 0 {
				t.Errorf("%q is no value of a label: %v", got, wrong)
			}
		})
	}
}

// FNV-1a of 32 bits, reckoned by another program.
const (
	baseHash = "53f40b57"
	hash53   = "698d23b8"
	hash253  = "1a4f7268"
)

// objects that own one another, by name.
type owners map[string]metav1.OwnerReference

func (o owners) get(read *[]string) capacity.Get {
	return func(_ context.Context, reference metav1.OwnerReference) (metav1.Object, error) {
		*read = append(*read, reference.Kind+" "+reference.Name)
		above, found := o[reference.Name]
		if !found {
			return nil, errors.New("not found")
		}
		object := &metav1.ObjectMeta{Name: reference.Name, UID: types.UID("uid-of-" + reference.Name)}
		if above.Name != "" {
			object.OwnerReferences = []metav1.OwnerReference{{Kind: "Other", Name: "other", UID: "u"}, above}
		}
		return object, nil
	}
}

func TestOwner(t *testing.T) {
	controller := func(apiVersion, kind, name string) metav1.OwnerReference {
		return metav1.OwnerReference{APIVersion: apiVersion, Kind: kind, Name: name, UID: types.UID("uid-of-" + name), Controller: new(true), BlockOwnerDeletion: new(true)}
	}
	world := owners{
		"pod": controller("apps/v1", "ReplicaSet", "set"), "set": controller("apps/v1", "Deployment", "deployment"),
		"deployment": {}, "bare": {},
	}
	for _, c := range []struct {
		name, pod string
		level     int
		want      string
		read      string
		err       string
	}{
		{"none", "pod", -1, "nobody", "", ""},
		{"the pod", "pod", 0, "v1 Pod pod uid-of-pod", "Pod pod", ""},
		{"its controller, of which only the pod tells", "pod", 1, "apps/v1 ReplicaSet set uid-of-set", "Pod pod", ""},
		{"the controller of that", "pod", 2, "apps/v1 Deployment deployment uid-of-deployment", "Pod pod, ReplicaSet set", ""},
		{"nobody controls that", "pod", 3, "", "Pod pod, ReplicaSet set, Deployment deployment",
			`Deployment "deployment" has no controller among its owners, with --capacity-ownerref-level=3: give 2 at most, or -1 for objects without an owner`},
		{"a pod that nobody controls", "bare", 1, "", "Pod bare",
			`Pod "bare" has no controller among its owners, with --capacity-ownerref-level=1: give 0 at most, or -1 for objects without an owner`},
		{"no such pod", "gone", 0, "", "Pod gone", `reading Pod "gone", with --capacity-ownerref-level=0: not found`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var read []string
			reference, err := capacity.Owner(t.Context(), world.get(&read), c.pod, c.level)
			if got := strings.Join(read, ", "); got != c.read {
				t.Errorf("read %q, want %q", got, c.read)
			}
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Errorf("got  %v\nwant %s", err, c.err)
				}
				return
			}
			got := "nobody"
			if reference != nil {
				got = fmt.Sprintf("%s %s %s %s", reference.APIVersion, reference.Kind, reference.Name, reference.UID)
				if reference.Controller == nil || !*reference.Controller || reference.BlockOwnerDeletion != nil {
					t.Errorf("it is %+v, want the controller, and nothing that blocks", reference)
				}
			}
			if err != nil || got != c.want {
				t.Errorf("got %q (%v), want %q", got, err, c.want)
			}
		})
	}
}
