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
