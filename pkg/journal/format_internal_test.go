package journal

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

const driver = "clone.example.com"

func full() Entry {
	return Entry{
		Claim: Claim{Namespace: "shop", Name: "db", UID: "c-1", Created: time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)},
		Class: Class{
			Name: "fast", UID: "s-1", Provisioner: driver,
			Parameters: map[string]string{"pool": "ssd"}, ParametersHash: HashParameters(map[string]string{"pool": "ssd"}),
		},
		VolumeName: "pvc-c-1", RequiredBytes: 10 << 30, LimitBytes: 20 << 30,
		Source: &Source{Kind: "PersistentVolumeClaim", Namespace: "shop", Name: "golden", UID: "c-0", Handle: "vol-0"},
		Places: "zone=a;zone=b", Secret: "shop/creds", PVSecrets: map[string]string{"csi.storage.k8s.io/node-stage-secret-name": "shop/creds"},
		ReclaimPolicy: v1.PersistentVolumeReclaimRetain, MountOptions: []string{"noatime"},
		AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}, VolumeMode: v1.PersistentVolumeBlock,
		AttributesClass: "gold", Since: time.Date(2026, 11, 1, 10, 0, 5, 0, time.UTC), LastAnswer: "Internal: no pool", Doubt: "a copy",
	}
}

func TestEntryIsReadAsItWasWritten(t *testing.T) {
	for _, node := range []string{"", "node-1"} {
		for name, e := range map[string]Entry{
			"everything": full(),
			"blank":      {Claim: Claim{Namespace: "a", Name: "b", UID: "u"}, VolumeName: "v", Since: time.Unix(0, 0).UTC()},
		} {
			lease, err := encode(e, driver, "csi", node)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decode(lease, driver, node)
			if err != nil || !reflect.DeepEqual(normal(got), normal(e)) {
				t.Errorf("%s: got %+v, %v\nwant %+v", name, got, err, e)
			}
			if lease.Labels[LabelClaim] != string(e.Claim.UID) || lease.Labels[LabelNode] != node || lease.Labels[LabelDriver] != driver {
				t.Errorf("%s: labels %v", name, lease.Labels)
			}
			if _, found := lease.Labels[LabelSource]; found != (e.Source != nil) {
				t.Errorf("%s: labels %v", name, lease.Labels)
			}
			if len(lease.OwnerReferences) > 0 || lease.Spec.Strategy != nil {
				t.Errorf("%s: %+v", name, lease)
			}
		}
	}
}

// normal makes times comparable.
func normal(e Entry) Entry {
	e.Claim.Created, e.Since = e.Claim.Created.UTC(), e.Since.UTC()
	return e
}

func TestNameDependsOnDriverClaimAndNode(t *testing.T) {
	names := map[string]bool{}
	for _, n := range []string{
		Name("a", "b", ""), Name("a", "b", "c"), Name("ab", "", "c"), Name("a", "c", "b"), Name("a", "bc", ""), Name("A", "b", ""),
	} {
		names[n] = true
		if wrong := validation.IsDNS1123Subdomain(n); len(wrong) > 0 {
			t.Errorf("%s: %v", n, wrong)
		}
	}
	if len(names) != 6 {
		t.Errorf("names are %v", names)
	}
}

func TestLabelsFitWhateverTheirValues(t *testing.T) {
	e := full()
	e.Claim.UID, e.Source.UID = types.UID(strings.Repeat("u", 100)), "no label!"
	lease, err := encode(e, strings.Repeat("d", 70), "csi", strings.Repeat("node.", 40)+"x")
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range lease.Labels {
		if wrong := validation.IsValidLabelValue(value); len(wrong) > 0 || value == "" {
			t.Errorf("%s=%s: %v", key, value, wrong)
		}
	}
	if len(lease.Labels) != 4 {
		t.Errorf("labels are %v", lease.Labels)
	}
}

func TestLargeEntryIsAbridged(t *testing.T) {
	long := strings.Repeat("x", maxSize)
	for _, c := range []struct {
		name   string
		change func(*Entry)
		want   Abridged
	}{
		{"it fits", func(*Entry) {}, Abridged{}},
		{"parameters", func(e *Entry) { e.Class.Parameters["long"] = long }, Abridged{Parameters: true}},
		{"mount options, too", func(e *Entry) { e.MountOptions = []string{long} }, Abridged{Parameters: true, MountOptions: true}},
		{"places, too", func(e *Entry) { e.Places = long }, Abridged{Parameters: true, MountOptions: true, Places: true}},
	} {
		e := full()
		c.change(&e)
		lease, err := encode(e, driver, "csi", "")
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(lease, driver, "")
		if err != nil || got.Abridged != c.want || size(lease) > maxSize {
			t.Errorf("%s: %+v, %d bytes, %v", c.name, got.Abridged, size(lease), err)
		}
		if (got.Class.Parameters == nil) != c.want.Parameters || (got.MountOptions == nil) != c.want.MountOptions || (got.Places == "") != c.want.Places {
			t.Errorf("%s: %+v", c.name, got)
		}
		if got.Class.ParametersHash != e.Class.ParametersHash {
			t.Errorf("%s: the hash of the parameters is %q", c.name, got.Class.ParametersHash)
		}
	}
	e := full()
	e.Source.Handle = long
	if _, err := encode(e, driver, "csi", ""); !errors.Is(err, ErrTooLarge) || !strings.Contains(fmt.Sprint(err), "shop/db") {
		t.Errorf("a handle that is too long: %v", err)
	}
}

func TestLastAnswerIsCut(t *testing.T) {
	e := full()
	e.LastAnswer = strings.Repeat("ä", 300) + "\xff"
	lease, err := encode(e, driver, "csi", "")
	if err != nil {
		t.Fatal(err)
	}
	if got := lease.Annotations[annotationLastAnswer]; got != strings.Repeat("ä", 256) {
		t.Errorf("%d bytes: %q", len(got), got)
	}
	if got := cut("a\xffb", 10); got != "a?b" {
		t.Errorf("%q", got)
	}
}

func TestUnreadableEntries(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*coordinationv1.Lease)
		want   error
	}{
		{"another format", func(l *coordinationv1.Lease) { l.Annotations[annotationFormat] = "2" }, ErrFormat},
		{"no format", func(l *coordinationv1.Lease) { delete(l.Annotations, annotationFormat) }, ErrFormat},
		{"nothing", func(l *coordinationv1.Lease) { l.Annotations = nil }, ErrFormat},
		{"no time", func(l *coordinationv1.Lease) { l.Annotations[annotationSince] = "yesterday" }, ErrMalformed},
		{"no request", func(l *coordinationv1.Lease) { delete(l.Annotations, annotationRequest) }, ErrMalformed},
		{"no JSON", func(l *coordinationv1.Lease) { l.Annotations[annotationRequest] = "{" }, ErrMalformed},
		{"no claim", func(l *coordinationv1.Lease) { l.Annotations[annotationClaim] = "db" }, ErrMalformed},
		{"no name of a claim", func(l *coordinationv1.Lease) { l.Annotations[annotationClaim] = "shop/" }, ErrMalformed},
		{"no uid", func(l *coordinationv1.Lease) { l.Annotations[annotationRequest] = "{}" }, ErrMalformed},
		{"no volume", func(l *coordinationv1.Lease) { delete(l.Annotations, annotationVolume) }, ErrMalformed},
		{"a negative size", func(l *coordinationv1.Lease) {
			l.Annotations[annotationRequest] = `{"claimUID":"c-1","requiredBytes":-1}`
		}, ErrMalformed},
		{"another claim's uid", func(l *coordinationv1.Lease) {
			l.Annotations[annotationRequest] = strings.Replace(l.Annotations[annotationRequest], "c-1", "c-2", 1)
		}, ErrMalformed},
		{"another name", func(l *coordinationv1.Lease) { l.Name += "x" }, ErrMalformed},
	} {
		lease, err := encode(full(), driver, "csi", "")
		if err != nil {
			t.Fatal(err)
		}
		c.change(lease)
		if _, err := decode(lease, driver, ""); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestCopiesAndOldEntriesAreDoubted(t *testing.T) {
	now := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	since := now.Add(-10 * time.Hour)
	renewed := func(ago time.Duration) *metav1.MicroTime { return new(metav1.NewMicroTime(now.Add(-ago))) }
	for _, c := range []struct {
		name    string
		created time.Time
		renewed *metav1.MicroTime
		before  string
		want    string
	}{
		{"in use", since.Add(time.Second), renewed(time.Hour), "", ""},
		{"clocks that differ", since.Add(59 * time.Minute), renewed(23 * time.Hour), "", ""},
		{"created long after it was made", since.Add(2 * time.Hour), renewed(0), "", "long after the entry was made at 2026-11-01T14:00:00Z"},
		{"not renewed for a day", since, renewed(25 * time.Hour), "", "renewed it since 2026-10-31T23:00:00Z"},
		{"never renewed", since, nil, "", "no renewTime"},
		{"doubted before", since, renewed(0), "from a backup", "from a backup"},
	} {
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(c.created)}}
		lease.Spec.RenewTime = c.renewed
		got := doubt(lease, Entry{Since: since, Doubt: c.before}, now)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestHashOfParameters(t *testing.T) {
	a := HashParameters(map[string]string{"a": "b", "c": "d"})
	for _, other := range []map[string]string{nil, {"a": "b"}, {"a": "d", "c": "b"}, {"a": "b 1 c 1 d"}} {
		if HashParameters(other) == a {
			t.Errorf("%v has the same hash", other)
		}
	}
	if HashParameters(map[string]string{"c": "d", "a": "b"}) != a {
		t.Error("the hash depends on the order")
	}
}

// Anyone who may write Leases can write an entry.
func FuzzDecode(f *testing.F) {
	lease, err := encode(full(), driver, "csi", "")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(lease.Annotations[annotationRequest], "shop/db", "2026-11-01T10:00:05Z", "1")
	f.Add(`{"claimUID":"c-1","claimCreated":"x"}`, "/", "", "2")
	f.Fuzz(func(t *testing.T, request, claim, since, version string) {
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: Name(driver, "c-1", ""), Annotations: map[string]string{
			annotationRequest: request, annotationClaim: claim, annotationSince: since, annotationFormat: version, annotationVolume: "v",
		}}}
		e, err := decode(lease, driver, "")
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		again, err := encode(e, driver, "csi", "")
		if errors.Is(err, ErrTooLarge) {
			return
		}
		if err != nil || again.Name != lease.Name {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if once, err := decode(again, driver, ""); err != nil || once.Claim.UID != e.Claim.UID || once.RequiredBytes != e.RequiredBytes {
			t.Fatalf("%+v is read back as %+v, %v", e, once, err)
		}
	})
}
