package sanity_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/driver"
)

// variant is one driver that the whole suite runs against.
type variant struct {
	name   string
	access string // what csi-sanity calls the access type
	config demodriver.Config
}

func variants() []variant {
	segments := map[string]string{"topology.demo.example/node": "node-1"}
	return []variant{
		{name: "filesystem volumes", access: "mount"},
		{name: "block volumes", access: "block"},
		{name: "filesystem volumes, linked", access: "mount", config: demodriver.Config{PublishMode: demodriver.PublishSymlink}},
		{name: "block volumes, linked", access: "block", config: demodriver.Config{PublishMode: demodriver.PublishSymlink}},
		{name: "volumes with topology", access: "mount", config: demodriver.Config{Segments: segments}},
		{name: "limited capacity", access: "mount", config: demodriver.Config{Capacity: 1 << 40}},
	}
}

// TestSanity is one test because Ginkgo runs one suite per process.
func TestSanity(t *testing.T) {
	dir, err := os.MkdirTemp("", "sanity") // short: sockets and mounts below
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for i, v := range variants() {
		server := driver.ForTest(t, v.config)
		ginkgo.Describe(v.name, func() {
			config := sanity.NewTestConfig()
			config.Address = "unix://" + server.Socket
			config.TargetPath = filepath.Join(dir, fmt.Sprintf("target-%d", i))
			config.StagingPath = filepath.Join(dir, fmt.Sprintf("staging-%d", i))
			config.TestVolumeAccessType = v.access
			config.TestVolumeSize = 1 << 30
			sc := sanity.GinkgoTest(&config)
			t.Cleanup(sc.Finalize)
		})
		t.Cleanup(func() { checkEmpty(t, v.name, server) })
	}
	ginkgo.ReportAfterSuite("count", func(report ginkgo.Report) { count(t, report) })
	gomega.RegisterFailHandler(ginkgo.Fail)
	ginkgo.RunSpecs(t, "csi-sanity")
}

// checkEmpty fails when the suite, which deletes what it makes, left something.
func checkEmpty(t *testing.T, name string, server *driver.Server) {
	if v, s := server.Driver.Volumes(), server.Driver.Snapshots(); len(v)+len(s) > 0 {
		t.Errorf("%s: %d volumes and %d snapshots are left, first of them %v %v", name, len(v), len(s), v, s)
	}
}

// count logs the result per variant and why specs were skipped.
func count(t *testing.T, report ginkgo.Report) {
	passed, skipped := map[string]int{}, map[string]int{}
	why := map[string]int{}
	for _, spec := range report.SpecReports {
		if spec.LeafNodeType != types.NodeTypeIt {
			continue
		}
		switch spec.State {
		case types.SpecStatePassed:
			passed[spec.ContainerHierarchyTexts[0]]++
		case types.SpecStateSkipped:
			skipped[spec.ContainerHierarchyTexts[0]]++
			why[spec.Failure.Message]++
		case types.SpecStatePending:
			skipped[spec.ContainerHierarchyTexts[0]]++
			why["switched off in the suite itself"]++
		}
	}
	for _, v := range variants() {
		t.Logf("%s: %d passed, %d skipped", v.name, passed[v.name], skipped[v.name])
	}
	var lines []string
	for reason, n := range why {
		lines = append(lines, fmt.Sprintf("%3d skipped: %s", n, reason))
	}
	slices.Sort(lines)
	for _, line := range lines {
		t.Log(line)
	}
}
