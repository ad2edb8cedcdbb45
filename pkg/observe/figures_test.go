package observe_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

// gathered returns the value of each series, by its name and labels; of a histogram how
// often it was added to.
func gathered(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetName() + "=" + label.GetValue()
			}
			values[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

func TestFigures(t *testing.T) {
	r := prometheus.NewRegistry()
	f := observe.NewFigures(r)
	f.Cloned("fast", time.Second)
	f.Cloned("fast", time.Hour)
	f.Cloned("slow", time.Minute)
	f.CleanedUp()
	got := gathered(t, r)
	for name, want := range map[string]float64{
		"csi_clone_provisioner_clone_duration_seconds class=fast": 2,
		"csi_clone_provisioner_clone_duration_seconds class=slow": 1,
		"csi_clone_provisioner_volumes_cleaned_up_total":          1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	var nobody *observe.Figures
	nobody.Cloned("fast", time.Second)
	nobody.CleanedUp()
}

// Every reason that can hold a claim up has its series from the first moment, and no
// other has.
func TestGauges(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(observe.Gauges(func() int { return 3 }, func(reason verdict.Reason) int {
		if reason == verdict.CloneTooSmall {
			return 2
		}
		return 0
	}, map[string]func() int{"PersistentVolumeClaim": func() int { return 4 }})...)
	got := gathered(t, r)
	for _, e := range verdict.Catalogue() {
		if _, there := got["csi_clone_provisioner_claims_waiting reason="+string(e.Reason)]; there != verdict.HoldsUp(e.Reason) {
			t.Errorf("series of %s: %t", e.Reason, there)
		}
	}
	for name, want := range map[string]float64{
		"csi_clone_provisioner_claims_recorded":                              3,
		"csi_clone_provisioner_claims_waiting reason=CloneTooSmall":          2,
		"csi_clone_provisioner_sources_protected kind=PersistentVolumeClaim": 4,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}
