package options

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"
	logsapi "k8s.io/component-base/logs/api/v1"
)

// Options is everything that can be set from outside, validated.
type Options struct {
	// Kubeconfig and Master say how to reach the API server; both empty means
	// from inside a pod.
	Kubeconfig, Master string
	// CSIAddress is the driver's socket.
	CSIAddress string
	// HTTPEndpoint is where metrics and health are served; empty for nowhere. It has
	// what was given as --metrics-address, too.
	HTTPEndpoint string
	// MetricsPath is the path of the metrics there.
	MetricsPath string
	// Pprof serves /debug/pprof there.
	Pprof bool
	// Tracing sends traces of calls to the driver.
	Tracing bool

	// VolumeNamePrefix and VolumeNameUUIDLength make the names of new volumes.
	VolumeNamePrefix     string
	VolumeNameUUIDLength int
	// RetryIntervalStart and -Max bound the back-off after errors.
	RetryIntervalStart, RetryIntervalMax time.Duration
	// WorkerThreads is how many volumes are made at once, and how many deleted.
	WorkerThreads int
	// Timeout is the deadline of each driver call.
	Timeout time.Duration
	// DefaultFSType is used when a class names no file system.
	DefaultFSType string
	// ExtraCreateMetadata passes the names of claim and PV to the driver.
	ExtraCreateMetadata bool
	// ControllerPublishReadOnly marks PVs of read-only claims read-only.
	ControllerPublishReadOnly bool
	// PreventVolumeModeConversion restores snapshots in the volumeMode that they were
	// taken in.
	PreventVolumeModeConversion bool
	// SnapshotOrphanSweepInterval is how often snapshots are looked for that are protected
	// for nothing; 0 or less is never.
	SnapshotOrphanSweepInterval time.Duration
	// SourceProtectionRemovalDelay is how long the finalizer stays on a source that no clone
	// needs and that is not being deleted; not negative.
	SourceProtectionRemovalDelay time.Duration

	// KubeAPIQPS limits requests to the API server; 0 means no limit of ours.
	KubeAPIQPS float64
	// KubeAPIBurst goes with it.
	KubeAPIBurst int

	// LeaderElection and what belongs to it.
	LeaderElection LeaderElection
	// Capacity says how, and whether, free capacity is published.
	Capacity Capacity
	// NodeDeployment and what belongs to it.
	NodeDeployment NodeDeployment
	// Topology and CrossNamespace: the feature gates Topology and
	// CrossNamespaceVolumeDataSource.
	Topology, CrossNamespace bool
	// StrictTopology and ImmediateTopology: --strict-topology and --immediate-topology.
	StrictTopology, ImmediateTopology bool
	// AttributesClasses is the feature gate VolumeAttributesClass.
	AttributesClasses Gate
	// ClonePolicy says which rules of the clone contract hold.
	ClonePolicy ClonePolicy
	// ProvisioningRecord says which claims are put on record.
	ProvisioningRecord ProvisioningRecord
	// Version asks for the version to be printed.
	Version bool
	// Logging is how to log.
	Logging *logsapi.LoggingConfiguration
	// OwnGC: the environment variable GOGC says how garbage is collected.
	OwnGC bool

	// metricsAddress is what --http-endpoint was called once.
	metricsAddress string
}

// Gate is a feature gate that can be left to what the API server has.
type Gate int

const (
	// GateAuto leaves it to the API server.
	GateAuto Gate = iota
	// GateOn and GateOff are what somebody has set.
	GateOn
	// GateOff: see GateOn.
	GateOff
)

// ClonePolicy is the value of --clone-policy.
type ClonePolicy string

const (
	// Strict enforces the whole documented contract of volume cloning.
	Strict ClonePolicy = "strict"
	// Compatible drops rules 5 (same StorageClass) and 6 (source not in use), which
	// the incumbent does not check.
	Compatible ClonePolicy = "compatible"
)

// ProvisioningRecord is the value of --provisioning-record.
type ProvisioningRecord string

const (
	// RecordAll puts every claim on record before the driver is called for it.
	RecordAll ProvisioningRecord = "all"
	// RecordSources puts claims with a data source on record, and no others.
	RecordSources ProvisioningRecord = "sources"
	// RecordOff finishes what is on record and writes nothing new.
	RecordOff ProvisioningRecord = "off"
)

// Writes says whether a claim is put on record; source says that it has a data
// source.
func (r ProvisioningRecord) Writes(source bool) bool {
	return r == RecordAll || r == RecordSources && source
}

// LeaderElection holds the settings of the lease.
type LeaderElection struct {
	Enabled   bool
	Namespace string
	// ReleaseOnExit gives the lease up when the program ends, so that another replica need
	// not wait until it has expired: the feature gate ReleaseLeaderElectionOnExit.
	ReleaseOnExit bool
	// A leader holds the lease for LeaseDuration, tries to renew it for
	// RenewDeadline, and asks every RetryPeriod.
	LeaseDuration, RenewDeadline, RetryPeriod time.Duration
	// Labels put on the lease.
	Labels map[string]string
}

// Environment is how this package looks at the environment; os.LookupEnv but in
// tests.
type Environment func(key string) (string, bool)

// Parse reads the arguments (without the program's name) and the environment.
// pflag.ErrHelp means that the help was asked for, and has been printed. Every
// other error is one line.
func Parse(args []string, env Environment) (*Options, error) {
	o, err := parse(args, env)
	if err != nil && strings.ContainsAny(err.Error(), "\n\r") { // pflag quotes not all that it quotes
		return nil, errors.New(strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(err.Error()))
	}
	return o, err
}

func parse(args []string, env Environment) (*Options, error) {
	o := &Options{}
	flags := o.Flags()
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if rest := flags.Args(); len(rest) > 0 {
		return nil, fmt.Errorf("unexpected argument %q; all settings are flags that begin with --", rest[0])
	}
	if o.Version {
		return o, nil
	}
	if path, found := env("KUBECONFIG"); found && path != "" {
		o.Kubeconfig = path
	}
	_, o.OwnGC = env("GOGC")
	if o.NodeDeployment.Enabled {
		o.NodeDeployment.Node, _ = env("NODE_NAME")
	}
	if err := o.oneAddress(); err != nil {
		return nil, err
	}
	if err := o.tracesByGRPC(env); err != nil {
		return nil, err
	}
	if o.Capacity.Enabled {
		o.Capacity.Namespace, _ = env("NAMESPACE")
		o.Capacity.PodName, _ = env("POD_NAME")
	}
	if o.LeaderElection.Namespace == "" {
		o.LeaderElection.Namespace = podNamespace(env)
	}
	return o, o.validate(flags)
}

// oneAddress makes one of the two flags that give the address of the HTTP server.
func (o *Options) oneAddress() error {
	switch {
	case o.metricsAddress == "":
		return nil
	case o.HTTPEndpoint != "":
		return fmt.Errorf("--metrics-address=%s and --http-endpoint=%s are both given; give --http-endpoint alone, which serves everything", o.metricsAddress, o.HTTPEndpoint)
	}
	o.HTTPEndpoint = o.metricsAddress
	return nil
}

// tracesByGRPC refuses the other protocols of OTLP, which would find nobody listening. All
// other variables of OpenTelemetry are the SDK's, which reads them by itself.
func (o *Options) tracesByGRPC(env Environment) error {
	if !o.Tracing {
		return nil
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		switch protocol, _ := env(name); protocol {
		case "":
			continue // the more general one may say
		case "grpc":
			return nil
		default:
			return fmt.Errorf("--enable-otel-tracing sends by gRPC only, and the environment variable %s is %q; take it away, or set it to grpc and the endpoint to the collector's gRPC port, mostly 4317", name, protocol)
		}
	}
	return nil
}

// podNamespace: POD_NAMESPACE, else the service account's, else "default".
func podNamespace(env Environment) string {
	if ns, found := env("POD_NAMESPACE"); found && ns != "" {
		return ns
	}
	data, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if ns := strings.TrimSpace(string(data)); err == nil && ns != "" {
		return ns
	}
	return "default"
}

// validate refuses what contradicts itself or cannot work.
func (o *Options) validate(flags *pflag.FlagSet) error {
	if err := o.applyGates(flags); err != nil {
		return err
	}
	checks := []struct {
		bad     bool
		message string
	}{
		{o.CSIAddress == "", "--csi-address is empty; give the path of the driver's socket"},
		{strings.Contains(o.CSIAddress, "://") && !strings.HasPrefix(o.CSIAddress, "unix://"), fmt.Sprintf("--csi-address=%q is no unix socket; give the path of the driver's socket, or unix://path", o.CSIAddress)},
		{!listenable(o.HTTPEndpoint), fmt.Sprintf("--http-endpoint=%q is no address to listen at; give [host]:port, such as :8080", o.HTTPEndpoint)},
		{o.VolumeNamePrefix == "", "--volume-name-prefix is empty; give the beginning of volume names, such as pvc"},
		{!fitsPVName(o.VolumeNamePrefix), fmt.Sprintf("--volume-name-prefix=%q makes no name for a PersistentVolume; use small letters, digits, dashes and dots, and fewer than 216 of them", o.VolumeNamePrefix)},
		{o.VolumeNameUUIDLength < -1 || o.VolumeNameUUIDLength == 0 || o.VolumeNameUUIDLength > 32, fmt.Sprintf("--volume-name-uuid-length=%d is out of range; give 1 to 32, or -1 for the whole uid", o.VolumeNameUUIDLength)},
		{o.SourceProtectionRemovalDelay < 0, fmt.Sprintf("--source-protection-removal-delay=%s is negative; give 0 or more", o.SourceProtectionRemovalDelay)},
		{o.ClonePolicy != Strict && o.ClonePolicy != Compatible, fmt.Sprintf("--clone-policy=%q is unknown; give strict or compatible", o.ClonePolicy)},
		{o.ProvisioningRecord != RecordAll && o.ProvisioningRecord != RecordSources && o.ProvisioningRecord != RecordOff, fmt.Sprintf("--provisioning-record=%q is unknown; give all, sources or off", o.ProvisioningRecord)},
		{o.WorkerThreads < 1, "--worker-threads must be at least 1"},
		{o.Timeout <= 0, "--timeout must be positive"},
		{o.RetryIntervalStart <= 0 || o.RetryIntervalMax < o.RetryIntervalStart, "--retry-interval-start must be positive and not above --retry-interval-max"},
		{math.IsNaN(o.KubeAPIQPS) || math.IsInf(o.KubeAPIQPS, 0), fmt.Sprintf("--kube-api-qps=%v is no rate; give a number, 0 for no limit", o.KubeAPIQPS)},
		{o.KubeAPIQPS < 0 || o.KubeAPIBurst < 0, "--kube-api-qps and --kube-api-burst must not be negative"},
		{!strings.HasPrefix(o.MetricsPath, "/"), fmt.Sprintf("--metrics-path=%q must begin with /", o.MetricsPath)},
		{!servable(o.MetricsPath), fmt.Sprintf("--metrics-path=%q cannot be served; use letters, digits, dashes, dots and underscores between slashes, and not a path of /healthz, /readyz or /debug/pprof/", o.MetricsPath)},
	}
	for _, c := range checks {
		if c.bad {
			return fmt.Errorf("%s", c.message)
		}
	}
	if err := o.Capacity.validate(); err != nil {
		return err
	}
	if err := o.NodeDeployment.validate(o.LeaderElection.Enabled); err != nil {
		return err
	}
	return o.LeaderElection.validate()
}

// fitsPVName: prefix, dash and a whole uid make a name that the API server takes.
func fitsPVName(prefix string) bool {
	const uid = "00000000-0000-0000-0000-000000000000"
	return len(validation.IsDNS1123Subdomain(prefix+"-"+uid)) == 0
}

// listenable: there is a port, and nothing else but a host.
func listenable(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return address == "" || err == nil && port != ""
}

// path is one that net/http takes for itself, and no pattern.
var path = regexp.MustCompile(`^/$|^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+/?$`)

// servable: metrics can stand there beside health and profiles. Where two things
// are served at one path the program would break on starting.
func servable(metrics string) bool {
	taken := []string{"/healthz", "/healthz/leader-election", "/readyz"}
	return path.MatchString(metrics) && !slices.Contains(taken, metrics) && !strings.HasPrefix(metrics, "/debug/pprof/")
}

// validate: the lease must outlive its renewal, and the renewal a retry with
// jitter (client-go, leaderelection).
func (l LeaderElection) validate() error {
	if !l.Enabled {
		return nil
	}
	if l.RetryPeriod <= 0 || l.LeaseDuration <= l.RenewDeadline || l.RenewDeadline.Seconds() <= 1.2*l.RetryPeriod.Seconds() {
		return fmt.Errorf("leader election needs --leader-election-lease-duration (%s) > --leader-election-renew-deadline (%s) > 1.2 x --leader-election-retry-period (%s)",
			l.LeaseDuration, l.RenewDeadline, l.RetryPeriod)
	}
	return nil
}
