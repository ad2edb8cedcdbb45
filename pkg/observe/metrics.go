package observe

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

// Gauges returns collectors of our own figures. Each function is called at
// every scrape and must be cheap. waiting is called with each reason that can hold a
// claim up, so that every series is there from the first moment, and there are never
// more; protected has a function for each kind of sources.
func Gauges(recorded func() int, waiting func(verdict.Reason) int, protected map[string]func() int) []prometheus.Collector {
	gauge := func(name, help string, labels prometheus.Labels, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(value()) })
	}
	all := []prometheus.Collector{
		gauge("claims_recorded", "Claims whose unfinished work is on record.", nil, recorded),
	}
	for _, e := range verdict.Catalogue() {
		if verdict.HoldsUp(e.Reason) {
			all = append(all, gauge("claims_waiting", "Claims that wait or are refused, by the reason that their events tell.",
				prometheus.Labels{"reason": string(e.Reason)}, func() int { return waiting(e.Reason) }))
		}
	}
	for kind, count := range protected {
		all = append(all, gauge("sources_protected", "Sources of this driver that are protected from deletion for claims that are filled from them, by kind.",
			prometheus.Labels{"kind": kind}, count))
	}
	return all
}

// CapacityGauges returns collectors of the figures of published capacity, the first three
// under the names of the incumbent. figures is called at every scrape.
func CapacityGauges(figures func() (goal, current, obsolete, stale int)) []prometheus.Collector {
	gauge := func(name, help string, pick func(goal, current, obsolete, stale int) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(pick(figures())) })
	}
	return []prometheus.Collector{
		gauge("csistoragecapacities_desired_goal", "CSIStorageCapacity objects that there are to be.",
			func(goal, _, _, _ int) int { return goal }),
		gauge("csistoragecapacities_desired_current", "CSIStorageCapacity objects that there are to be, and are.",
			func(_, current, _, _ int) int { return current }),
		gauge("csistoragecapacities_obsolete", "CSIStorageCapacity objects that are to be deleted.",
			func(_, _, obsolete, _ int) int { return obsolete }),
		gauge("csi_clone_provisioner_csistoragecapacities_stale", "CSIStorageCapacity objects that could not be brought up to date, because the driver or the API server refused or did not answer.",
			func(_, _, _, stale int) int { return stale }),
	}
}
