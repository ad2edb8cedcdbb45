package options

import (
	"fmt"
	"math"
	"time"

	"github.com/spf13/pflag"
)

// Capacity says how free capacity is published in CSIStorageCapacity objects.
type Capacity struct {
	// Enabled: --enable-capacity. Without it nothing else counts.
	Enabled bool
	// Immediate publishes for classes with Immediate binding, too.
	Immediate bool
	// PollInterval is how often the driver is asked about everything.
	PollInterval time.Duration
	// OwnerRefLevel says what the objects go with: -1 nothing, 0 the pod, 1 its controller,
	// 2 the controller of that, and so on.
	OwnerRefLevel int
	// Threads is how many questions are asked at once.
	Threads int
	// QPS limits requests to the API server; 0 means no limit of ours. Burst goes with it.
	QPS   float64
	Burst int
	// Namespace of the objects, and PodName of our pod: the environment variables NAMESPACE
	// and POD_NAME.
	Namespace, PodName string
}

func (c *Capacity) flags(f *pflag.FlagSet) {
	f.BoolVar(&c.Enabled, "enable-capacity", false, "publish how much room the driver has (GetCapacity), for each place and StorageClass, in CSIStorageCapacity objects, by which the scheduler chooses nodes for pods with new volumes; needs the environment variable NAMESPACE")
	f.BoolVar(&c.Immediate, "capacity-for-immediate-binding", false, "publish capacity for StorageClasses with Immediate binding, too; the scheduler has no use for it")
	f.DurationVar(&c.PollInterval, "capacity-poll-interval", time.Minute, "how often the driver is asked for its capacity; besides, it is asked when volumes were made or deleted")
	f.IntVar(&c.OwnerRefLevel, "capacity-ownerref-level", 1, "what CSIStorageCapacity objects are deleted with: -1 nothing, 0 the pod of the environment variable POD_NAME, 1 the controller of that (a ReplicaSet, StatefulSet or DaemonSet), 2 the controller of that (a Deployment), and so on")
	f.IntVar(&c.Threads, "capacity-threads", 1, "how many questions about capacity the driver is asked at once")
	f.Float64Var(&c.QPS, "kube-api-capacity-qps", 0, "limit of requests to the API server for CSIStorageCapacity objects per second; 0 for no limit on this side, for no more of them are under way than --capacity-threads (the incumbent's default is 1, with which 1,000 objects take 17 minutes)")
	f.IntVar(&c.Burst, "kube-api-capacity-burst", 5, "burst of --kube-api-capacity-qps")
}

// validate refuses what cannot work, as far as it counts.
func (c *Capacity) validate() error {
	if !c.Enabled {
		return nil
	}
	checks := []struct {
		bad     bool
		message string
	}{
		{c.Namespace == "", "--enable-capacity needs the environment variable NAMESPACE, the namespace of the CSIStorageCapacity objects; set it to metadata.namespace of the pod (downward API)"},
		{c.OwnerRefLevel >= 0 && c.PodName == "", fmt.Sprintf("--capacity-ownerref-level=%d needs the environment variable POD_NAME; set it to metadata.name of the pod (downward API), or give -1 for objects without an owner", c.OwnerRefLevel)},
		{c.OwnerRefLevel < -1, fmt.Sprintf("--capacity-ownerref-level=%d is unknown; give -1 for objects without an owner, 0 for the pod, 1 for its controller", c.OwnerRefLevel)},
		{c.PollInterval <= 0, "--capacity-poll-interval must be positive"},
		{c.Threads < 1, "--capacity-threads must be at least 1"},
		{math.IsNaN(c.QPS) || math.IsInf(c.QPS, 0), fmt.Sprintf("--kube-api-capacity-qps=%v is no rate; give a number, 0 for no limit", c.QPS)},
		{c.QPS < 0 || c.Burst < 0, "--kube-api-capacity-qps and --kube-api-capacity-burst must not be negative"},
	}
	for _, check := range checks {
		if check.bad {
			return fmt.Errorf("%s", check.message)
		}
	}
	return nil
}
