package request_test

import (
	"math"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/request"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

func TestRequiredBytes(t *testing.T) {
	of := func(bytes int64) *source.Volume { return &source.Volume{Handle: "handle-db", Bytes: bytes} }
	for _, c := range []struct {
		name, asked string
		source      *source.Volume
		want        int64
	}{
		{"one byte is the least", "1", nil, 1},
		{"a tenth of a byte is rounded up", "100m", nil, 1},
		{"one and a half bytes are two", "1500m", nil, 2},
		{"the smallest quantity there is, too", "1n", nil, 1},
		{"a whole number in thousandths stays", "2000m", nil, 2},
		{"a binary suffix counts in powers of 1024", "1Gi", nil, 1 << 30},
		{"so does a larger one", "3Ti", nil, 3 << 40},
		{"a decimal suffix counts in powers of 1000", "1G", nil, 1_000_000_000},
		{"an exponent counts in powers of 10", "12e6", nil, 12_000_000},
		{"a fraction of a binary suffix is exact", "1.5Gi", nil, 3 << 29},
		{"a fraction that is no whole byte is rounded up", "0.1Ki", nil, 103},
		{"9E fits", "9E", nil, 9_000_000_000_000_000_000},
		{"7Ei fits", "7Ei", nil, 7 << 60},
		{"8Ei is capped by Kubernetes at 63 bits", "8Ei", nil, math.MaxInt64},
		{"16Ei is capped, not turned negative", "16Ei", nil, math.MaxInt64},
		{"a larger source wins", "10Gi", of(12 << 30), 12 << 30},
		{"a source one byte larger wins", "10Gi", of(10<<30 + 1), 10<<30 + 1},
		{"a smaller source does not", "10Gi", of(1 << 30), 10 << 30},
		{"a source of unknown capacity does not", "10Gi", of(0), 10 << 30},
		{"a source with a broken capacity does not", "10Gi", of(-1), 10 << 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			claim := claimOf(c.asked)
			got, v := request.RequiredBytes(claim, c.source)
			if got != c.want || v != (verdict.Verdict{}) {
				t.Errorf("got %d and %+v, want %d", got, v, c.want)
			}
		})
	}
}

func TestRequiredBytesRefuses(t *testing.T) {
	for _, c := range []struct{ name, asked, want string }{
		{"no size", "", "the claim asks for no size; create it again with spec.resources.requests.storage"},
		{"zero", "0", "the claim asks for 0, which no volume can have; create it again with a positive spec.resources.requests.storage below 8Ei"},
		{"zero in other words", "0Gi", "the claim asks for 0, which no volume can have; create it again with a positive spec.resources.requests.storage below 8Ei"},
		{"a negative size", "-1Gi", "the claim asks for -1Gi, which no volume can have; create it again with a positive spec.resources.requests.storage below 8Ei"},
		{"less than nothing that rounds to nothing", "-100m", "the claim asks for -100m, which no volume can have; create it again with a positive spec.resources.requests.storage below 8Ei"},
	} {
		for _, src := range []*source.Volume{nil, {Handle: "handle-db", Bytes: 10 << 30}} {
			t.Run(c.name, func(t *testing.T) {
				got, v := request.RequiredBytes(claimOf(c.asked), src)
				if want := (verdict.Verdict{Kind: verdict.Refuse, Reason: verdict.InvalidSize, Message: c.want}); got != 0 || v != want {
					t.Errorf("got %d and %+v, want %+v", got, v, want)
				}
			})
		}
	}
}

// Kubernetes caps binary sizes at 63 bits, decimal ones it does not: of twenty
// digits it cuts the upper bits off, and 20E would become 1.5E.
func TestRequiredBytesRefusesWhatDoesNotFit(t *testing.T) {
	for _, asked := range []string{"10E", "20E", "30E", "1e20", "20000000000000000000", "1000000000000000000000000000000000000000", "9223372036854775807500m"} {
		t.Run(asked, func(t *testing.T) {
			got, v := request.RequiredBytes(claimOf(asked), nil)
			if got != 0 || v.Kind != verdict.Refuse || v.Reason != verdict.InvalidSize {
				t.Errorf("got %d and %s %q, want a refusal", got, v.Kind, v.Reason)
			}
		})
	}
}

func TestRequiredBytesOfAZeroQuantity(t *testing.T) {
	claim := claimOf("1Gi")
	claim.Spec.Resources.Requests[v1.ResourceStorage] = resource.Quantity{}
	if _, v := request.RequiredBytes(claim, nil); v.Kind != verdict.Refuse || v.Reason != verdict.InvalidSize {
		t.Errorf("got %+v, want a refusal", v)
	}
}

func TestRequiredBytesIgnoresOtherResources(t *testing.T) {
	claim := claimOf("")
	claim.Spec.Resources.Requests = v1.ResourceList{v1.ResourceMemory: resource.MustParse("1Gi")}
	if _, v := request.RequiredBytes(claim, nil); v.Reason != verdict.InvalidSize {
		t.Errorf("memory counts as storage: %+v", v)
	}
}
