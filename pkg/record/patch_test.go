package record_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

func decode(t *testing.T, data []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return v
}

// apply returns the claim after the strategic merge patch.
func apply(t *testing.T, c *v1.PersistentVolumeClaim, patch []byte) *v1.PersistentVolumeClaim {
	t.Helper()
	before, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	after, err := strategicpatch.StrategicMergePatch(before, patch, v1.PersistentVolumeClaim{})
	if err != nil {
		t.Fatalf("%s: %v", patch, err)
	}
	patched := &v1.PersistentVolumeClaim{}
	if err := json.Unmarshal(after, patched); err != nil {
		t.Fatal(err)
	}
	return patched
}

// guarded fails unless the patch lands on this very claim only; on the version
// given, or on any if that is nil.
func guarded(t *testing.T, patch []byte, version any) {
	t.Helper()
	object, _ := decode(t, patch).(map[string]any)
	metadata, _ := object["metadata"].(map[string]any)
	if metadata["uid"] != uid || metadata["resourceVersion"] != version {
		t.Errorf("patch %s: uid %v and resourceVersion %v, want %s and %v", patch, metadata["uid"], metadata["resourceVersion"], uid, version)
	}
	if len(object) != 1 {
		t.Errorf("patch %s changes more than metadata", patch)
	}
}

func TestWrite(t *testing.T) {
	const protection = "kubernetes.io/pvc-protection"
	ours := map[string]string{keys().VolumeName: "pvc-" + uid, keys().RequiredBytes: "10737418240"}
	for _, c := range []struct {
		name            string
		finalizers      []string
		annotations     map[string]string
		source          string
		wantFinalizers  []string
		wantAnnotations map[string]string
	}{
		{
			"a bare claim gets finalizer and pins", nil, nil, "",
			[]string{keys().Finalizer}, ours,
		},
		{
			"what others wrote stays, in its order",
			[]string{protection, "example.org/hold"}, map[string]string{wellknown.SelectedNode: "node-1"}, "",
			[]string{keys().Finalizer, protection, "example.org/hold"},
			with(ours, wellknown.SelectedNode, "node-1"),
		},
		{
			"our finalizer is not put there twice",
			[]string{keys().Finalizer, protection}, nil, "",
			[]string{keys().Finalizer, protection}, ours,
		},
		{
			"forged pins are overwritten",
			nil, map[string]string{keys().VolumeName: "pvc-" + other, keys().RequiredBytes: "1", keys().ContentSource: "volume:vol-2"}, "volume:vol-1",
			[]string{keys().Finalizer}, with(ours, keys().ContentSource, "volume:vol-1"),
		},
		{
			"a forged source of a blank volume goes",
			nil, map[string]string{keys().ContentSource: "volume:vol-2"}, "",
			[]string{keys().Finalizer}, ours,
		},
		{
			"a clone gets its source", nil, nil, "snapshot:snap-1",
			[]string{keys().Finalizer}, with(ours, keys().ContentSource, "snapshot:snap-1"),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			pvc := claim("-", "-")
			pvc.Finalizers, pvc.Annotations = c.finalizers, c.annotations
			untouched := pvc.DeepCopy()
			pins := record.Pins{VolumeName: "pvc-" + uid, RequiredBytes: 10 << 30, ContentSource: c.source}
			patch, err := record.Write(keys(), pvc, pins)
			if err != nil {
				t.Fatal(err)
			}
			guarded(t, patch, "42")
			after := apply(t, pvc, patch)
			sameMarks(t, after, c.wantFinalizers, c.wantAnnotations)
			if !record.On(keys(), after) {
				t.Error("the claim is not on record")
			}
			if got := record.Pinned(keys(), naming(), after); got != pins {
				t.Errorf("what was written is read back as %+v", got)
			}
			if !reflect.DeepEqual(pvc, untouched) {
				t.Error("the claim that was given was changed")
			}
		})
	}
}

func TestErase(t *testing.T) {
	const protection = "kubernetes.io/pvc-protection"
	for _, c := range []struct {
		name            string
		finalizers      []string
		annotations     map[string]string
		wantFinalizers  []string
		wantAnnotations map[string]string
	}{
		{
			"the record goes, what others wrote stays",
			[]string{protection, keys().Finalizer, "example.org/hold"},
			map[string]string{wellknown.SelectedNode: "node-1", keys().VolumeName: "x", keys().RequiredBytes: "1", keys().ContentSource: "volume:y"},
			[]string{protection, "example.org/hold"},
			map[string]string{wellknown.SelectedNode: "node-1"},
		},
		{
			"a record without pins goes too",
			[]string{keys().Finalizer}, map[string]string{"a": "b"},
			nil, map[string]string{"a": "b"},
		},
		{
			"a pin alone goes too",
			[]string{protection}, map[string]string{keys().VolumeName: "x"},
			[]string{protection}, nil,
		},
		{
			"the record of another driver stays",
			[]string{"other.example.com/provisioning", keys().Finalizer},
			map[string]string{"other.example.com/volume-name": "x", keys().VolumeName: "y"},
			[]string{"other.example.com/provisioning"},
			map[string]string{"other.example.com/volume-name": "x"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			pvc := claim("-", "-")
			pvc.Finalizers, pvc.Annotations = c.finalizers, c.annotations
			untouched := pvc.DeepCopy()
			patch, err := record.Erase(keys(), pvc)
			if err != nil {
				t.Fatal(err)
			}
			guarded(t, patch, nil)
			after := apply(t, pvc, patch)
			sameMarks(t, after, c.wantFinalizers, c.wantAnnotations)
			if record.On(keys(), after) {
				t.Error("the claim is still on record")
			}
			if !reflect.DeepEqual(pvc, untouched) {
				t.Error("the claim that was given was changed")
			}
		})
	}
}

func TestEraseUndoesWrite(t *testing.T) {
	pvc := claim("-", "-")
	pvc.Finalizers = []string{"kubernetes.io/pvc-protection"}
	pvc.Annotations = map[string]string{"a": "b"}
	write, err := record.Write(keys(), pvc, record.Pins{VolumeName: "pvc-" + uid, RequiredBytes: 10 << 30, ContentSource: "volume:vol-1"})
	if err != nil {
		t.Fatal(err)
	}
	written := apply(t, pvc, write)
	erase, err := record.Erase(keys(), written)
	if err != nil {
		t.Fatal(err)
	}
	if after := apply(t, written, erase); !reflect.DeepEqual(after, pvc) {
		t.Errorf("got %+v, want %+v", after, pvc)
	}
}

// The claim may have changed since it was read: what others wrote meanwhile
// stays.
func TestEraseOfALaterVersion(t *testing.T) {
	read := claim("x", "1")
	read.Finalizers = []string{keys().Finalizer}
	patch, err := record.Erase(keys(), read)
	if err != nil {
		t.Fatal(err)
	}
	live := read.DeepCopy()
	live.ResourceVersion = "43"
	live.Finalizers = []string{"example.org/hold", keys().Finalizer}
	live.Annotations["a"] = "b"
	live.Spec.VolumeName = "pvc-" + uid
	after := apply(t, live, patch)
	sameMarks(t, after, []string{"example.org/hold"}, map[string]string{"a": "b"})
	if after.ResourceVersion != "43" || !reflect.DeepEqual(after.Spec, live.Spec) {
		t.Errorf("more than the record was changed: %+v", after)
	}
}

func TestEraseOfABareClaim(t *testing.T) {
	bare := claim("-", "-")
	bare.Annotations = nil
	patch, err := record.Erase(keys(), bare)
	if err != nil {
		t.Fatal(err)
	}
	sameMarks(t, apply(t, bare, patch), nil, nil)
}

func TestProtect(t *testing.T) {
	const others, ours = "kubernetes.io/pvc-protection", wellknown.CloningProtection
	for _, c := range []struct {
		name         string
		before, want []string
		on           bool
	}{
		{"a bare source is protected", nil, []string{ours}, true},
		{"another's finalizer stays", []string{others}, []string{others, ours}, true},
		{"a protected source is not protected twice", []string{ours, others}, []string{ours, others}, true},
		{"the protection goes, another's finalizer stays", []string{others, ours}, []string{others}, false},
		{"the last finalizer goes", []string{ours}, nil, false},
		{"what is not there need not go", []string{others}, []string{others}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			pvc := claim("x", "1")
			pvc.Finalizers = c.before
			patch, err := record.Protect(pvc, ours, c.on)
			if err != nil {
				t.Fatal(err)
			}
			guarded(t, patch, nil)
			after := apply(t, pvc, patch)
			slices.Sort(after.Finalizers) // new ones may come first or last
			want := slices.Sorted(slices.Values(c.want))
			sameMarks(t, after, want, pvc.Annotations)
			if !reflect.DeepEqual(after.Spec, pvc.Spec) {
				t.Errorf("the spec was changed: %+v", after.Spec)
			}
		})
	}
}

func sameMarks(t *testing.T, c *v1.PersistentVolumeClaim, finalizers []string, annotations map[string]string) {
	t.Helper()
	if !slices.Equal(c.Finalizers, finalizers) {
		t.Errorf("finalizers are %v, want %v", c.Finalizers, finalizers)
	}
	if len(c.Annotations)+len(annotations) > 0 && !reflect.DeepEqual(c.Annotations, annotations) {
		t.Errorf("annotations are %v, want %v", c.Annotations, annotations)
	}
}

func with(m map[string]string, key, value string) map[string]string {
	c := map[string]string{key: value}
	for k, v := range m {
		c[k] = v
	}
	return c
}

func TestTheSecretIsPartOfTheRecord(t *testing.T) {
	pins := record.Pins{VolumeName: "pvc-" + uid, RequiredBytes: 1 << 30}
	write := func(c *v1.PersistentVolumeClaim, secret string) *v1.PersistentVolumeClaim {
		pins.Secret = secret
		patch, err := record.Write(keys(), c, pins)
		if err != nil {
			t.Fatal(err)
		}
		return apply(t, c, patch)
	}
	c := write(claim("-", "-"), "ns/n")
	if got := c.Annotations[keys().Secret]; got != "ns/n" || !record.Says(keys(), c, pins) {
		t.Errorf("the record names Secret %q", got)
	}
	if got := record.Pinned(keys(), naming(), c).Secret; got != "ns/n" {
		t.Errorf("the record is read as Secret %q", got)
	}
	pins.Secret = "ns/other"
	if record.Says(keys(), c, pins) {
		t.Error("a record with another Secret says the same")
	}
	c = write(c, "")
	if got, found := c.Annotations[keys().Secret]; found {
		t.Errorf("a record without a Secret names %q", got)
	}
	c = write(c, "ns/n")
	for name, take := range map[string]func(wellknown.Record, *v1.PersistentVolumeClaim) ([]byte, error){"Erase": record.Erase, "GiveBack": record.GiveBack} {
		patch, err := take(keys(), c)
		if err != nil {
			t.Fatal(err)
		}
		if left := apply(t, c, patch).Annotations; len(left) > 0 {
			t.Errorf("%s leaves %v", name, left)
		}
	}
}

func TestThePlacesArePartOfTheRecord(t *testing.T) {
	request := &csi.CreateVolumeRequest{Name: "pvc-1", AccessibilityRequirements: &csi.TopologyRequirement{
		Preferred: []*csi.Topology{{Segments: map[string]string{"zone": "b"}}, {Segments: map[string]string{"zone": "a"}}},
	}}
	pins := record.Of(request)
	if pins.Topology != "zone=b;zone=a" {
		t.Errorf("the pins name %q", pins.Topology)
	}
	patch, err := record.Write(keys(), claim("-", "-"), pins)
	if err != nil {
		t.Fatal(err)
	}
	c := apply(t, claim("-", "-"), patch)
	if got := record.Asked(keys(), c).Topology; got != pins.Topology || !record.Says(keys(), c, pins) {
		t.Errorf("the record is read as %q", got)
	}
	pins.Topology = ""
	if record.Says(keys(), c, pins) {
		t.Error("a record with places says the same as one without")
	}
}

func TestRecordHasTheReclaimPolicy(t *testing.T) {
	pins := record.Pins{VolumeName: "pvc-1", RequiredBytes: 1, ReclaimPolicy: v1.PersistentVolumeReclaimRetain}
	patch, err := record.Write(keys(), claim("-", "-"), pins)
	if err != nil {
		t.Fatal(err)
	}
	c := apply(t, claim("-", "-"), patch)
	if got := record.Asked(keys(), c).ReclaimPolicy; got != pins.ReclaimPolicy || !record.Says(keys(), c, pins) {
		t.Errorf("the record is read as %q", got)
	}
	pins.ReclaimPolicy = v1.PersistentVolumeReclaimDelete
	if record.Says(keys(), c, pins) {
		t.Error("a record with Retain says the same as one with Delete")
	}
}
