package request_test

import (
	"math"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
		{"the smallest decimal one", "1k", nil, 1000},
		{"the smallest binary one", "1Ki", nil, 1024},
		{"the largest decimal one", "1E", nil, 1_000_000_000_000_000_000},
		{"the largest binary one", "1Ei", nil, 1 << 60},
		{"a small exponent", "1e3", nil, 1000},
		{"a decimal point alone is a fraction", "1.5", nil, 2},
		{"an exponent counts in powers of 10", "12e6", nil, 12_000_000},
		{"a fraction of a binary suffix is exact", "1.5Gi", nil, 3 << 29},
		{"a fraction that is no whole byte is rounded up", "0.1Ki", nil, 103},
		{"an absurdly precise fraction is rounded up", "1.00000000000000000000000000000000000001", nil, 2},
		{"so is the least fraction of a suffix", "1.000000000000000000000000000000000001Gi", nil, 1<<30 + 1},
		{"what is less than any quantity can be is one byte", "0.00000000000000000000000000000000000001", nil, 1},
		{"9E fits", "9E", nil, 9_000_000_000_000_000_000},
		{"7.999Ei is exact", "7.999Ei", nil, 9222219115350168962},
		{"63 bits fit", "9223372036854775807", nil, math.MaxInt64},
		{"a fraction that rounds up to 63 bits fits", "9223372036854775806.5", nil, math.MaxInt64},
		{"7Ei fits", "7Ei", nil, 7 << 60},
		{"8Ei is capped by Kubernetes at 63 bits", "8Ei", nil, math.MaxInt64},
		{"16Ei is capped, not turned negative", "16Ei", nil, math.MaxInt64},
		{"a larger source wins", "10Gi", of(12 << 30), 12 << 30},
		{"a source one byte larger wins", "10Gi", of(10<<30 + 1), 10<<30 + 1},
		{"a smaller source does not", "10Gi", of(1 << 30), 10 << 30},
		{"a source of the same size in another unit does not", "10240Mi", of(10 << 30), 10 << 30},
		{"a source is compared with what the request is rounded up to", "1500m", of(2), 2},
		{"a source one byte above that wins", "1500m", of(3), 3},
		{"a source as large as can be wins", "1", of(math.MaxInt64), math.MaxInt64},
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
		{"the lowest number of 64 bits", "-9223372036854775808", "the claim asks for -9223372036854775808, which no volume can have; create it again with a positive spec.resources.requests.storage below 8Ei"},
		{"a negative size that wraps around to a positive one", "-20000000000000000000", "the claim asks for -20E, which no volume can have; create it again with a positive spec.resources.requests.storage below 8Ei"},
		{"more than 63 bits", "9223372036854775808", "the claim asks for 9223372036854775808, which no volume can have; create it again with a positive spec.resources.requests.storage below 8Ei"},
		{"a suffix that makes it more", "20E", "the claim asks for 20E, which no volume can have; create it again with a positive spec.resources.requests.storage below 8Ei"},
		{"what would take a page to write", "1e1000", "the claim asks for more than 1e30, which no volume can have; create it again with a positive spec.resources.requests.storage below 8Ei"},
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
	for _, asked := range []string{"9223372036854775807.000000001", "10E", "20E", "30E", "1e20", "1e30", "1e19", "9223372036854775808", "18446744073709551616", "18446744073709551617", "20000000000000000000", "1000000000000000000000000000000000000000", "9223372036854775807500m"} {
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

// What the API server lets through may have more digits than can be counted.
func TestRequiredBytesOfAnAbsurdSizeCostsNoTime(t *testing.T) {
	for _, absurd := range []*resource.Quantity{
		resource.NewScaledQuantity(1, 1<<30),
		new(resource.MustParse("12345678901234567890e20000")),
	} {
		claim := claimOf("1Gi")
		claim.Spec.Resources.Requests[v1.ResourceStorage] = *absurd
		began := time.Now()
		for range 10_000 { // one print of the latter takes 60 ms
			if _, v := request.RequiredBytes(claim, nil); v.Reason != verdict.InvalidSize {
				t.Fatalf("got %+v, want a refusal", v)
			}
		}
		if took := time.Since(began); took > 2*time.Minute {
			t.Errorf("took %s", took)
		}
	}
}

// From what users and drivers write down to what CreateVolume is asked for: as
// much as the claim asks for, and no less than the source volume really has.
func TestSizesOfClones(t *testing.T) {
	list := func(size string) v1.ResourceList {
		if size == "" {
			return nil
		}
		return v1.ResourceList{v1.ResourceStorage: resource.MustParse(size)}
	}
	for _, c := range []struct {
		name string
		// What the clone and the source's claim ask for, what PV and source report.
		asked, needed, pv, status string
		// want is the required capacity, or why there is none.
		want   int64
		reason verdict.Reason
	}{
		{"all the same", "10Gi", "10Gi", "10Gi", "10Gi", 10 << 30, ""},
		{"the same in other units", "10240Mi", "10737418240", "10485760Ki", "10Gi", 10 << 30, ""},
		{"a larger clone", "11Gi", "10Gi", "10Gi", "10Gi", 11 << 30, ""},
		{"a clone one byte larger", "10737418241", "10Gi", "10Gi", "10Gi", 10<<30 + 1, ""},
		{"a clone a fraction of a byte larger", "10737418240.5", "10Gi", "10Gi", "10Gi", 10<<30 + 1, ""},
		{"a driver that rounded the source up", "10G", "10G", "10Gi", "10Gi", 10 << 30, ""},
		{"a source of fractions", "1.5", "1500m", "2", "2", 2, ""},
		{"a larger clone of a source that was rounded up", "11G", "10G", "10Gi", "10Gi", 11_000_000_000, ""},
		{"a source that is larger than its claim asks for", "10Gi", "1Gi", "100Gi", "100Gi", 100 << 30, ""},
		{"a source that was expanded, on its PV only", "20Gi", "20Gi", "21Gi", "10Gi", 21 << 30, ""},
		{"a source that was expanded, in its status only", "20Gi", "20Gi", "10Gi", "21Gi", 21 << 30, ""},
		{"a source that is to be expanded", "20Gi", "20Gi", "10Gi", "10Gi", 20 << 30, ""},
		{"a clone too small for a source that is to be expanded", "10Gi", "20Gi", "10Gi", "10Gi", 0, verdict.CloneTooSmall},
		{"a source that has more than 63 bits can say", "10Gi", "10Gi", "20E", "10Gi", 0, verdict.CloneSourceUnusable},
		{"a source of twenty digits", "10Gi", "10Gi", "20000000000000000000", "10Gi", 0, verdict.CloneSourceUnusable},
		{"a source whose status has more than 63 bits can say", "10Gi", "10Gi", "10Gi", "9223372036854775808", 0, verdict.CloneSourceUnusable},
		{"a source of unknown capacity", "10Gi", "10Gi", "", "", 10 << 30, ""},
		{"a source of negative capacity", "10Gi", "10Gi", "-1Gi", "", 10 << 30, ""},
		{"a clone as large as can be", "9223372036854775807", "10Gi", "10Gi", "10Gi", math.MaxInt64, ""},
		{"a clone larger than that", "9223372036854775808", "10Gi", "10Gi", "10Gi", 0, verdict.InvalidSize},
		{"a clone and a source larger than that", "20E", "30E", "10Gi", "10Gi", 0, verdict.InvalidSize},
		{"a decimal clone of a binary source", "1G", "1Gi", "1Gi", "1Gi", 0, verdict.CloneTooSmall},
		{"a binary clone of a decimal source", "1Gi", "1G", "1G", "1G", 1 << 30, ""},
		{"a clone that names no size", "", "10Gi", "10Gi", "10Gi", 0, verdict.CloneTooSmall},
		{"neither names a size", "", "", "10Gi", "10Gi", 0, verdict.InvalidSize},
		{"a clone of nothing", "0", "0", "10Gi", "10Gi", 0, verdict.InvalidSize},
		{"a negative clone", "-1Gi", "10Gi", "10Gi", "10Gi", 0, verdict.CloneTooSmall},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := clone()
			in.Claim.Spec.Resources.Requests = list(c.asked)
			volume, v := source.Judge(source.Facts{
				Claim: in.Claim, Driver: "clone.example.com", CanClone: true,
				Source: &v1.PersistentVolumeClaim{
					ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db", UID: "uid-db"},
					Spec:       v1.PersistentVolumeClaimSpec{VolumeName: "pv-db", Resources: v1.VolumeResourceRequirements{Requests: list(c.needed)}},
					Status:     v1.PersistentVolumeClaimStatus{Phase: v1.ClaimBound, Capacity: list(c.status)},
				},
				SourcePV: &v1.PersistentVolume{
					ObjectMeta: metav1.ObjectMeta{Name: "pv-db"},
					Spec: v1.PersistentVolumeSpec{
						Capacity: list(c.pv),
						ClaimRef: &v1.ObjectReference{Namespace: "shop", Name: "db", UID: "uid-db"},
						PersistentVolumeSource: v1.PersistentVolumeSource{
							CSI: &v1.CSIPersistentVolumeSource{Driver: "clone.example.com", VolumeHandle: "handle-db"},
						},
					},
					Status: v1.PersistentVolumeStatus{Phase: v1.VolumeBound},
				},
			})
			var req *csi.CreateVolumeRequest
			if v.Ready() {
				in.Source = volume
				req, v = request.Build(in)
			}
			if got := req.GetCapacityRange().GetRequiredBytes(); got != c.want || v.Reason != c.reason {
				t.Errorf("got %d, %s %q: %s\nwant %d, %q", got, v.Kind, v.Reason, v.Message, c.want, c.reason)
			}
		})
	}
}
