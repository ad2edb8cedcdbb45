package app

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestDurationsGoOnBeyondTenSeconds(t *testing.T) {
	metrics, registry := newRegistry()
	metrics.PersistentVolumeClaimProvisionDurationSeconds.With(prometheus.Labels{"class": "fast", "source": "PersistentVolumeClaim"}).Observe(200)
	metrics.PersistentVolumeDeleteDurationSeconds.With(prometheus.Labels{"class": "fast"}).Observe(200)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, family := range families {
		if h := family.GetMetric()[0].GetHistogram(); h != nil {
			found++
			counts := map[float64]uint64{}
			for _, bucket := range h.GetBucket() {
				counts[bucket.GetUpperBound()] = bucket.GetCumulativeCount()
			}
			if _, kept := counts[0.005]; !kept || counts[10] != 0 || counts[120] != 0 || counts[300] != 1 {
				t.Errorf("%s has %v", family.GetName(), counts)
			}
		}
	}
	if found != 2 {
		t.Errorf("there are %d histograms", found)
	}
}
