package observe

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// namespace begins the names of all metrics of our own.
const namespace = "csi_clone_provisioner"

// DurationBuckets go on where those of Prometheus end, at ten seconds: a clone may take
// minutes.
func DurationBuckets() []float64 {
	return slices.Concat(prometheus.DefBuckets, []float64{15, 25, 50, 120, 300, 600})
}

// Figures counts what was done. A nil one counts nothing.
type Figures struct {
	cloned    *prometheus.HistogramVec
	cleanedUp prometheus.Counter
	kept      prometheus.Counter
}

// NewFigures returns Figures that are served with what the registerer has.
func NewFigures(r prometheus.Registerer) *Figures {
	f := &Figures{
		cloned: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "clone_duration_seconds", Buckets: DurationBuckets(),
			Help: "How many seconds it took from putting a clone on record to its saved PV, failed attempts between them included, by StorageClass; only clones that succeeded are in it.",
		}, []string{"class"}),
		cleanedUp: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "volumes_cleaned_up_total",
			Help: "Volumes found for a claim that was deleted, or bound to another PV, and given a PV of their own, or deleted if there could be none.",
		}),
		kept: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "volumes_kept_without_pv_total",
			Help: "Volumes kept in the storage backend for which no PV could be saved, most of them because their reclaim policy is Retain.",
		}),
	}
	r.MustRegister(f.cloned, f.cleanedUp, f.kept)
	return f
}

// Cloned counts a clone whose PV is saved. There are as many series as StorageClasses of
// the driver in which clones were made.
func (f *Figures) Cloned(class string, took time.Duration) {
	if f != nil {
		f.cloned.WithLabelValues(class).Observe(took.Seconds())
	}
}

// KeptWithoutPV counts a volume that was kept although no PV could be saved for it.
func (f *Figures) KeptWithoutPV() {
	if f != nil {
		f.kept.Inc()
	}
}

// CleanedUp counts a volume that was found for a claim that does not want it any more.
func (f *Figures) CleanedUp() {
	if f != nil {
		f.cleanedUp.Inc()
	}
}
