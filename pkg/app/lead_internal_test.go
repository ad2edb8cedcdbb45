package app

import (
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
)

func TestALeaseNameIsOneThatTheAPIServerAccepts(t *testing.T) {
	t.Parallel()
	for driver, want := range map[string]string{
		"hostpath.csi.k8s.io": "hostpath-csi-k8s-io",
		"Some.Driver":         "some-driver",
		"ends.in.dot.":        "ends-in-dot-x",
	} {
		got := leaseName(driver)
		if got != want {
			t.Errorf("lease of %q is %q, want %q", driver, got, want)
		}
		if problems := validation.IsDNS1123Subdomain(got); len(problems) > 0 {
			t.Errorf("lease of %q: %v", driver, problems)
		}
	}
}
