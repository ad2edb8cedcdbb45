package observe

import "github.com/prometheus/client_golang/prometheus"

// Gauges returns collectors of our own figures. Each function is called at
// every scrape and must be cheap.
func Gauges(recorded, waiting func() int) []prometheus.Collector {
	gauge := func(name, help string, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "csi_clone_provisioner_" + name, Help: help},
			func() float64 { return float64(value()) })
	}
	return []prometheus.Collector{
		gauge("claims_recorded", "Claims whose unfinished work is on record.", recorded),
		gauge("claims_waiting", "Claims that are registered to be woken by the change of another object.", waiting),
	}
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
