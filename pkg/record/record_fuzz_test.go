package record_test

import (
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/arbitrary"
)

// A pin is believed only if it is what we could have written for this very
// claim, whatever stands in the annotations.
func FuzzPinned(f *testing.F) {
	for _, name := range []string{"", "-", "pvc-" + uid, "pvc-0", "pvc-" + bareUID, "a-b-0d6b", "PVC-0d6b", "\xff-0d6b", "pvc-0\n", "other-" + uid, "x." + uid, "other-" + bareUID[:8]} {
		f.Add(name, "pvc", uid, "10737418240", "10Gi")
	}
	f.Add("pvc-", "pvc", "", "-1", "0")
	f.Add("pvc-0", "a.b-c", "0", "9223372036854775808", "16Ei")
	f.Add("-0", "", "0", "1", "20E")
	f.Add("pvc-a", "pvc", "-a-", "+5", "4500m")
	f.Fuzz(func(t *testing.T, name, prefix, uid, bytes, asked string) {
		naming := record.Naming{Prefix: prefix, UUIDLength: -1}
		c := claim(name, bytes)
		c.UID, c.Spec.Resources.Requests = types.UID(uid), arbitrary.Storage(asked)
		pins := record.Pinned(keys(), naming, c)
		if pins.VolumeName != "" {
			believable(t, pins.VolumeName, name, prefix, uid)
		}
		parsed, err := strconv.ParseInt(bytes, 10, 64)
		believed := err == nil && parsed > 0 && new(big.Rat).SetInt64(parsed).Cmp(arbitrary.Exact(c.Spec.Resources.Requests)) >= 0
		switch {
		case believed && pins.RequiredBytes != parsed:
			t.Errorf("%q is not believed of a claim that asks for %q, got %d", bytes, asked, pins.RequiredBytes)
		case !believed && pins.RequiredBytes != 0:
			t.Errorf("%q is believed of a claim that asks for %q: %d", bytes, asked, pins.RequiredBytes)
		}
	})
}

// believable fails unless the pinned name can be the claim's.
func believable(t *testing.T, pinned, name, prefix, uid string) {
	t.Helper()
	front, whole := strings.CutSuffix(name, "-"+uid)
	start, ours := strings.CutPrefix(name, prefix+"-")
	bare := strings.ReplaceAll(uid, "-", "")
	parts := strings.Split(name, "-")
	end := parts[len(parts)-1]
	switch {
	case pinned != name:
		t.Errorf("made up the name %q from %q", pinned, name)
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		t.Errorf("believed %q, which no PV can be called", name)
	case uid == "":
		t.Errorf("believed %q of a claim without a uid", name)
	case whole && front != "":
	case len(end) >= 8 && strings.HasPrefix(bare, end) && len(name) > len(end)+1:
	case !ours || start == "" || !strings.HasPrefix(bare, start):
		t.Errorf("believed %q with the prefix %q of the claim with uid %q", name, prefix, uid)
	}
}

var realUID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// Two claims whose uids differ from the first character on never share a name,
// and nothing that is written on the one makes it take the other's.
func FuzzNobodyElsesName(f *testing.F) {
	f.Add(uid, other, "pvc-"+uid, "pvc", 8)
	f.Add(uid, other, "pvc-f", "pvc", -1)
	f.Add(uid, other, "a-"+other, "a", 32)
	f.Add("00000000-0000-0000-0000-00000a0a0000", "aaaaaaaa-0a0a-0a0a-0a00-000000000000", "0", "0", -1)
	f.Fuzz(func(t *testing.T, uid, other, name, prefix string, length int) {
		naming := record.Naming{Prefix: prefix, UUIDLength: length}
		if !realUID.MatchString(uid) || !realUID.MatchString(other) || uid[0] == other[0] ||
			length < -1 || length == 0 || strings.Contains(prefix, "-") {
			return
		}
		theirs := naming.VolumeName(types.UID(other))
		if naming.VolumeName(types.UID(uid)) == theirs {
			t.Errorf("both are called %q", theirs)
		}
		for _, pin := range []string{theirs, name} {
			mine, yours := claim(pin, "-"), claim(pin, "-")
			mine.UID, yours.UID = types.UID(uid), types.UID(other)
			taken := record.Pinned(keys(), naming, mine).VolumeName
			if taken != "" && record.Pinned(keys(), naming, yours).VolumeName != "" {
				t.Errorf("%q is believed of both", pin)
			}
			if taken == theirs {
				t.Errorf("the claim takes %q of the other", theirs)
			}
		}
	})
}

// Whatever names we make, the next process believes them.
func FuzzVolumeName(f *testing.F) {
	f.Add("pvc", uid, -1)
	f.Add("dc-1.pvc", other, 8)
	f.Add("a", uid, 32)
	f.Add(strings.Repeat("a", 300), uid, 1)
	f.Fuzz(func(t *testing.T, prefix, uid string, length int) {
		naming := record.Naming{Prefix: prefix, UUIDLength: length}
		// What package options lets through, and the API server gives.
		if length < -1 || length == 0 || !realUID.MatchString(uid) || len(validation.IsDNS1123Subdomain(prefix+"-"+uid)) > 0 || prefix == "" {
			return
		}
		name := naming.VolumeName(types.UID(uid))
		if errs := validation.IsDNS1123Subdomain(name); len(errs) > 0 {
			t.Errorf("no PV can be called %q: %v", name, errs)
		}
		c := claim(name, "-")
		c.UID = types.UID(uid)
		if got := record.Pinned(keys(), naming, c).VolumeName; got != name {
			t.Errorf("%q is not believed, got %q", name, got)
		}
	})
}

// What is written can be read, and what is taken off leaves the claim as it was.
func FuzzWriteAndErase(f *testing.F) {
	f.Add("kubernetes.io/pvc-protection", "example.org/hold", "a", "b", int64(10<<30))
	f.Add("x", "x", keys().VolumeName, "", int64(1))
	f.Add("$patch", "null", "metadata", "{}", int64(1<<62))
	f.Add("\"", "\n", "~1", "<&>", int64(10<<30))
	f.Fuzz(func(t *testing.T, finalizer1, finalizer2, key, value string, bytes int64) {
		if !arbitrary.Texts(finalizer1, finalizer2, key, value) || bytes < 10<<30 || finalizer1 == "" || finalizer2 == "" {
			return
		}
		before := claim("-", "-")
		before.Finalizers, before.Annotations = []string{finalizer1, finalizer2}, map[string]string{key: value}
		pins := record.Pins{VolumeName: naming().VolumeName(before.UID), RequiredBytes: bytes, ContentSource: record.FormatSource(ofVolume(value))}
		patch, err := record.Write(keys(), before, pins)
		if err != nil {
			t.Fatal(err)
		}
		written := apply(t, before, patch)
		if !record.On(keys(), written) || record.Pinned(keys(), naming(), written) != pins {
			t.Errorf("%s is read back as %+v, on record: %t", patch, record.Pinned(keys(), naming(), written), record.On(keys(), written))
		}
		if patch, err = record.Erase(keys(), written); err != nil {
			t.Fatal(err)
		}
		erased := apply(t, written, patch)
		want := before.DeepCopy()
		// Finalizers are a set: one that is there twice may be left once.
		want.Finalizers = slices.DeleteFunc(slices.Compact(want.Finalizers), func(name string) bool { return name == keys().Finalizer })
		delete(want.Annotations, keys().VolumeName)
		delete(want.Annotations, keys().RequiredBytes)
		delete(want.Annotations, keys().ContentSource)
		if record.On(keys(), erased) || !sameMeta(erased, want) {
			t.Errorf("%s leaves %+v, want %+v", patch, erased.ObjectMeta, want.ObjectMeta)
		}
	})
}

func sameMeta(a, b *v1.PersistentVolumeClaim) bool {
	return slices.Equal(slices.Compact(slices.Clone(a.Finalizers)), b.Finalizers) && (len(a.Annotations)+len(b.Annotations) == 0 || reflect.DeepEqual(a.Annotations, b.Annotations))
}
