package verdict_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name  string
		v     verdict.Verdict
		want  verdict.Verdict
		kind  string
		ready bool
	}{
		{"the zero verdict is ready and says nothing", verdict.Verdict{}, verdict.Verdict{Kind: verdict.Ready}, "ready", true},
		{
			"waiting carries its words", verdict.Waiting(verdict.CloneSourceNotFound, "clone waits for %q", "db"),
			verdict.Verdict{Kind: verdict.Wait, Reason: "CloneSourceNotFound", Message: `clone waits for "db"`}, "wait", false,
		},
		{
			"refused carries its words", verdict.Refused(verdict.CloneTooSmall, "needs %d", 5),
			verdict.Verdict{Kind: verdict.Refuse, Reason: "CloneTooSmall", Message: "needs 5"}, "refuse", false,
		},
		{
			"ignored may have no reason", verdict.Ignored("", "its PV exists"),
			verdict.Verdict{Kind: verdict.Ignore, Message: "its PV exists"}, "ignore", false,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.v != c.want {
				t.Errorf("got %+v, want %+v", c.v, c.want)
			}
			if got := c.v.Kind.String(); got != c.kind {
				t.Errorf("kind is called %q, want %q", got, c.kind)
			}
			if c.v.Ready() != c.ready {
				t.Errorf("Ready() is %t", c.v.Ready())
			}
		})
	}
}

func TestTypeOf(t *testing.T) {
	for _, c := range []struct {
		name   string
		reason verdict.Reason
		want   verdict.Type
	}{
		{"a wait is normal", verdict.CloneSourceNotBound, verdict.Normal},
		{"a refusal is a warning", verdict.CloneTooSmall, verdict.Warning},
		{"what the catalogue does not know is a warning", "Novelty", verdict.Warning},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := verdict.TypeOf(c.reason); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// The catalogue becomes a page: an entry must be complete, and stand there once.
func TestCatalogue(t *testing.T) {
	camel := regexp.MustCompile(`^([A-Z][a-z0-9]*)+$`)
	seen := map[verdict.Reason]bool{}
	for _, e := range verdict.Catalogue() {
		t.Run(string(e.Reason), func(t *testing.T) {
			if seen[e.Reason] {
				t.Error("stands there twice")
			}
			seen[e.Reason] = true
			if !camel.MatchString(string(e.Reason)) {
				t.Error("is not in CamelCase")
			}
			if e.Type != verdict.Normal && e.Type != verdict.Warning {
				t.Errorf("has the type %q, which Kubernetes refuses", e.Type)
			}
			if e.Object == "" {
				t.Error("is about no object")
			}
			for _, text := range []string{e.Meaning, e.Do} {
				if !strings.HasSuffix(text, ".") {
					t.Errorf("%q is no sentence", text)
				}
			}
			if got := verdict.TypeOf(e.Reason); got != e.Type {
				t.Errorf("TypeOf says %s, the catalogue %s", got, e.Type)
			}
		})
	}
}

// Claims are counted as waiting only for what keeps them from going on.
func TestHoldsUp(t *testing.T) {
	for reason, want := range map[verdict.Reason]bool{
		verdict.CloneSourceNotFound: true, verdict.CloneTooSmall: true, verdict.CleanUpBlocked: true,
		verdict.ProvisioningDone: false, verdict.CloneSourceUseUnknown: false, // it goes on
		verdict.SourceHeld: false, verdict.VolumeFailedDelete: false, // of other objects
		"": false, "Novelty": false,
	} {
		if got := verdict.HoldsUp(reason); got != want {
			t.Errorf("HoldsUp(%q) is %t", reason, got)
		}
	}
}
