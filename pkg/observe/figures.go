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
			Help: "Volumes deleted that had been made for a claim which did not want one any more, and had no PV.",
		}),
	}
	r.MustRegister(f.cloned, f.cleanedUp)
	return f
}

// Cloned counts a clone whose PV is saved. There are as many series as StorageClasses of
// the driver in which clones were made.
func (f *Figures) Cloned(class string, took time.Duration) {
	if f != nil {
		f.cloned.WithLabelValues(class).Observe(took.Seconds())
	}
}

// CleanedUp counts a volume that was deleted because its claim was.
func (f *Figures) CleanedUp() {
	if f != nil {
		f.cleanedUp.Inc()
	}
}
