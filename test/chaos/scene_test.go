package chaos

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
)

// protection is the finalizer on sources, written out: its name is a promise.
const protection = "provisioner.storage.kubernetes.io/cloning-protection"

// scene is what is to be judged when everything should be well.
type scene struct {
	driver  string
	claims  []v1.PersistentVolumeClaim
	pvs     map[string]*v1.PersistentVolume
	volumes []demodriver.Volume
	// events are messages by claim and reason.
	events map[types.UID]map[string][]string
	// promises are what must become of the volumes that the driver ever had, by handle.
	promises map[string]promise
	// pretended are claims on which a user has put the record by hand, forged those on
	// which one has written annotations of the record.
	pretended, forged map[types.UID]bool
}

// findings says what is wrong.
func (s scene) findings() findings {
	var f findings
	f.leaked, f.retained = s.leaks(), s.notRetained()
	f.stranded = s.strandedPVs()
	able := s.able()
	for i := range s.claims {
		claim := &s.claims[i]
		f.stuck = append(f.stuck, s.stuck(claim, able)...)
		f.stranded = append(f.stranded, s.stranded(claim)...)
	}
	return f
}

// able returns the names of the claims that are bound or can be: the blank ones, and
// the clones of such.
func (s scene) able() map[string]bool {
	able := map[string]bool{}
	for more := true; more; {
		more = false
		for i := range s.claims {
			claim := &s.claims[i]
			source := sourceOf(claim)
			if !able[claim.Name] && claim.DeletionTimestamp == nil &&
				(claim.Status.Phase == v1.ClaimBound || source == "" || able[source]) {
				able[claim.Name], more = true, true
			}
		}
	}
	return able
}

// stuck says whether the claim is not where it should be: gone, bound, or waiting
// with an event that says for what.
func (s scene) stuck(claim *v1.PersistentVolumeClaim, able map[string]bool) []string {
	who := fmt.Sprintf("claim %s (%s, %s)", claim.Name, claim.UID, phase(claim))
	source := sourceOf(claim)
	switch {
	case claim.DeletionTimestamp != nil:
		return []string{fmt.Sprintf("%s is not gone: finalizers %v; %s", who, claim.Finalizers, s.said(claim))}
	case claim.Status.Phase == v1.ClaimBound:
		return nil
	case able[claim.Name]:
		return []string{fmt.Sprintf("%s is not bound: source %q, finalizers %v; %s", who, source, claim.Finalizers, s.said(claim))}
	}
	reason := "CloneSourceNotFound"
	if slices.ContainsFunc(s.claims, func(other v1.PersistentVolumeClaim) bool { return other.Name == source }) {
		reason = "CloneSourceNotBound"
	}
	told := s.events[claim.UID][reason]
	names := func(message string) bool { return strings.Contains(message, fmt.Sprintf("%q", source)) }
	if !slices.ContainsFunc(told, names) {
		return []string{fmt.Sprintf("%s waits for %q without an event %s that says so; %s",
			who, source, reason, s.said(claim))}
	}
	return nil
}

// said lists the claim's events.
func (s scene) said(claim *v1.PersistentVolumeClaim) string {
	if len(s.events[claim.UID]) == 0 {
		return "no events"
	}
	return fmt.Sprintf("events %q", s.events[claim.UID])
}

// stranded returns what is left of ours on the claim although nothing is done for it.
func (s scene) stranded(claim *v1.PersistentVolumeClaim) []string {
	who := fmt.Sprintf("claim %s (%s, %s)", claim.Name, claim.UID, phase(claim))
	var left []string
	recorded := s.recorded(claim)
	// What waits has nothing on record, unless its user says so.
	if recorded && !s.pretended[claim.UID] || recorded && (claim.Status.Phase == v1.ClaimBound || claim.DeletionTimestamp != nil) {
		left = append(left, who+" still carries the record")
	}
	// No clone is being made any more, whatever its user put on record.
	if slices.Contains(claim.Finalizers, protection) {
		left = append(left, who+" is still protected as a source")
	}
	for key := range claim.Annotations {
		if strings.HasPrefix(key, s.driver+"/") && !recorded && !s.forged[claim.UID] {
			left = append(left, fmt.Sprintf("%s still carries annotation %s", who, key))
		}
	}
	return left
}

func (s scene) recorded(claim *v1.PersistentVolumeClaim) bool {
	return slices.Contains(claim.Finalizers, s.driver+"/provisioning")
}

// waiting returns how many claims wait, as they should.
func (s scene) waiting() int {
	able, count := s.able(), 0
	for i := range s.claims {
		if s.claims[i].DeletionTimestamp == nil && !able[s.claims[i].Name] {
			count++
		}
	}
	return count
}

func sourceOf(claim *v1.PersistentVolumeClaim) string {
	if claim.Spec.DataSource == nil {
		return ""
	}
	return claim.Spec.DataSource.Name
}
