package record_test

import (
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

const (
	uid     = "0d6b1d2e-7c5e-4f0a-9c55-1f1c6e7a0001"
	bareUID = "0d6b1d2e7c5e4f0a9c551f1c6e7a0001"
	other   = "ffffffff-7c5e-4f0a-9c55-1f1c6e7a0002"
)

func keys() wellknown.Record { return wellknown.RecordOf("clone.example.com") }

// claim asks for 10Gi and carries these annotations of a record; "-" leaves one out.
func claim(name, bytes string) *v1.PersistentVolumeClaim {
	c := &v1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "copy", UID: uid, ResourceVersion: "42",
			Annotations: map[string]string{},
		},
		Spec: v1.PersistentVolumeClaimSpec{
			DataSource: &v1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "db"},
			Resources: v1.VolumeResourceRequirements{
				Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse("10Gi")},
			},
		},
	}
	if name != "-" {
		c.Annotations[keys().VolumeName] = name
	}
	if bytes != "-" {
		c.Annotations[keys().RequiredBytes] = bytes
	}
	return c
}

func TestVolumeName(t *testing.T) {
	for _, c := range []struct {
		name   string
		naming record.Naming
		want   string
	}{
		{"-1 takes the whole uid with dashes", record.Naming{Prefix: "pvc", UUIDLength: -1}, "pvc-" + uid},
		{"1 takes one character", record.Naming{Prefix: "pvc", UUIDLength: 1}, "pvc-0"},
		{"8 ends before the first dash", record.Naming{Prefix: "pvc", UUIDLength: 8}, "pvc-0d6b1d2e"},
		{"9 goes on without the dash", record.Naming{Prefix: "pvc", UUIDLength: 9}, "pvc-0d6b1d2e7"},
		{"32 takes all without dashes", record.Naming{Prefix: "pvc", UUIDLength: 32}, "pvc-" + bareUID},
		{"more than there is takes all", record.Naming{Prefix: "pvc", UUIDLength: 99}, "pvc-" + bareUID},
		{"the prefix may have dashes and dots", record.Naming{Prefix: "dc-1.pvc", UUIDLength: 4}, "dc-1.pvc-0d6b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.naming.VolumeName(uid); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// Whatever the flags were when the record was written, a later process must
// believe it: otherwise it would make a second volume.
func TestPinnedBelievesEveryNameOfOurs(t *testing.T) {
	for _, prefix := range []string{"pvc", "a", "dc-1.pvc", "pvc-" + other} {
		for _, length := range append([]int{-1}, oneTo(32)...) {
			ours := record.Naming{Prefix: prefix, UUIDLength: length}
			name := ours.VolumeName(uid)
			if got := record.Pinned(keys(), ours, claim(name, "-")).VolumeName; got != name {
				t.Errorf("name %q is not believed, got %q", name, got)
			}
		}
	}
}

// With a restart the prefix may have changed, and the length with it: then only the
// uid, or a good part of it, proves that the name is this claim's.
func TestPinnedBelievesAnotherPrefixOnlyWithAGoodPartOfTheUID(t *testing.T) {
	for name, want := range map[string]bool{
		"before-" + uid:               true,
		"before-" + bareUID:           true,
		"before-" + bareUID[:8]:       true,
		"be-fore-" + bareUID[:8]:      true,
		"before-" + bareUID[:7]:       false,
		"before-" + bareUID[:1]:       false,
		"before-" + bareUID[1:9]:      false,
		"before-" + bareUID[:8] + "f": false,
		"before-" + other:             false,
		bareUID[:8]:                   false,
		"-" + bareUID[:8]:             false,
		"pvc-" + bareUID[:1]:          true,
	} {
		if got := record.Pinned(keys(), naming(), claim(name, "-")).VolumeName == name; got != want {
			t.Errorf("name %q is believed: %t, want %t", name, got, want)
		}
	}
}

// naming is how volumes are named in these tests.
func naming() record.Naming { return record.Naming{Prefix: "pvc", UUIDLength: -1} }

func oneTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i + 1
	}
	return list
}

func TestPinnedName(t *testing.T) {
	for _, c := range []struct{ name, pin, want string }{
		{"no annotation pins nothing", "-", ""},
		{"an empty annotation pins nothing", "", ""},
		{"the name from the whole uid is believed", "pvc-" + uid, "pvc-" + uid},
		{"the name from a part of the uid is believed", "pvc-0d6b1d2e", "pvc-0d6b1d2e"},
		{"the whole uid without dashes is believed", "pvc-" + bareUID, "pvc-" + bareUID},
		{"the name of another uid is not", "pvc-" + other, ""},
		{"a part of another uid is not", "pvc-ffffffff", ""},
		{"a part that is not the start of the uid is not", "pvc-7c5e4f0a", ""},
		{"one character more than the uid has is not", "pvc-" + bareUID + "0", ""},
		{"a name without a uid is not", "pvc", ""},
		{"a name that ends in the dash is not", "pvc-", ""},
		{"the uid alone is not", uid, ""},
		{"the bare uid alone is not", bareUID, ""},
		{"a uid behind nothing but a dash is not", "-" + uid, ""},
		{"a part behind nothing but a dash is not", "-0d6b1d2e", ""},
		{"capitals are not, for no PV can be called so", "PVC-" + uid, ""},
		{"an underscore is not", "my_pvc-" + uid, ""},
		{"a slash is not", "pvc/x-" + uid, ""},
		{"a path is not", "../x-" + uid, ""},
		{"a blank around it is not", " pvc-" + uid + " ", ""},
		{"a newline is not", "pvc-" + uid + "\n", ""},
		{"what is no UTF-8 is not", "\xff\xfe-" + uid, ""},
		{"a name too long for a PV is not", strings.Repeat("a", 250) + "-" + uid, ""},
		{"the uid in capitals is not", "pvc-" + strings.ToUpper(uid), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := record.Pinned(keys(), naming(), claim(c.pin, "-")).VolumeName; got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestPinnedNameOfAClaimWithoutUID(t *testing.T) {
	c := claim("pvc-", "-")
	c.UID = ""
	if got := record.Pinned(keys(), naming(), c).VolumeName; got != "" {
		t.Errorf("got %q, want none", got)
	}
}

func TestPinnedBytes(t *testing.T) {
	for _, c := range []struct {
		name, pin string
		want      int64
	}{
		{"no annotation pins nothing", "-", 0},
		{"what the claim asks for is believed", "10737418240", 10 << 30},
		{"more, as a larger source needs, is believed", "10737418241", 10<<30 + 1},
		{"one byte less is not", "10737418239", 0},
		{"zero is not", "0", 0},
		{"a negative number is not", "-10737418240", 0},
		{"a quantity is not", "10Gi", 0},
		{"a fraction is not", "10737418240.5", 0},
		{"an exponent is not", "1e12", 0},
		{"an underscore is not", "10_737_418_240", 0},
		{"hexadecimal is not", "0x280000000", 0},
		{"a blank in front is not", " 10737418240", 0},
		{"more than 63 bits is not", "9223372036854775808", 0},
		{"words are not", "plenty", 0},
		{"an empty annotation is not", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := record.Pinned(keys(), naming(), claim("-", c.pin)).RequiredBytes; got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestPinnedBytesOfAFraction(t *testing.T) {
	c := claim("-", "1")
	c.Spec.Resources.Requests[v1.ResourceStorage] = resource.MustParse("1500m")
	if got := record.Pinned(keys(), naming(), c).RequiredBytes; got != 0 {
		t.Errorf("1 byte is believed for a claim that asks for 1.5, got %d", got)
	}
	c.Annotations[keys().RequiredBytes] = "2"
	if got := record.Pinned(keys(), naming(), c).RequiredBytes; got != 2 {
		t.Errorf("got %d, want 2", got)
	}
}

// What does not fit into 63 bits is more than any pin can say.
func TestPinnedBytesOfAHugeClaim(t *testing.T) {
	began := time.Now()
	for _, asked := range []string{"20E", "20000000000000000000", "9223372036854775808", "1e1000", "1e10000000"} {
		for _, bytes := range []string{"1553255926290448384", "9223372036854775807"} {
			c := claim("-", bytes)
			c.Spec.Resources.Requests[v1.ResourceStorage] = resource.MustParse(asked)
			if got := record.Pinned(keys(), naming(), c).RequiredBytes; got != 0 {
				t.Errorf("%d bytes are believed for a claim that asks for %s", got, asked)
			}
		}
	}
	if took := time.Since(began); took > 2*time.Minute {
		t.Errorf("took %s: the digits of the largest were counted", took)
	}
}

func TestPinnedReadsOnlyOurKeys(t *testing.T) {
	c := claim("pvc-"+uid, "10737418240")
	if got := record.Pinned(wellknown.RecordOf("other.example.com"), naming(), c); got != (record.Pins{}) {
		t.Errorf("another driver's record is believed: %+v", got)
	}
	c.Annotations = nil
	if got := record.Pinned(keys(), naming(), c); got != (record.Pins{}) {
		t.Errorf("a claim without annotations pins %+v", got)
	}
}

func TestOn(t *testing.T) {
	for _, c := range []struct {
		name       string
		finalizers []string
		want       bool
	}{
		{"a claim without finalizers is not on record", nil, false},
		{"our finalizer puts it on record", []string{"kubernetes.io/pvc-protection", keys().Finalizer}, true},
		{"another driver's does not", []string{"other.example.com/provisioning"}, false},
		{"one that only begins like ours does not", []string{keys().Finalizer + "-abc"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			pvc := claim("-", "-")
			pvc.Finalizers = c.finalizers
			if got := record.On(keys(), pvc); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

func TestLeft(t *testing.T) {
	for _, c := range []struct {
		name, volume, bytes    string
		source, recorded, want bool
	}{
		{"nothing", "-", "-", false, false, false},
		{"a name without the record", "pvc-" + uid, "-", false, false, true},
		{"bytes without the record, whatever they say", "-", "", false, false, true},
		{"a source without the record, whatever it says", "-", "-", true, false, true},
		{"name and bytes on record", "pvc-" + uid, "1", false, true, false},
		{"all on record", "pvc-" + uid, "1", true, true, false},
		{"a record without pins", "-", "-", false, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			pvc := claim(c.volume, c.bytes)
			if c.source {
				pvc.Annotations[keys().ContentSource] = ""
			}
			if c.recorded {
				pvc.Finalizers = []string{keys().Finalizer}
			}
			if got := record.Left(keys(), pvc); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestMakes(t *testing.T) {
	keys := wellknown.RecordOf("clone.example.com")
	const uid = "uid-1"
	pvOf := func(name string, ref *v1.ObjectReference) *v1.PersistentVolume {
		pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
		pv.Spec.ClaimRef = ref
		return pv
	}
	refTo := func(name, uid string) *v1.ObjectReference {
		return &v1.ObjectReference{Namespace: "shop", Name: name, UID: types.UID(uid)}
	}
	for _, c := range []struct {
		name      string
		finalizer string
		pv        *v1.PersistentVolume
		want      bool
	}{
		{"the PV of the claim", keys.Finalizer, pvOf("pvc-1", refTo("data", uid)), true},
		{"one that another node has on record", keys.OnNode("there").Finalizer, pvOf("pvc-1", refTo("data", uid)), true},
		{"without a record", "other", pvOf("pvc-1", refTo("data", uid)), false},
		{"the claim was recreated", keys.Finalizer, pvOf("pvc-1", refTo("data", "uid-0")), false},
		{"retained, reserved for the claim's name", keys.Finalizer, pvOf("pvc-1", refTo("data", "")), true},
		{"retained, of an earlier claim of that name", keys.Finalizer, pvOf("pvc-0", refTo("data", "")), false},
		{"of another claim", keys.Finalizer, pvOf("pvc-1", refTo("other", uid)), false},
		{"of no claim", keys.Finalizer, pvOf("pvc-1", nil), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			claim := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "data", UID: uid, Finalizers: []string{c.finalizer}}}
			if got := record.Makes(keys, claim, "pvc-1", c.pv); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}
