package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// expressions returns the texts under the key "expr", however deep.
func expressions(value any) []string {
	var found []string
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			if text, ok := inner.(string); ok && key == "expr" {
				found = append(found, text)
			}
			found = append(found, expressions(inner)...)
		}
	case []any:
		for _, inner := range value {
			found = append(found, expressions(inner)...)
		}
	}
	return found
}

var (
	// metricName finds the names of metrics of ours in PromQL: no function, label or
	// keyword begins like this.
	metricName = regexp.MustCompile(`\b(?:csi_sidecar|csi_clone_provisioner|controller_persistentvolume|controller_persistentvolumeclaim|workqueue|leader_election|process|go|csistoragecapacities)_[a-z_]+`)
	// servedName finds them in what is served, those of a histogram by its own name.
	servedName = regexp.MustCompile(`(?m)^# TYPE (\S+) `)
)

// metricsIn returns which metrics a file of deploy/monitoring asks for.
func metricsIn(t *testing.T, file string) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "deploy", "monitoring", file))
	if err != nil {
		t.Fatal(err)
	}
	if content, err = yaml.ToJSON(content); err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(content, &tree); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, expression := range expressions(tree) {
		found := metricName.FindAllString(expression, -1)
		if len(found) == 0 {
			t.Errorf("%s: no metric of ours is in %s", file, expression)
		}
		names = append(names, found...)
	}
	if len(names) < 10 {
		t.Fatalf("%s asks for %v only: this would prove nothing", file, names)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// TestMonitoringNamesMetricsThatAreServed: alerts and dashboard ask for what is there.
func TestMonitoringNamesMetricsThatAreServed(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	p := env.StartProvisioner()
	// A counter is served once it has counted something.
	env.Faults.On("CreateVolume").Next(1).Fail(codes.Internal, "full")
	env.Faults.On("DeleteVolume").Next(1).Fail(codes.Internal, "busy")
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	leave(env, "data")
	env.Eventually("all metrics are served", func() error {
		page := p.Page("/metrics")
		served := map[string]bool{}
		for _, match := range servedName.FindAllStringSubmatch(page, -1) {
			served[match[1]] = true
		}
		var missing []string
		for _, file := range []string{"alerts.yaml", "dashboard.json"} {
			for _, name := range metricsIn(t, file) {
				bare := name
				for _, suffix := range []string{"_bucket", "_count", "_sum"} {
					bare = strings.TrimSuffix(bare, suffix)
				}
				if !served[name] && !served[bare] {
					missing = append(missing, file+": "+name)
				}
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("these metrics are not served: %v", missing)
		}
		return nil
	})
}
