package intake

import (
	"sync"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

// stalled knows of each claim that cannot go on why it cannot, for the metrics. It is
// beside the waitlist, which holds claims on record, too, and loses one while it is
// judged again.
type stalled struct {
	mu     sync.Mutex
	why    map[key]verdict.Reason
	claims map[verdict.Reason]int
}

func newStalled() *stalled {
	return &stalled{why: map[key]verdict.Reason{}, claims: map[verdict.Reason]int{}}
}

// note remembers the reason; with one that holds no claim up, the claim goes on.
func (s *stalled) note(k key, reason verdict.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, found := s.why[k]; found {
		s.claims[before]--
		delete(s.why, k)
	}
	if verdict.HoldsUp(reason) {
		s.why[k] = reason
		s.claims[reason]++
	}
}

// judged is note with the reason of a verdict, if that holds the claim up.
func (s *stalled) judged(k key, v verdict.Verdict) {
	if v.Ready() {
		v.Reason = ""
	}
	s.note(k, v.Reason)
}

// clear: the claim goes on, or is gone.
func (s *stalled) clear(k key) { s.note(k, "") }

func (s *stalled) count(reason verdict.Reason) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.claims[reason]
}

// Waiting returns how many claims wait, or are refused, for the reason.
func (i *Intake) Waiting(reason verdict.Reason) int { return i.stalled.count(reason) }
