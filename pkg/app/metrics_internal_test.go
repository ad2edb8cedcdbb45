package app

import (
	"testing"
	"time"

	"github.com/kubernetes-csi/csi-lib-utils/connection"
	csimetrics "github.com/kubernetes-csi/csi-lib-utils/metrics"
	"github.com/prometheus/client_golang/prometheus"
)

// Calls have the label migrated if the driver took over an in-tree plugin, from the
// moment that it is known; for other drivers nothing is different.
func TestCallMetrics(t *testing.T) {
	for driver, want := range map[string]map[string]string{
		"clone.example.com": {"GetPluginInfo": "none", "CreateVolume": "none"},
		"ebs.csi.aws.com":   {"GetPluginInfo": "none", "CreateVolume": "true", "DeleteVolume": "false"},
	} {
		m := newCallMetrics()
		m.RecordMetrics("GetPluginInfo", nil, time.Second)
		m.SetDriverName(driver)
		var counted csimetrics.CSIMetricsManager = connection.ExtendedCSIMetricsManager{CSIMetricsManager: m}
		for method, migrated := range want {
			if method == "GetPluginInfo" {
				continue
			}
			with := counted
			if migrated != "none" {
				var err error
				if with, err = counted.WithLabelValues(map[string]string{csimetrics.LabelMigrated: migrated}); err != nil {
					t.Fatal(err)
				}
			}
			with.RecordMetrics(method, nil, time.Second)
		}
		if got := m.HaveAdditionalLabel(csimetrics.LabelMigrated); got != (len(want) > 2) {
			t.Errorf("driver %q has the label: %t", driver, got)
		}
		families, err := prometheus.Gatherers(m.gatherers()).Gather()
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for _, family := range families {
			for _, metric := range family.GetMetric() {
				labels := map[string]string{"migrated": "none"}
				for _, pair := range metric.GetLabel() {
					labels[pair.GetName()] = pair.GetValue()
				}
				if method := labels["method_name"]; method != "" {
					found[method] = labels["migrated"]
				}
				if labels["method_name"] != "GetPluginInfo" && labels["driver_name"] != driver {
					t.Errorf("labels %v of driver %q", labels, driver)
				}
			}
		}
		if len(found) != len(want) {
			t.Errorf("driver %q: calls are counted as %v, want %v", driver, found, want)
		}
		for method, migrated := range want {
			if found[method] != migrated {
				t.Errorf("driver %q: %s is counted as %q, want %q", driver, method, found[method], migrated)
			}
		}
	}
}
