package options_test

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/options"
)

// incumbentDefaults are all flags of csi-provisioner 6.3.0 but those of its library for
// logging, which is ours, too.
func incumbentDefaults() map[string]string {
	return map[string]string{
		"master": "", "kubeconfig": "", "csi-address": "/run/csi/socket", "version": "false", "feature-gates": "",
		"volume-name-prefix": "pvc", "volume-name-uuid-length": "-1", "default-fstype": "",
		"retry-interval-start": "1s", "retry-interval-max": "5m0s", "worker-threads": "100", "timeout": "10s",
		"cloning-protection-threads": "1", "snapshot-orphan-sweep-interval": "5m0s", "prevent-volume-mode-conversion": "true",
		"strict-topology": "false", "immediate-topology": "true",
		"extra-create-metadata": "false", "controller-publish-readonly": "false",
		"enable-capacity": "false", "capacity-for-immediate-binding": "false", "capacity-poll-interval": "1m0s",
		"capacity-ownerref-level": "1", "capacity-threads": "1", "kube-api-capacity-qps": "1", "kube-api-capacity-burst": "5",
		"node-deployment": "false", "node-deployment-immediate-binding": "true",
		"node-deployment-base-delay": "20s", "node-deployment-max-delay": "1m0s",
		"leader-election": "false", "leader-election-namespace": "", "leader-election-lease-duration": "15s",
		"leader-election-renew-deadline": "10s", "leader-election-retry-period": "5s", "leader-election-labels": "",
		"kube-api-qps": "5", "kube-api-burst": "10", "automaxprocs": "false",
		"http-endpoint": "", "metrics-address": "", "metrics-path": "/metrics", "enable-pprof": "false",
	}
}

// spelt are defaults that are written in another way here.
func spelt(value string) string {
	switch value {
	case "[]": // pflag's empty list
		return ""
	case "1m": // of flags that are read by nobody
		return "1m0s"
	}
	return value
}

// A manifest of the incumbent's names no flag that is not there; and who reads the help
// learns where leaving a flag out means something else.
func TestDefaultsBesideTheIncumbents(t *testing.T) {
	flags := new(options.Options).Flags()
	for name, def := range incumbentDefaults() {
		flag := flags.Lookup(name)
		if flag == nil {
			t.Errorf("there is no flag --%s", name)
			continue
		}
		if spelt(flag.DefValue) != def && !strings.Contains(flag.Usage, "the incumbent's default is "+def) {
			t.Errorf("--%s is %q by default, the incumbent's is %q: its help does not say so: %s", name, flag.DefValue, def, flag.Usage)
		}
	}
}

// Flags of ours that the incumbent does not have say what they do beside it.
func TestFlagsThatTheIncumbentDoesNotHave(t *testing.T) {
	logging := []string{"v", "vmodule", "logging-format", "log-"}
	added := map[string]bool{"clone-policy": true, "provisioning-record": true, "enable-otel-tracing": true, "source-protection-removal-delay": true}
	known := incumbentDefaults()
	new(options.Options).Flags().VisitAll(func(flag *pflag.Flag) {
		if _, found := known[flag.Name]; found || added[flag.Name] {
			return
		}
		for _, prefix := range logging {
			if flag.Name == prefix || strings.HasSuffix(prefix, "-") && strings.HasPrefix(flag.Name, prefix) {
				return
			}
		}
		t.Errorf("--%s is none of the incumbent's: enter it here and in docs/compatibility.md", flag.Name)
	})
	for _, word := range []string{"as the incumbent does", "strict"} {
		if help := new(options.Options).Flags().Lookup("clone-policy").Usage; !strings.Contains(help, word) {
			t.Errorf("the help of --clone-policy does not say %q", word)
		}
	}
}

// What a manifest of the incumbent's may ask of features that are not there does not
// keep the program from starting, as long as the feature itself is not asked for.
func TestFlagsOfFeaturesThatAreNotThere(t *testing.T) {
	for _, arg := range []string{
		"--automaxprocs", "--cloning-protection-threads=0", "--immediate-topology=false",
		"--capacity-threads=0", "--capacity-poll-interval=0", "--capacity-ownerref-level=-5", "--capacity-poll-interval=5m", "--capacity-ownerref-level=2", "--capacity-for-immediate-binding",
		"--kube-api-capacity-qps=2.5", "--kube-api-capacity-burst=20",
		"--node-deployment-immediate-binding=false", "--node-deployment-base-delay=5s", "--node-deployment-max-delay=5m",
	} {
		if _, err := options.Parse([]string{arg}, environment(map[string]string{"POD_NAMESPACE": "pods"})); err != nil {
			t.Errorf("%s: %v", arg, err)
		}
	}
	// Variables that belong to them are not looked at.
	if _, err := options.Parse(nil, func(key string) (string, bool) {
		switch key {
		case "KUBECONFIG", "POD_NAMESPACE", "GOGC":
			return "", false
		}
		t.Errorf("the environment is asked for %s", key)
		return "", false
	}); err != nil {
		t.Error(err)
	}
}

// Lists of gates are read as the incumbent reads them, blanks and all.
func TestGatesWithBlanks(t *testing.T) {
	o, err := options.Parse([]string{"--feature-gates= Topology = false , CrossNamespaceVolumeDataSource=true"}, environment(map[string]string{"POD_NAMESPACE": "pods"}))
	if err != nil {
		t.Fatal(err)
	}
	if o.Topology || !o.CrossNamespace {
		t.Errorf("Topology is %t, CrossNamespaceVolumeDataSource %t", o.Topology, o.CrossNamespace)
	}
}
