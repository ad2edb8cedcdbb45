package options_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/options"
)

// asksForHelp finds what makes the flags print two pages of help.
var asksForHelp = regexp.MustCompile(`(^|\n|\x00)-(-help|[^-\n\x00]*h)`)

// Whatever the command line is, it gives options that can work, or one line that
// says what is wrong.
func FuzzParse(f *testing.F) {
	for _, args := range []string{
		"", "--timeout=1s", "--timeout\n1s", "--worker-threads=-1", "--no-such\x00-flag", "x", "--", "-", "--=", "-v=4", "--v=x", "--version\n--timeout=0",
		"--kube-api-qps=NaN", "--kube-api-qps=Inf", "--kube-api-qps=1e999", "--volume-name-uuid-length=0x10", "--volume-name-prefix=a.-b",
		"--leader-election\n--leader-election-retry-period=9s", "--leader-election-labels=a:b,c:d", "--leader-election-labels=:", "--leader-election-labels= a : b ",
		"--feature-gates=Topology=false,VolumeAttributesClass=1", "--feature-gates=\"", "--enable-capacity=0", "--metrics-address\n:9", "--metrics-address=:9\n--http-endpoint=:9", "--retry-interval-max=-1h",
		"--leader-election\n--leader-election-lease-duration=2562047h\n--leader-election-renew-deadline=2562046h\n--leader-election-retry-period=2000000h",
		"--http-endpoint=:1\n--metrics-path=/healthz", "--leader-election-namespace=A b", "--vmodule=a=1,b", "--logging-format=json", "--csi-address=\n--kubeconfig",
	} {
		f.Add(args, "", "pods")
	}
	f.Add("--kubeconfig=a", "b", "")
	f.Fuzz(func(t *testing.T, lines, kubeconfig, namespace string) {
		if asksForHelp.MatchString(lines) {
			return
		}
		// A NUL separates what a line break cannot: neither can be in an argument
		// that the kernel hands over, but a line break can.
		args := strings.Split(lines, "\n")
		if strings.Contains(lines, "\x00") {
			args = strings.Split(lines, "\x00")
		}
		env := map[string]string{"KUBECONFIG": kubeconfig, "POD_NAMESPACE": namespace}
		o, err := options.Parse(args, environment(env))
		if err != nil {
			if text := err.Error(); text == "" || strings.ContainsAny(text, "\n\r") || errors.Is(err, pflag.ErrHelp) {
				t.Errorf("%q: the error is no line: %q", args, text)
			}
			return
		}
		if o.Version {
			return
		}
		for _, broken := range unfit(o) {
			t.Errorf("%q gives %s", args, broken)
		}
		if want := kubeconfig; want != "" && o.Kubeconfig != want {
			t.Errorf("kubeconfig %q, want that of the environment, %q", o.Kubeconfig, want)
		}
		if o2, err := options.Parse(args, environment(env)); err != nil || fmt.Sprint(o2.LeaderElection, o2.Topology, o2.Timeout) != fmt.Sprint(o.LeaderElection, o.Topology, o.Timeout) {
			t.Errorf("%q the second time: %v, %+v", args, err, o2)
		}
	})
}

// unfit says what the program could not work with.
func unfit(o *options.Options) []string {
	var broken []string
	l := o.LeaderElection
	for what, fits := range map[string]bool{
		"no socket":                   o.CSIAddress != "",
		"a name that no PV can have":  o.VolumeNamePrefix != "" && len(validation.IsDNS1123Subdomain(o.VolumeNamePrefix+"-0d6b1d2e-7c5e-4f0a-9c55-1f1c6e7a0001")) == 0,
		"a uid of odd length":         o.VolumeNameUUIDLength == -1 || o.VolumeNameUUIDLength >= 1 && o.VolumeNameUUIDLength <= 32,
		"no workers":                  o.WorkerThreads >= 1,
		"no time for a call":          o.Timeout > 0,
		"no pause after errors":       o.RetryIntervalStart > 0 && o.RetryIntervalMax >= o.RetryIntervalStart,
		"a rate that is no number":    o.KubeAPIQPS >= 0 && !math.IsInf(o.KubeAPIQPS, 0) && o.KubeAPIBurst >= 0,
		"metrics at no path":          served(o.MetricsPath),
		"no namespace":                l.Namespace != "",
		"a lease that runs out early": !l.Enabled || l.RetryPeriod > 0 && l.RenewDeadline > l.RetryPeriod && l.LeaseDuration > l.RenewDeadline,
		"no logging":                  o.Logging != nil,
	} {
		if !fits {
			broken = append(broken, what)
		}
	}
	for key, value := range l.Labels {
		if len(validation.IsQualifiedName(key))+len(validation.IsValidLabelValue(value)) > 0 {
			broken = append(broken, fmt.Sprintf("the label %q: %q, which the API server refuses", key, value))
		}
	}
	return broken
}

// served says whether the metrics can be served beside what is served anyway.
func served(path string) (ok bool) {
	defer func() { ok = recover() == nil && strings.HasPrefix(path, "/") }()
	mux := http.NewServeMux()
	for _, pattern := range []string{"/healthz", "/healthz/leader-election", "/readyz", "/debug/pprof/", "/debug/pprof/profile", path} {
		mux.Handle(pattern, http.NotFoundHandler())
	}
	return
}

// Labels are read as they are written, or refused.
func FuzzLabels(f *testing.F) {
	for _, pair := range []string{"a:b", "a:", ":b", ":", " a : b ", "a/b:c", "a:b:c", "app.kubernetes.io/name:x", "a:b\nc", "é:b", "a:" + strings.Repeat("b", 64)} {
		f.Add(pair, "app:clone")
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		o, err := options.Parse([]string{"--leader-election-labels=" + first + "," + second}, environment(nil))
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("the error is no line: %q", err)
			}
			return
		}
		want := map[string]string{}
		for pair := range strings.SplitSeq(first+","+second, ",") {
			key, value, _ := strings.Cut(pair, ":")
			want[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
		if !maps.Equal(o.LeaderElection.Labels, want) {
			t.Errorf("%q and %q become %v, want %v", first, second, o.LeaderElection.Labels, want)
		}
		for _, broken := range unfit(o) {
			t.Errorf("%q and %q give %s", first, second, broken)
		}
	})
}

// A gate is set as the last word on it says, or refused.
func FuzzFeatureGates(f *testing.F) {
	for _, gates := range []string{"Topology=false", "Topology=true,Topology=0", "CrossNamespaceVolumeDataSource=false", "ReleaseLeaderElectionOnExit=T", "=", "a=b=c", " Topology = 0 ,,", "\"Topology=false\"", "\"a\nb\"", ","} {
		f.Add(gates)
	}
	f.Fuzz(func(t *testing.T, gates string) {
		o, err := options.Parse([]string{"--feature-gates=" + gates}, environment(nil))
		switch {
		case err != nil && strings.ContainsAny(err.Error(), "\n\r"):
			t.Errorf("the error is no line: %q", err)
		case err == nil && !o.Topology && !strings.Contains(strings.Join(strings.Fields(gates), ""), "Topology="):
			t.Errorf("%q closes Topology", gates)
		}
	})
}
