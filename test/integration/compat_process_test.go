package integration

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
)

// What was never tried is not counted as failed, and each work queue has a name of its
// own.
func TestMetricsCountOnlyWhatWasTried(t *testing.T) {
	t.Parallel()
	env, p := withSource(t)
	env.Create(
		env.Claim("waiting", kit.CloneOf("nothing")),
		env.Claim("refused", kit.CloneOf("src"), kit.Size("512Mi")),
		env.Claim("others", kit.DataSourceRef(v1.TypedObjectReference{APIGroup: ptr.To("example.com"), Kind: "Recipe", Name: "soup"})),
		env.Claim("copy", kit.CloneOf("src")))
	env.WaitBound("copy")
	env.WaitEvent("waiting", "CloneSourceNotFound")
	env.WaitEvent("refused", "CloneTooSmall")
	env.WaitEvent("others", "Provisioning")
	p.WaitMetric(2, provisioned)
	if n := p.Metric("controller_persistentvolumeclaim_provision_failed_total"); n != 0 {
		t.Errorf("%v claims are counted as failed", n)
	}
	page := p.Page("/metrics")
	for _, queue := range []string{"intake", "cleaner", "cloningprotection", "snapshotprotection", "claims", "volumes"} {
		if !strings.Contains(page, fmt.Sprintf("workqueue_depth{name=%q", queue)) {
			t.Errorf("there is no work queue %q", queue)
		}
	}
	leave(env, "src")
}

// InvalidArgument is an error like the others: it keeps nobody from trying again when the
// claim changes.
func TestAnInvalidArgumentIsTriedAgainWhenTheClaimChanges(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner(noBackOff, noBackOffMax)
	env.Faults.On("CreateVolume").Next(1).Fail(codes.InvalidArgument, "not like this")
	env.Create(env.Claim("data"))
	env.WaitEvent("data", "ProvisioningFailed")
	touch(env, "data")
	env.WaitBound("data")
	if n := len(env.Faults.Calls("CreateVolume")); n != 2 {
		t.Errorf("the driver was asked %d times", n)
	}
}

// The manifests of old: --metrics-address serves what --http-endpoint does. And the log
// can be JSON.
func TestTheOldAddressOfMetrics(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	port, err := process.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	p := env.LaunchProvisioner("--http-endpoint=", "--metrics-address="+address, "--logging-format=json")
	p.URL = "http://" + address
	p.WaitReady()
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	p.WaitMetric(1, provisioned)
	if got := p.Page("/healthz/leader-election"); !strings.Contains(got, "ok") {
		t.Errorf("health is %q", got)
	}
	for line := range strings.Lines(p.Log()) {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("this line of the log is no JSON: %s", line)
		}
	}
}
