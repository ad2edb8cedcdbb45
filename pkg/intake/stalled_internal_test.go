package intake

import (
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

func TestClaimsThatWaitAreCountedByReason(t *testing.T) {
	a, b := key{"shop", "a", "uid-a"}, key{"shop", "b", "uid-b"}
	for _, c := range []struct {
		name              string
		do                func(*stalled)
		missing, notBound int
	}{
		{"nobody waits", func(*stalled) {}, 0, 0},
		{"two wait", func(s *stalled) { s.note(a, verdict.CloneSourceNotFound); s.note(b, verdict.CloneSourceNotFound) }, 2, 0},
		{"the same again", func(s *stalled) { s.note(a, verdict.CloneSourceNotFound); s.note(a, verdict.CloneSourceNotFound) }, 1, 0},
		{"another reason", func(s *stalled) { s.note(a, verdict.CloneSourceNotFound); s.note(a, verdict.CloneSourceNotBound) }, 0, 1},
		{"it goes on", func(s *stalled) { s.note(a, verdict.CloneSourceNotFound); s.clear(a) }, 0, 0},
		{"it goes on, with something to be told", func(s *stalled) {
			s.note(a, verdict.CloneSourceNotFound)
			s.note(a, verdict.CloneSourceUseUnknown)
		}, 0, 0},
		{"one that never waited goes on", func(s *stalled) { s.note(a, verdict.CloneSourceNotFound); s.clear(b) }, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStalled()
			c.do(s)
			if got := s.count(verdict.CloneSourceNotFound); got != c.missing {
				t.Errorf("%d claims lack their source, want %d", got, c.missing)
			}
			if got := s.count(verdict.CloneSourceNotBound); got != c.notBound {
				t.Errorf("%d sources are not bound, want %d", got, c.notBound)
			}
		})
	}
}
