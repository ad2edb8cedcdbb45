package options_test

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/options"
)

// environment of the tests; nil holds a namespace, so that no file is read.
func environment(vars map[string]string) options.Environment {
	return func(key string) (string, bool) {
		if vars == nil {
			vars = map[string]string{"POD_NAMESPACE": "pods"}
		}
		value, found := vars[key]
		return value, found
	}
}

func TestDefaults(t *testing.T) {
	o, err := options.Parse(nil, environment(nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"kubeconfig", o.Kubeconfig, ""},
		{"master", o.Master, ""},
		{"csi-address", o.CSIAddress, "/run/csi/socket"},
		{"http-endpoint", o.HTTPEndpoint, ""},
		{"metrics-path", o.MetricsPath, "/metrics"},
		{"enable-pprof", o.Pprof, false},
		{"enable-otel-tracing", o.Tracing, false},
		{"volume-name-prefix", o.VolumeNamePrefix, "pvc"},
		{"volume-name-uuid-length", o.VolumeNameUUIDLength, -1},
		{"retry-interval-start", o.RetryIntervalStart, time.Second},
		{"retry-interval-max", o.RetryIntervalMax, 5 * time.Minute},
		{"worker-threads", o.WorkerThreads, 100},
		{"timeout", o.Timeout, 10 * time.Second},
		{"default-fstype", o.DefaultFSType, ""},
		{"extra-create-metadata", o.ExtraCreateMetadata, false},
		{"controller-publish-readonly", o.ControllerPublishReadOnly, false},
		{"prevent-volume-mode-conversion", o.PreventVolumeModeConversion, true},
		{"snapshot-orphan-sweep-interval", o.SnapshotOrphanSweepInterval, 5 * time.Minute},
		{"source-protection-removal-delay", o.SourceProtectionRemovalDelay, 30 * time.Second},
		{"kube-api-qps", o.KubeAPIQPS, 0.0},
		{"kube-api-burst", o.KubeAPIBurst, 10},
		{"leader-election", o.LeaderElection.Enabled, false},
		{"leader-election-namespace", o.LeaderElection.Namespace, "pods"},
		{"leader-election-lease-duration", o.LeaderElection.LeaseDuration, 15 * time.Second},
		{"leader-election-renew-deadline", o.LeaderElection.RenewDeadline, 10 * time.Second},
		{"leader-election-retry-period", o.LeaderElection.RetryPeriod, 5 * time.Second},
		{"Topology", o.Topology, true},
		{"version", o.Version, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.got != c.want {
				t.Errorf("got %v, want %v", c.got, c.want)
			}
		})
	}
	if o.Logging == nil {
		t.Error("no logging configuration")
	}
}

// What can be set, is.
func TestFlags(t *testing.T) {
	for _, c := range []struct {
		name, args string
		holds      func(*options.Options) bool
	}{
		{"the driver's socket", "--csi-address=unix:///csi/csi.sock", func(o *options.Options) bool { return o.CSIAddress == "unix:///csi/csi.sock" }},
		{"where metrics are served", "--http-endpoint=:8080 --metrics-path=/m --enable-pprof", func(o *options.Options) bool {
			return o.HTTPEndpoint == ":8080" && o.MetricsPath == "/m" && o.Pprof
		}},
		{"by the name that flag once had", "--metrics-address=:8080 --metrics-path=/m", func(o *options.Options) bool { return o.HTTPEndpoint == ":8080" && o.MetricsPath == "/m" }},
		{"by that name, as two words", "--metrics-address :8080", func(o *options.Options) bool { return o.HTTPEndpoint == ":8080" }},
		{"by the other name if one of them is empty", "--metrics-address= --http-endpoint=:8080", func(o *options.Options) bool { return o.HTTPEndpoint == ":8080" }},
		{"and the other way round", "--metrics-address=:8080 --http-endpoint=", func(o *options.Options) bool { return o.HTTPEndpoint == ":8080" }},
		{"nowhere", "--metrics-address=", func(o *options.Options) bool { return o.HTTPEndpoint == "" }},
		{"names of volumes", "--volume-name-prefix=dc1 --volume-name-uuid-length=32", func(o *options.Options) bool {
			return o.VolumeNamePrefix == "dc1" && o.VolumeNameUUIDLength == 32
		}},
		{"the shortest name", "--volume-name-uuid-length=1", func(o *options.Options) bool { return o.VolumeNameUUIDLength == 1 }},
		{"one back-off for all retries", "--retry-interval-start=1m --retry-interval-max=1m", func(o *options.Options) bool {
			return o.RetryIntervalStart == time.Minute && o.RetryIntervalMax == time.Minute
		}},
		{"workers and timeout", "--worker-threads=1 --timeout=1ms", func(o *options.Options) bool {
			return o.WorkerThreads == 1 && o.Timeout == time.Millisecond
		}},
		{"what drivers are told", "--default-fstype=xfs --extra-create-metadata --controller-publish-readonly", func(o *options.Options) bool {
			return o.DefaultFSType == "xfs" && o.ExtraCreateMetadata && o.ControllerPublishReadOnly
		}},
		{"how snapshots are treated", "--prevent-volume-mode-conversion=false --snapshot-orphan-sweep-interval=0", func(o *options.Options) bool {
			return !o.PreventVolumeModeConversion && o.SnapshotOrphanSweepInterval == 0
		}},
		{"how long sources stay protected", "--source-protection-removal-delay=0s", func(o *options.Options) bool { return o.SourceProtectionRemovalDelay == 0 }},
		{"limits at the API server", "--kube-api-qps=2.5 --kube-api-burst=0", func(o *options.Options) bool { return o.KubeAPIQPS == 2.5 && o.KubeAPIBurst == 0 }},
		{"API server and kubeconfig", "--master=https://10.0.0.1 --kubeconfig=k", func(o *options.Options) bool {
			return o.Master == "https://10.0.0.1" && o.Kubeconfig == "k"
		}},
		{"the lease", "--leader-election --leader-election-namespace=kube-system --leader-election-lease-duration=4s --leader-election-renew-deadline=3s --leader-election-retry-period=2s", func(o *options.Options) bool {
			l := o.LeaderElection
			return l.Enabled && l.Namespace == "kube-system" && l.LeaseDuration == 4*time.Second && l.RenewDeadline == 3*time.Second && l.RetryPeriod == 2*time.Second
		}},
		{"labels of the lease", "--leader-election-labels=app:clone,tier:gold", func(o *options.Options) bool {
			return maps.Equal(o.LeaderElection.Labels, map[string]string{"app": "clone", "tier": "gold"})
		}},
		{"no labels", "--leader-election-labels=", func(o *options.Options) bool { return len(o.LeaderElection.Labels) == 0 }},
		{"a label without a value", "--leader-election-labels=app:", func(o *options.Options) bool {
			return maps.Equal(o.LeaderElection.Labels, map[string]string{"app": ""})
		}},
		{"a lease that is not used may be odd", "--leader-election-lease-duration=1s", func(o *options.Options) bool { return !o.LeaderElection.Enabled }},
		{"the verbosity of the log", "--v=4", func(o *options.Options) bool { return o.Logging.Verbosity == 4 }},
		{"flags of the incumbent that change nothing", "--cloning-protection-threads=5 --automaxprocs=true", func(*options.Options) bool { return true }},
		{"strict topology", "--strict-topology", func(o *options.Options) bool { return o.StrictTopology && o.ImmediateTopology }},
		{"no immediate topology", "--immediate-topology=false", func(o *options.Options) bool { return !o.StrictTopology && !o.ImmediateTopology }},
		{"Topology off", "--feature-gates=Topology=false", func(o *options.Options) bool { return !o.Topology }},
		{"several gates", "--feature-gates=Topology=false,VolumeAttributesClass=false", func(o *options.Options) bool { return !o.Topology }},
		{"no gates", "--feature-gates=", func(o *options.Options) bool { return o.Topology && !o.CrossNamespace }},
		{"a comma too many", "--feature-gates=Topology=false,", func(o *options.Options) bool { return !o.Topology }},
		{"gates given one by one", "--feature-gates=Topology=false --feature-gates=VolumeAttributesClass=true", func(o *options.Options) bool { return !o.Topology }},
		{"VolumeAttributesClass is left to the API server", "", func(o *options.Options) bool { return o.AttributesClasses == options.GateAuto }},
		{"VolumeAttributesClass on", "--feature-gates=VolumeAttributesClass=true", func(o *options.Options) bool { return o.AttributesClasses == options.GateOn }},
		{"VolumeAttributesClass off", "--feature-gates=VolumeAttributesClass=false", func(o *options.Options) bool { return o.AttributesClasses == options.GateOff }},
		{"the last word on a gate counts", "--feature-gates=Topology=false,Topology=true", func(o *options.Options) bool { return o.Topology }},
		{"sources in other namespaces", "--feature-gates=CrossNamespaceVolumeDataSource=true", func(o *options.Options) bool { return o.CrossNamespace }},
		{"no sources in other namespaces", "--feature-gates=CrossNamespaceVolumeDataSource=false", func(o *options.Options) bool { return !o.CrossNamespace }},
		{"the strict clone policy", "--clone-policy=strict", func(o *options.Options) bool { return o.ClonePolicy == options.Strict }},
		{"the compatible clone policy", "--clone-policy=compatible", func(o *options.Options) bool { return o.ClonePolicy == options.Compatible }},
		{"the lease is given up", "", func(o *options.Options) bool { return o.LeaderElection.ReleaseOnExit }},
		{"the lease is given up, as said", "--feature-gates=ReleaseLeaderElectionOnExit=true", func(o *options.Options) bool { return o.LeaderElection.ReleaseOnExit && o.Topology }},
		{"the lease is kept", "--feature-gates=ReleaseLeaderElectionOnExit=false", func(o *options.Options) bool { return !o.LeaderElection.ReleaseOnExit }},
		{"all gates in alpha on", "--feature-gates=AllAlpha=true", func(o *options.Options) bool { return o.CrossNamespace && o.LeaderElection.ReleaseOnExit }},
		{"all gates in alpha off", "--feature-gates=AllAlpha=false", func(o *options.Options) bool {
			return !o.CrossNamespace && !o.LeaderElection.ReleaseOnExit && o.Topology
		}},
		{"a gate by name beats all of them", "--feature-gates=CrossNamespaceVolumeDataSource=false,AllAlpha=true", func(o *options.Options) bool { return !o.CrossNamespace }},
		{"no gate is in beta", "--feature-gates=AllBeta=false", func(o *options.Options) bool { return o.Topology && o.AttributesClasses == options.GateAuto }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := options.Parse(strings.Fields(c.args), environment(nil))
			if err != nil {
				t.Fatal(err)
			}
			if !c.holds(o) {
				t.Errorf("%s does not do what it says: %+v", c.args, o)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	const gates = "Topology (true by default), CrossNamespaceVolumeDataSource (false by default), VolumeAttributesClass (true by default), ReleaseLeaderElectionOnExit (true by default; the incumbent's default is false), AllAlpha, AllBeta"
	length := func(n string) string {
		return "--volume-name-uuid-length=" + n + " is out of range; give 1 to 32, or -1 for the whole uid"
	}
	const retries = "--retry-interval-start must be positive and not above --retry-interval-max"
	const rates = "--kube-api-qps and --kube-api-burst must not be negative"
	const labelForm = `must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`
	unservable := func(path string) string {
		return `--metrics-path="` + path + `" cannot be served; use letters, digits, dashes, dots and underscores between slashes, and not a path of /healthz, /readyz or /debug/pprof/`
	}
	lease := func(lease, renew, retry string) string {
		return "leader election needs --leader-election-lease-duration (" + lease + ") > --leader-election-renew-deadline (" + renew + ") > 1.2 x --leader-election-retry-period (" + retry + ")"
	}
	for _, c := range []struct{ name, args, want string }{
		{"an argument that is no flag", "--timeout=1s now", `unexpected argument "now"; all settings are flags that begin with --`},
		{"an unknown flag", "--clone-faster", "unknown flag: --clone-faster"},
		{"a value that is no number", "--worker-threads=many", `invalid argument "many" for "--worker-threads" flag: strconv.ParseInt: parsing "many": invalid syntax`},
		{"no socket", "--csi-address=", "--csi-address is empty; give the path of the driver's socket"},
		{"no prefix", "--volume-name-prefix=", "--volume-name-prefix is empty; give the beginning of volume names, such as pvc"},
		{"no uid in the name", "--volume-name-uuid-length=0", length("0")},
		{"less than the whole uid", "--volume-name-uuid-length=-2", length("-2")},
		{"more than the whole uid", "--volume-name-uuid-length=33", length("33")},
		{"no workers", "--worker-threads=0", "--worker-threads must be at least 1"},
		{"no time", "--timeout=0s", "--timeout must be positive"},
		{"negative time", "--timeout=-1s", "--timeout must be positive"},
		{"no pause after an error", "--retry-interval-start=0s", retries},
		{"a first pause above the longest", "--retry-interval-start=2s --retry-interval-max=1s", retries},
		{"a negative rate", "--kube-api-qps=-1", rates},
		{"a negative burst", "--kube-api-burst=-1", rates},
		{"a rate that is no number", "--kube-api-qps=NaN", "--kube-api-qps=NaN is no rate; give a number, 0 for no limit"},
		{"a rate without end", "--kube-api-qps=+Inf", "--kube-api-qps=+Inf is no rate; give a number, 0 for no limit"},
		{"metrics where health is", "--metrics-path=/healthz", unservable("/healthz")},
		{"metrics where profiles are", "--metrics-path=/debug/pprof/", unservable("/debug/pprof/")},
		{"a path that is a pattern", "--metrics-path=/{metrics", unservable("/{metrics")},
		{"a path that goes up", "--metrics-path=/a/../b", unservable("/a/../b")},
		{"a path with an empty part", "--metrics-path=//metrics", unservable("//metrics")},
		{"a label without a key", "--leader-election-labels=:b", `invalid argument ":b" for "--leader-election-labels" flag: label ":b" is none that Kubernetes takes: name part must be non-empty; name part ` + labelForm},
		{"a path without a slash", "--metrics-path=metrics", `--metrics-path="metrics" must begin with /`},
		{"no path", "--metrics-path=", `--metrics-path="" must begin with /`},
		{"a lease that ends before it is renewed", "--leader-election --leader-election-lease-duration=10s", lease("10s", "10s", "5s")},
		{"a renewal that ends before a retry", "--leader-election --leader-election-renew-deadline=6s", lease("15s", "6s", "5s")},
		{"no pause between tries", "--leader-election --leader-election-retry-period=0s", lease("15s", "10s", "0s")},
		{"a label without a colon", "--leader-election-labels=app", `invalid argument "app" for "--leader-election-labels" flag: label "app" is not of the form key:value`},
		{"a label with two colons", "--leader-election-labels=a:b:c", `invalid argument "a:b:c" for "--leader-election-labels" flag: label "a:b:c" is not of the form key:value`},
		{"a gate that nobody knows", "--feature-gates=Magic=true", `--feature-gates: there is no gate "Magic"; known are ` + gates},
		{"a gate without a value", "--feature-gates=Topology", `--feature-gates: "Topology" is not of the form Name=true or Name=false`},
		{"a gate with another value", "--feature-gates=Topology=perhaps", `--feature-gates: "Topology=perhaps" is not of the form Name=true or Name=false`},
		{"a clone policy that nobody knows", "--clone-policy=lax", `--clone-policy="lax" is unknown; give strict or compatible`},
		{"an empty clone policy", "--clone-policy=", `--clone-policy="" is unknown; give strict or compatible`},
		{"two addresses", "--metrics-address=:9 --http-endpoint=:8", "--metrics-address=:9 and --http-endpoint=:8 are both given; give --http-endpoint alone, which serves everything"},
		{"a port without a colon", "--http-endpoint=8080", `--http-endpoint="8080" is no address to listen at; give [host]:port, such as :8080`},
		{"a host without a port", "--metrics-address=localhost:", `--http-endpoint="localhost:" is no address to listen at; give [host]:port, such as :8080`},
		{"a driver that is not at a socket", "--csi-address=tcp://1.2.3.4:5", `--csi-address="tcp://1.2.3.4:5" is no unix socket; give the path of the driver's socket, or unix://path`},
		{"one address twice", "--metrics-address=:9 --http-endpoint=:9", "--metrics-address=:9 and --http-endpoint=:9 are both given; give --http-endpoint alone, which serves everything"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := options.Parse(strings.Fields(c.args), environment(nil))
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

// OTLP has other protocols, for which nobody here would speak.
func TestTracesAreSentByGRPCOnly(t *testing.T) {
	const all, traces = "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	refusal := func(name string) string {
		return "--enable-otel-tracing sends by gRPC only, and the environment variable " + name + ` is "http/protobuf"; take it away, or set it to grpc and the endpoint to the collector's gRPC port, mostly 4317`
	}
	for _, c := range []struct {
		name, flag string
		vars       map[string]string
		want       string
	}{
		{"nothing said", "--enable-otel-tracing", nil, ""},
		{"said to be so", "--enable-otel-tracing", map[string]string{all: "grpc"}, ""},
		{"empty", "--enable-otel-tracing", map[string]string{all: "", traces: ""}, ""},
		{"another for metrics", "--enable-otel-tracing", map[string]string{all: "http/protobuf", traces: "grpc"}, ""},
		{"another", "--enable-otel-tracing", map[string]string{all: "http/protobuf"}, refusal(all)},
		{"another for traces", "--enable-otel-tracing", map[string]string{all: "grpc", traces: "http/protobuf"}, refusal(traces)},
		{"not traced", "--enable-otel-tracing=false", map[string]string{all: "http/protobuf"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			vars := map[string]string{"POD_NAMESPACE": "pods"}
			maps.Copy(vars, c.vars)
			o, err := options.Parse([]string{c.flag}, environment(vars))
			switch {
			case c.want == "" && err != nil, c.want != "" && (err == nil || err.Error() != c.want):
				t.Errorf("got  %v\nwant %s", err, c.want)
			case err == nil && o.Tracing != (c.flag == "--enable-otel-tracing"):
				t.Errorf("tracing is %t", o.Tracing)
			}
		})
	}
}

// A log that is read line by line shows the whole of it.
func TestRefusalsOfLineBreaksAreOneLine(t *testing.T) {
	for arg, want := range map[string]string{
		"--a\nb":                  `unknown flag: --a\nb`,
		"-\r":                     `unknown shorthand flag: '\r' in -\r`,
		"--volume-name-prefix=\r": `--volume-name-prefix="\r" makes no name for a PersistentVolume; use small letters, digits, dashes and dots, and fewer than 216 of them`,
	} {
		if _, err := options.Parse([]string{arg}, environment(nil)); err == nil || err.Error() != want {
			t.Errorf("got  %q\nwant %q", err, want)
		}
	}
}

// The prefix begins the names of PVs: one that no PV can have would show only
// after the first volume was made.
func TestVolumeNamePrefixMustFitAPV(t *testing.T) {
	for _, prefix := range []string{"PVC", "my_volumes", "-pvc", "pvc/x", "p vc", strings.Repeat("a", 240)} {
		t.Run(prefix, func(t *testing.T) {
			if _, err := options.Parse([]string{"--volume-name-prefix=" + prefix}, environment(nil)); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	for _, c := range []struct {
		name, args            string
		vars                  map[string]string
		kubeconfig, namespace string
	}{
		{"KUBECONFIG overrides the flag", "--kubeconfig=flag", map[string]string{"KUBECONFIG": "env", "POD_NAMESPACE": "pods"}, "env", "pods"},
		{"an empty KUBECONFIG does not", "--kubeconfig=flag", map[string]string{"KUBECONFIG": "", "POD_NAMESPACE": "pods"}, "flag", "pods"},
		{"KUBECONFIG alone counts", "", map[string]string{"KUBECONFIG": "env", "POD_NAMESPACE": "pods"}, "env", "pods"},
		{"the flag beats POD_NAMESPACE", "--leader-election-namespace=here", map[string]string{"POD_NAMESPACE": "pods"}, "", "here"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := options.Parse(strings.Fields(c.args), environment(c.vars))
			if err != nil {
				t.Fatal(err)
			}
			if o.Kubeconfig != c.kubeconfig || o.LeaderElection.Namespace != c.namespace {
				t.Errorf("got %q and %q, want %q and %q", o.Kubeconfig, o.LeaderElection.Namespace, c.kubeconfig, c.namespace)
			}
		})
	}
}

func TestOwnGC(t *testing.T) {
	for value, set := range map[string]bool{"": false, "100": true} {
		vars := map[string]string{"POD_NAMESPACE": "pods"}
		if set {
			vars["GOGC"] = value
		}
		o, err := options.Parse(nil, environment(vars))
		if err != nil {
			t.Fatal(err)
		}
		if o.OwnGC != set {
			t.Errorf("GOGC %q: OwnGC is %v, want %v", value, o.OwnGC, set)
		}
	}
}

// What the file of the service account says depends on where the test runs; that
// there is a namespace does not.
func TestNamespaceIsNeverEmpty(t *testing.T) {
	for _, vars := range []map[string]string{{}, {"POD_NAMESPACE": ""}} {
		o, err := options.Parse(nil, environment(vars))
		if err != nil {
			t.Fatal(err)
		}
		if o.LeaderElection.Namespace == "" {
			t.Error("no namespace for the lease")
		}
	}
}

func TestHelp(t *testing.T) {
	for _, arg := range []string{"--help", "-h"} {
		if _, err := options.Parse([]string{arg}, environment(nil)); !errors.Is(err, pflag.ErrHelp) {
			t.Errorf("%s: got %v, want %v", arg, err, pflag.ErrHelp)
		}
	}
}

// Somebody who asks for the version need not have the other flags right.
func TestVersion(t *testing.T) {
	o, err := options.Parse([]string{"--version", "--timeout=0s"}, environment(nil))
	if err != nil || !o.Version {
		t.Errorf("got %+v and %v", o, err)
	}
}

func TestEveryFlagHasHelp(t *testing.T) {
	new(options.Options).Flags().VisitAll(func(f *pflag.Flag) {
		if f.Usage == "" {
			t.Errorf("--%s has no help", f.Name)
		}
	})
}
