package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// told is a report as ginkgo writes it, of one test of each fate.
const told = `[{"SpecReports": [
 {"ContainerHierarchyTexts": ["External Storage [Driver: d]", "[Testpattern: Dynamic PV (default fs)] provisioning"],
  "LeafNodeType": "It", "LeafNodeText": "should clone", "State": "passed"},
 {"ContainerHierarchyTexts": ["External Storage [Driver: d]", "[Testpattern: Dynamic PV (default fs)] volumes"],
  "LeafNodeType": "It", "LeafNodeText": "should store data", "State": "failed", "Failure": {"Message": "no data\nat all"}},
 {"ContainerHierarchyTexts": ["External Storage [Driver: d]", "[Testpattern: Dynamic PV (default fs)] volumes"],
  "LeafNodeType": "It", "LeafNodeText": "should do the impossible", "State": "skipped", "Failure": {"Message": "the driver cannot"}},
 {"ContainerHierarchyTexts": ["External Storage [Driver: d]", "[Testpattern: Dynamic PV (default fs)] volume-expand"],
  "LeafNodeType": "It", "LeafNodeText": "should resize a volume", "State": "skipped"},
 {"ContainerHierarchyTexts": ["External Storage [Driver: d]", "[Testpattern: Dynamic PV (default fs)] multiVolume"],
  "LeafNodeType": "It", "LeafNodeText": "should concurrently access the volume and its clone", "State": "skipped"},
 {"ContainerHierarchyTexts": ["[sig-node] Pods"], "LeafNodeType": "It", "LeafNodeText": "should run", "State": "skipped"},
 {"LeafNodeType": "SynchronizedBeforeSuite", "State": "passed"}
]}]`

func read(t *testing.T, content string) *results {
	t.Helper()
	path := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := readReport(path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAReportIsSortedByWhatCameOfEachTest(t *testing.T) {
	r := read(t, told)
	if len(r.passed) != 1 || len(r.failed) != 1 || count(r.skipped) != 1 || count(r.leftOut) != 1 {
		t.Errorf("%d passed, %d failed, %d skipped, %d left out; want one of each", len(r.passed), len(r.failed), count(r.skipped), count(r.leftOut))
	}
	if r.well() {
		t.Error("all is well although a test failed")
	}
	var out bytes.Buffer
	r.print(&out, 90*time.Second)
	for _, want := range []string{
		"volumes grow by csi-resizer", "the driver cannot", "FAILED: External Storage",
		"1 passed, 1 failed, 1 skipped themselves, 1 left out by us, in 1m30s",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("what is printed lacks %q:\n%s", want, out.String())
		}
	}
}

func TestTestsThatCloneAVolumeInUseAreFound(t *testing.T) {
	r := read(t, told)
	names := r.matching((&suite{}).pattern(), clonesInUse)
	if len(names) != 1 || !strings.HasSuffix(names[0], "its clone") {
		t.Errorf("found %q, want the one of multiVolume", names)
	}
	if names := r.matching((&suite{focus: "volumeMode"}).pattern(), clonesInUse); len(names) != 0 {
		t.Errorf("found %q although others were asked for", names)
	}
}

func TestAFailureWhileSettingUpCounts(t *testing.T) {
	r := read(t, `[{"SpecReports": [{"LeafNodeType": "SynchronizedBeforeSuite", "State": "failed", "Failure": {"Message": "no node"}}]}]`)
	if len(r.failed) != 1 || r.well() {
		t.Errorf("failed: %d, want 1", len(r.failed))
	}
}
