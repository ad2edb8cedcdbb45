package source_test

import (
	"math"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

func TestBytes(t *testing.T) {
	for _, c := range []struct {
		name, quantity string
		want           int64
		fits           bool
	}{
		{"nothing is nothing", "0", 0, true},
		{"nothing with a suffix, too", "0Gi", 0, true},
		{"nothing times ten to the millionth, too", "0e1000000", 0, true},
		{"less than nothing is nothing", "-1Gi", 0, true},
		{"a fraction less than nothing, too", "-100m", 0, true},
		{"the lowest number of 64 bits, too", "-9223372036854775808", 0, true},
		{"what no 64 bits can say is still less than nothing", "-1e30", 0, true},
		{"a tenth of a byte is rounded up", "100m", 1, true},
		{"the least there is, too", "1n", 1, true},
		{"less than that, too", "0.00000000000000000000000000000001", 1, true},
		{"one and a half bytes are two", "1.5", 2, true},
		{"an absurdly precise fraction is rounded up", "1.00000000000000000000000000000001", 2, true},
		{"a whole number in thousandths stays", "2000m", 2, true},
		{"k is 1000", "1k", 1000, true},
		{"Ki is 1024", "1Ki", 1024, true},
		{"G is decimal", "1G", 1_000_000_000, true},
		{"Gi is binary", "1Gi", 1 << 30, true},
		{"an exponent is decimal", "1e3", 1000, true},
		{"so is a capital one, and E alone is a suffix", "1E3", 1000, true},
		{"E is ten to the 18th", "1E", 1_000_000_000_000_000_000, true},
		{"7.999Ei is exact", "7.999Ei", 9222219115350168962, true},
		{"63 bits fit", "9223372036854775807", math.MaxInt64, true},
		{"what is rounded up to 63 bits fits", "9223372036854775806.5", math.MaxInt64, true},
		{"Kubernetes itself caps 8Ei", "8Ei", math.MaxInt64, true},
		{"and 1000Ei", "1000Ei", math.MaxInt64, true},
		{"a fraction above 63 bits does not fit", "9223372036854775807.5", math.MaxInt64, false},
		{"64 bits do not", "9223372036854775808", math.MaxInt64, false},
		{"nor what wraps around to less", "20000000000000000000", math.MaxInt64, false},
		{"nor what loses its suffix", "20E", math.MaxInt64, false},
		{"nor 1e30", "1e30", math.MaxInt64, false},
		{"nor 1e1000", "1e1000", math.MaxInt64, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, fits := source.Bytes(resource.MustParse(c.quantity)); got != c.want || fits != c.fits {
				t.Errorf("%s is %d (fits: %t), want %d (fits: %t)", c.quantity, got, fits, c.want, c.fits)
			}
		})
	}
}

func TestWritten(t *testing.T) {
	for quantity, want := range map[string]string{
		"0": "0", "10Gi": "10Gi", "10240Mi": "10Gi", "-1Gi": "-1Gi", "20E": "20E", "1e30": "1e30",
		"1e1000":                             "more than 1e30",
		"12345678901234567890123456789012k":  "more than 1e30",
		"-1e1000":                            "less than -1e30",
		"-12345678901234567890123456789012k": "less than -1e30",
		"0e1000000":                          "0",
		strings.Repeat("0", 1000) + "1Gi":    "1Gi",
	} {
		if got := source.Written(resource.MustParse(quantity)); got != want {
			t.Errorf("%s is written as %q, want %q", quantity, got, want)
		}
	}
}

// resize sets what the source's claim asks for and what its PV and its status
// report; "" is nothing.
func resize(asks, pv, status string) func(*source.Facts) {
	return func(f *source.Facts) {
		f.Source.Spec.Resources.Requests = list(asks)
		f.SourcePV.Spec.Capacity = list(pv)
		f.Source.Status.Capacity = list(status)
	}
}

// What counts is the real capacity: the larger of what PV and claim report.
func TestSourceCapacity(t *testing.T) {
	unusable := func(what string) verdict.Verdict {
		return verdict.Verdict{
			Kind: verdict.Refuse, Reason: verdict.CloneSourceUnusable,
			Message: `cannot clone source PVC "db": ` + what + `, which no volume can have (8Ei or more); create the claim again with another source`,
		}
	}
	run(t, []judged{
		{"the driver rounded up", resize("10Gi", "12Gi", "12Gi"), ready(12 << 30), verdict.Verdict{}},
		{"the driver rounded up to an odd number", resize("10Gi", "10737418241", "10Gi"), ready(10<<30 + 1), verdict.Verdict{}},
		{"an expansion shows on the PV first", resize("10Gi", "20Gi", "10Gi"), ready(20 << 30), verdict.Verdict{}},
		{"an expansion that the PV does not show yet", resize("10Gi", "10Gi", "20Gi"), ready(20 << 30), verdict.Verdict{}},
		{"the larger of two units is no larger number", resize("10Gi", "1G", "1Gi"), ready(1 << 30), verdict.Verdict{}},
		{"a volume smaller than its claim asks for", resize("10Gi", "1Gi", "1Gi"), ready(1 << 30), verdict.Verdict{}},
		{"no capacity is 0", resize("10Gi", "", ""), ready(0), verdict.Verdict{}},
		{"a negative capacity is 0", resize("10Gi", "-1Gi", "-1"), ready(0), verdict.Verdict{}},
		{"of a negative one and another the other counts", resize("10Gi", "-1Gi", "1Gi"), ready(1 << 30), verdict.Verdict{}},
		{"a fraction is rounded up", resize("10Gi", "1.5", "100m"), ready(2), verdict.Verdict{}},
		{"63 bits are a capacity", resize("10Gi", "9223372036854775807", ""), ready(math.MaxInt64), verdict.Verdict{}},
		{"64 bits on the PV are none", resize("10Gi", "9223372036854775808", ""), nil, unusable(`its PV "pv-db" reports a capacity of 9223372036854775808`)},
		{"nor is 20E, which would become 0", resize("10Gi", "20E", "10Gi"), nil, unusable(`its PV "pv-db" reports a capacity of 20E`)},
		{"nor are twenty digits, which would become fewer", resize("10Gi", "20000000000000000000", "10Gi"), nil, unusable(`its PV "pv-db" reports a capacity of 20E`)},
		{"nor is 20E on the claim", resize("10Gi", "10Gi", "20E"), nil, unusable(`its status reports a capacity of 20E`)},
		{"nor is what takes a page to write", resize("10Gi", "1e1000", ""), nil, unusable(`its PV "pv-db" reports a capacity of more than 1e30`)},
	})
}

// The source volume is asked for without its claim by whoever cleans up.
func TestVolumeOfWhatIsHalfKnown(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*source.Facts)
		want   int64
	}{
		{"without the source's claim the PV counts", func(f *source.Facts) { f.Source = nil }, 10 << 30},
		{"a capacity that does not fit is the largest there is", resize("10Gi", "20E", "10Gi"), math.MaxInt64},
	} {
		t.Run(c.name, func(t *testing.T) {
			facts := fit()
			c.change(&facts)
			if got := source.VolumeOf(facts); got == nil || *got != *ready(c.want) {
				t.Errorf("got %+v, want %+v", got, ready(c.want))
			}
		})
	}
}

// Rule 8 is exact, whatever the units.
func TestRule8Compares(t *testing.T) {
	for _, c := range []struct {
		needed, asked string
		enough        bool
	}{
		{"10Gi", "10Gi", true},
		{"10Gi", "10240Mi", true},
		{"10Gi", "10737418240", true},
		{"10Gi", "10737418240000m", true},
		{"10Gi", "1.073741824e10", true},
		{"10Gi", "10737418239", false},
		{"10Gi", "10737418239999m", false},
		{"10Gi", "10737418239.999999999", false},
		{"10Gi", "10G", false},
		{"10G", "10Gi", true},
		{"1Ki", "1k", false},
		{"1k", "1Ki", true},
		{"1E", "1000P", true},
		{"1Ei", "1E", false},
		{"1e3", "1k", true},
		{"1500m", "1500m", true},
		{"1500m", "1.5", true},
		{"1500m", "1", false},
		{"1500m", "2", true},
		{"100m", "1", true},
		{"1", "100m", false},
		{"", "1", true},
		{"", "", true}, // request.RequiredBytes refuses it
		{"10Gi", "", false},
		{"10Gi", "0", false},
		{"10Gi", "-1Gi", false},
		{"10Gi", "-20E", false},
		{"-1Gi", "1", true},
		{"-1", "1", true},
		{"7.999Ei", "7.999Ei", true},
		{"7.999Ei", "9222219115350168961", false},
		{"9223372036854775807", "8Ei", true},
		{"9223372036854775807", "9223372036854775806.999", false},
		{"8Ei", "9223372036854775807", true},
		// Of what does not fit nothing can be made: that is the word of
		// request.RequiredBytes, and no larger request would help.
		{"10Gi", "20E", true},
		{"10Gi", "9223372036854775808", true},
		{"10Gi", "1e30", true},
		{"10Gi", "1e10000000", true},
		{"1e10000000", "20E", true},
		{"20E", "1e10000000", true},
		// A source that asks for more than there is has less.
		{"20E", "9E", false},
		{"9223372036854775808", "9223372036854775807", false},
		{"1e10000000", "10Gi", false},
	} {
		t.Run(c.asked+" for "+c.needed, func(t *testing.T) {
			facts := fit()
			facts.Source.Spec.Resources.Requests, facts.Claim.Spec.Resources.Requests = list(c.needed), list(c.asked)
			_, v := source.Judge(facts)
			if v.Ready() != c.enough || !c.enough && v.Reason != verdict.CloneTooSmall {
				t.Errorf("got %s %s: %s", v.Kind, v.Reason, v.Message)
			}
		})
	}
}

func TestRule8InWords(t *testing.T) {
	small := func(needed, asked string) verdict.Verdict {
		return verdict.Verdict{
			Kind: verdict.Refuse, Reason: verdict.CloneTooSmall,
			Message: "clone needs at least " + needed + `: source PVC "db" has ` + needed + ", this claim asks for " + asked + "; create the claim again with spec.resources.requests.storage: " + needed,
		}
	}
	sizes := func(needed, asked string) func(*source.Facts) {
		return func(f *source.Facts) {
			f.Source.Spec.Resources.Requests, f.Claim.Spec.Resources.Requests = list(needed), list(asked)
		}
	}
	run(t, []judged{
		{"both in the units that people use", sizes("10240Mi", "1024Mi"), nil, small("10Gi", "1Gi")},
		{"a source that asks for more than its PV has", sizes("20Gi", "15Gi"), nil, small("20Gi", "15Gi")},
		{"a request that takes a page to write", sizes("1e1000", "1Gi"), nil, small("more than 1e30", "1Gi")},
	})
}

// The API server takes 1e10000000 for a size. To compare it to its last digit
// takes seconds, to print twenty digits and as many zeros minutes, again and
// again.
func TestAbsurdSizesCostNoTime(t *testing.T) {
	absurd := resource.NewScaledQuantity(1, 1<<30)
	facts := fit()
	facts.Claim.Spec.Resources.Requests = v1.ResourceList{v1.ResourceStorage: *absurd}
	facts.Source.Status.Capacity = v1.ResourceList{v1.ResourceStorage: *absurd}
	began := time.Now()
	_, v := source.Judge(facts)
	source.Written(*absurd)
	facts.Claim.Spec.Resources, facts.Source.Spec.Resources = facts.Source.Spec.Resources, facts.Claim.Spec.Resources
	source.Judge(facts)
	if took := time.Since(began); took > 2*time.Minute {
		t.Errorf("took %s", took)
	}
	if v.Ready() {
		t.Errorf("got %s", v.Kind)
	}
}
