package app

import (
	"errors"
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

// A leader that was stopped for a while finds itself in the middle of its work, and
// somebody else at work.
func TestOnlyALeaderThatHasRenewedItsLeaseCallsTheDriver(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		leads   bool
		renewed error
		may     bool
	}{
		{"it leads", true, nil, true},
		{"it has not renewed its lease in time", true, errors.New("failed election to renew"), false},
		{"it leads no more", false, nil, false},
	} {
		if err := fresh(c.leads, c.renewed); (err == nil) != c.may || err != nil && !errors.Is(err, errLeaseStale) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
