package app

import (
	csimetrics "github.com/kubernetes-csi/csi-lib-utils/metrics"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/component-base/metrics"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/migration"
)

// callMetrics counts the calls to the driver. From the moment that a driver tells its
// name which took over an in-tree plugin, they have the label migrated. The incumbent
// makes a second connection for that. Until then one goroutine makes all calls, so
// there is nothing to lock.
type callMetrics struct {
	csimetrics.CSIMetricsManager
	// plain and migrated hold the metrics without and with the label. One of them is
	// empty, but for what was called before the name was known.
	plain, migrated metrics.KubeRegistry
}

func newCallMetrics() *callMetrics {
	manager := csimetrics.NewCSIMetricsManagerWithOptions("", csimetrics.WithProcessStartTime(false))
	return &callMetrics{manager, manager.GetRegistry(), metrics.NewKubeRegistry()}
}

// gatherers returns what is to be served.
func (m *callMetrics) gatherers() []prometheus.Gatherer {
	return []prometheus.Gatherer{m.plain, m.migrated}
}

// SetDriverName implements csimetrics.CSIMetricsManager.
func (m *callMetrics) SetDriverName(name string) {
	if migration.Of(name) == nil {
		m.CSIMetricsManager.SetDriverName(name)
		return
	}
	m.CSIMetricsManager = csimetrics.NewCSIMetricsManagerWithOptions(name,
		csimetrics.WithProcessStartTime(false), csimetrics.WithMigration(), csimetrics.WithCustomRegistry(m.migrated))
}
