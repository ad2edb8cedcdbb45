package integration

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
)

var (
	// servedType is how a page of metrics tells the name and the type of one.
	servedType = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)
	// listedRow is a row of the table in docs/metrics.md: names, type, labels, meaning.
	listedRow  = regexp.MustCompile("(?m)^\\| (`[^|\n]*`) \\|([^|\n]*)\\|([^|\n]*)\\|(.*)\\|$")
	listedName = regexp.MustCompile("`([^`]+)`")
)

// listedMetric is what docs/metrics.md says of a metric.
type listedMetric struct {
	kind string
	// optional: it is only there with a flag, or a driver, that is not tested here.
	optional bool
}

// listed returns the metrics of docs/metrics.md. A name that ends in * stands for all
// that begin so.
func listed(t *testing.T) map[string]listedMetric {
	t.Helper()
	root, err := repo.Root()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	metrics := map[string]listedMetric{}
	for _, row := range listedRow.FindAllStringSubmatch(string(page), -1) {
		for _, name := range listedName.FindAllStringSubmatch(row[1], -1) {
			if !strings.HasPrefix(name[1], "/") { // those are paths
				metrics[name[1]] = listedMetric{strings.TrimSpace(row[2]), strings.Contains(row[4], "only with")}
			}
		}
	}
	return metrics
}

// match returns the entry of the list that a name belongs to.
func match(list map[string]listedMetric, name string) (string, bool) {
	if _, found := list[name]; found {
		return name, true
	}
	for entry := range list {
		if beginning, all := strings.CutSuffix(entry, "*"); all && strings.HasPrefix(name, beginning) {
			return entry, true
		}
	}
	return "", false
}

// The page lists what the program serves after it has done a bit of everything: all of
// it, with its type, and nothing else.
func TestThePageOfMetricsIsComplete(t *testing.T) {
	t.Parallel()
	env, p := withSource(t)
	env.Faults.On("CreateVolume").Next(1).Fail(codes.Internal, "not now")
	env.Faults.On("DeleteVolume").Next(1).Fail(codes.Internal, "not now")
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitBound("copy")
	env.Delete("copy")
	env.WaitGone("copy")
	env.Eventually("the volume is deleted", func() error { return volumes(env, 1) })
	env.Eventually("deletion and failures are counted", func() error {
		for _, name := range []string{
			"controller_persistentvolume_delete_total", "controller_persistentvolume_delete_failed_total",
			"controller_persistentvolumeclaim_provision_failed_total", "controller_persistentvolumeclaim_provision_total",
		} {
			if p.Metric(name) == 0 {
				return fmt.Errorf("nothing is counted under %s", name)
			}
		}
		return nil
	})
	page := p.Page("/metrics")
	list, missing := listed(t), listed(t)
	for _, served := range servedType.FindAllStringSubmatch(page, -1) {
		entry, found := match(list, served[1])
		switch {
		case !found:
			t.Errorf("docs/metrics.md does not list %s (%s)", served[1], served[2])
		case !strings.HasSuffix(entry, "*") && list[entry].kind != served[2]:
			t.Errorf("%s is a %s, docs/metrics.md says %s", served[1], served[2], list[entry].kind)
		}
		delete(missing, entry)
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		if !missing[name].optional {
			t.Errorf("docs/metrics.md lists %s, which is not served", name)
		}
	}
	leave(env, "src")
}

// What dashboards show of clones: who waits and why, which sources are protected, how
// long it took.
func TestMetricsTellOfClones(t *testing.T) {
	t.Parallel()
	env, p := withSource(t, "--timeout=2m") // the call at the gate is not to fail
	waiting := func(reason string, want float64) {
		t.Helper()
		p.WaitMetric(want, "csi_clone_provisioner_claims_waiting", "reason", reason)
	}
	protected := func(want float64) {
		t.Helper()
		p.WaitMetric(want, "csi_clone_provisioner_sources_protected", "kind", "PersistentVolumeClaim")
	}
	gate := gateClones(env)
	env.Create(
		env.Claim("copy", kit.CloneOf("src")),
		env.Claim("early", kit.CloneOf("later")), env.Claim("earlier", kit.CloneOf("later")),
		env.Claim("small", kit.CloneOf("src"), kit.Size("512Mi")))
	await(t, gate.Entered(), "the driver is called")
	waiting("CloneSourceNotFound", 2)
	waiting("CloneTooSmall", 1)
	compare(t, []field{
		{"all that wait", p.Metric("csi_clone_provisioner_claims_waiting"), 3.0},
		{"claims on record", p.Metric("csi_clone_provisioner_claims_recorded"), 1.0},
		{"clones made", p.Metric("csi_clone_provisioner_clone_duration_seconds_count"), 0.0},
	})
	protected(1)
	gate.Release()
	env.WaitBound("copy")
	env.Delete("early", "small")
	env.WaitGone("early", "small")
	waiting("CloneSourceNotFound", 1)
	waiting("CloneTooSmall", 0)
	env.Create(env.Claim("later"))
	env.WaitBound("later", "earlier")
	waiting("CloneSourceNotFound", 0)
	p.WaitMetric(2, "csi_clone_provisioner_clone_duration_seconds_count", "class", env.Class)
	compare(t, []field{
		{"all that wait", p.Metric("csi_clone_provisioner_claims_waiting"), 0.0},
		{"clones made in any class", p.Metric("csi_clone_provisioner_clone_duration_seconds_count"), 2.0},
		{"cleaned up", p.Metric("csi_clone_provisioner_volumes_cleaned_up_total"), 0.0},
	})
	leave(env, "src", "later")
	protected(0)
}

// The volume of a claim that was deleted while nobody knew of it is counted when it is
// gone, and the claim while that cannot be.
func TestMetricsTellOfVolumesThatWereCleanedUp(t *testing.T) {
	t.Parallel()
	env, p := withSource(t)
	lost := env.Faults.On("CreateVolume").When(ofClones).LoseReply()
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitEvent("copy", "ProvisioningFailed")
	env.Delete("copy")
	env.WaitEvent("copy", "CleanUpBlocked")
	p.WaitMetric(1, "csi_clone_provisioner_claims_waiting", "reason", "CleanUpBlocked")
	lost.Remove()
	env.WaitGone("copy")
	p.WaitMetric(1, "csi_clone_provisioner_volumes_cleaned_up_total")
	p.WaitMetric(0, "csi_clone_provisioner_claims_waiting")
	if n := p.Metric("csi_clone_provisioner_clone_duration_seconds_count"); n != 0 {
		t.Errorf("%v clones are counted", n)
	}
	leave(env, "src")
}
