package options

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"
	logsapi "k8s.io/component-base/logs/api/v1"
)

// Flags returns the flag set that fills o; docs/flags.md is generated from it.
func (o *Options) Flags() *pflag.FlagSet {
	f := pflag.NewFlagSet("csi-clone-provisioner", pflag.ContinueOnError)
	f.SortFlags = true
	f.StringVar(&o.Kubeconfig, "kubeconfig", "", "path of a kubeconfig file, for use outside a cluster; the environment variable KUBECONFIG overrides it")
	f.StringVar(&o.Master, "master", "", "URL of the API server, for use outside a cluster")
	f.StringVar(&o.CSIAddress, "csi-address", "/run/csi/socket", "path of the CSI driver's socket, or unix://path")
	f.StringVar(&o.HTTPEndpoint, "http-endpoint", "", "address such as :8080 at which /metrics, /healthz, /healthz/leader-election and /readyz are served; empty for none")
	f.StringVar(&o.metricsAddress, "metrics-address", "", "deprecated, what --http-endpoint was called once: it serves the same; only one of the two may be given")
	f.StringVar(&o.MetricsPath, "metrics-path", "/metrics", "path of the metrics at --http-endpoint")
	f.BoolVar(&o.Pprof, "enable-pprof", false, "serve /debug/pprof/ at --http-endpoint")
	f.BoolVar(&o.Tracing, "enable-otel-tracing", false, "send OpenTelemetry traces of the calls to the driver, by OTLP over gRPC, to where the environment variable OTEL_EXPORTER_OTLP_ENDPOINT says (docs/metrics.md)")
	f.StringVar(&o.VolumeNamePrefix, "volume-name-prefix", "pvc", "beginning of the names of volumes and PVs")
	f.IntVar(&o.VolumeNameUUIDLength, "volume-name-uuid-length", -1, "how many characters of the claim's uid, without dashes, go into the volume's name (1 to 32); -1 for the whole uid with dashes")
	f.DurationVar(&o.RetryIntervalStart, "retry-interval-start", time.Second, "first pause after an error; it doubles with each further one")
	f.DurationVar(&o.RetryIntervalMax, "retry-interval-max", 5*time.Minute, "longest pause after an error")
	f.IntVar(&o.WorkerThreads, "worker-threads", 100, "how many volumes are created at once, and how many are deleted at once")
	f.DurationVar(&o.Timeout, "timeout", 10*time.Second, "deadline of each call to the CSI driver")
	f.StringVar(&o.DefaultFSType, "default-fstype", "", "file system of volumes whose StorageClass names none")
	f.BoolVar(&o.ExtraCreateMetadata, "extra-create-metadata", false, "pass the names of claim and PV to the driver as parameters of CreateVolume")
	f.BoolVar(&o.ControllerPublishReadOnly, "controller-publish-readonly", false, "mark the PV of a claim whose only access mode is ReadOnlyMany as read-only")
	f.BoolVar(&o.PreventVolumeModeConversion, "prevent-volume-mode-conversion", true, "refuse to restore a snapshot in another volumeMode than that of the volume that it was taken of, unless an administrator has allowed it on the VolumeSnapshotContent")
	f.DurationVar(&o.SnapshotOrphanSweepInterval, "snapshot-orphan-sweep-interval", 5*time.Minute, "how often VolumeSnapshots are looked for that are protected for nothing, because a process was killed; those that this process has protected are let go without; 0 for never")
	f.DurationVar(&o.SourceProtectionRemovalDelay, "source-protection-removal-delay", 30*time.Second, "how long a source keeps its finalizer after the last clone of it is made, so that clones made one after the other do not each write to their source; a source that is being deleted is released at once")
	f.BoolVar(&o.StrictTopology, "strict-topology", false, "ask the driver for volumes that can be used on the node that the scheduler has chosen, and tell it of no other place; else the node's place is only the first of those that are named")
	f.BoolVar(&o.ImmediateTopology, "immediate-topology", true, "name the driver all places of the cluster for a claim without a chosen node (Immediate binding) whose StorageClass has no allowedTopologies; false names none")
	f.StringVar((*string)(&o.ClonePolicy), "clone-policy", string(Strict), "which rules a clone must obey: strict enforces the whole documented contract; compatible allows, as the incumbent does, a source of another StorageClass and a source that is in use (its clone may lack what a running pod has not written yet)")
	f.StringVar((*string)(&o.ProvisioningRecord), "provisioning-record", string(RecordAll), "which claims are put on record (a finalizer and annotations) while their volume may exist without a PV, so that nothing is lost when this process dies: all, sources (only those with a data source) or off (none; what is on record is finished, and the metric csi_clone_provisioner_claims_recorded is 0 when that is done: then the provisioner can be replaced by one that knows no records)")
	f.Float64Var(&o.KubeAPIQPS, "kube-api-qps", 0, "limit of requests to the API server per second; 0 for no limit on this side (the incumbent's default is 5)")
	f.IntVar(&o.KubeAPIBurst, "kube-api-burst", 10, "burst of --kube-api-qps")
	f.BoolVar(&o.Version, "version", false, "print the version and exit")
	f.StringSlice("feature-gates", nil, "comma separated list of Name=true|false: "+gateNames())
	o.leaderElectionFlags(f)
	o.Capacity.flags(f)
	o.nodeDeploymentFlags(f)
	compatibilityFlags(f)
	o.Logging = logsapi.NewLoggingConfiguration()
	logsapi.AddFlags(o.Logging, f)
	return f
}

func (o *Options) leaderElectionFlags(f *pflag.FlagSet) {
	l := &o.LeaderElection
	f.BoolVar(&l.Enabled, "leader-election", false, "work only while holding a lease, so that one of several replicas does; it is given up on exit")
	f.StringVar(&l.Namespace, "leader-election-namespace", "", "namespace of the lease; by default that of the pod (POD_NAMESPACE)")
	f.DurationVar(&l.LeaseDuration, "leader-election-lease-duration", 15*time.Second, "how long the others wait before they take over a lease that is not renewed")
	f.DurationVar(&l.RenewDeadline, "leader-election-renew-deadline", 10*time.Second, "how long the leader tries to renew the lease before it gives up")
	f.DurationVar(&l.RetryPeriod, "leader-election-retry-period", 5*time.Second, "pause between two attempts to get or renew the lease")
	f.Var((*labels)(&l.Labels), "leader-election-labels", "labels of the lease: key:value, comma separated")
}

// compatibilityFlags are known to users of the incumbent and change nothing here.
func compatibilityFlags(f *pflag.FlagSet) {
	f.Bool("automaxprocs", false, "accepted for compatibility, without effect: the Go runtime heeds the container's CPU limit by itself")
	f.String("cloning-protection-threads", "1", "accepted for compatibility, without effect: sources need no threads of their own")
}

// labels parses key:value pairs.
type labels map[string]string

func (l *labels) String() string {
	var pairs []string
	for k, v := range *l {
		pairs = append(pairs, k+":"+v)
	}
	return strings.Join(pairs, ",")
}

func (l *labels) Type() string { return "key:value list" }

func (l *labels) Set(value string) error {
	*l = labels{}
	if value == "" {
		return nil
	}
	for pair := range strings.SplitSeq(value, ",") {
		key, v, found := strings.Cut(pair, ":")
		if !found || strings.Contains(v, ":") {
			return fmt.Errorf("label %q is not of the form key:value", pair)
		}
		key, v = strings.TrimSpace(key), strings.TrimSpace(v)
		if wrong := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(v)...); len(wrong) > 0 {
			return fmt.Errorf("label %q is none that Kubernetes takes: %s", pair, strings.Join(wrong, "; "))
		}
		(*l)[key] = v
	}
	return nil
}
