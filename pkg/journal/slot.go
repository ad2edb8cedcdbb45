package journal

import (
	"errors"
	"fmt"
	"maps"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
)

var (
	// ErrHeld is returned when another process holds the claim's entry.
	ErrHeld = errors.New("another provisioner holds the journal entry")
	// ErrFenced is returned when another process has adopted an entry of this process, which
	// must not call the driver any more.
	ErrFenced = errors.New("another provisioner has adopted a journal entry of this process")
	// ErrGivenUp is returned when an entry was deleted, but not by this process: an
	// administrator gave up the volume.
	ErrGivenUp = errors.New("the journal entry was deleted by an administrator")
	// errUncertain: the request may or may not have had an effect.
	errUncertain = errors.New("it is not known whether the API server has carried out the request")
)

// verb is a request about one Lease.
type verb string

const (
	none   verb = ""
	get    verb = "get"
	create verb = "create"
	update verb = "update"
	remove verb = "delete"
)

// slot is what this process knows about one Lease, and what it wants of it. It is a value: its
// methods return the slot as it is afterwards.
type slot struct {
	// name of the Lease.
	name string
	// holder is the identity of this process.
	holder string
	// wanted Lease, without uid and resourceVersion; nil if none is wanted.
	wanted *coordinationv1.Lease
	// seen is the Lease as last read or written; nil if there was none.
	seen *coordinationv1.Lease
	// certain: seen is what the API server had when it last answered. It is false after a
	// conflict and after a request without an answer.
	certain bool
	// owned: this process has written the Lease.
	owned bool
	// removing: a deletion was sent whose outcome is not known.
	removing bool
	// adopting: this process takes the Lease over from its holder, with its content.
	adopting bool
	// fenced: another process has taken the Lease over.
	fenced bool
}

// next returns the request that brings the API server closer to what is wanted.
func (s slot) next() verb {
	switch {
	case s.fenced:
		return none
	case !s.certain:
		return get
	case s.wanted == nil && s.seen == nil:
		return none
	case s.wanted == nil:
		return remove
	case s.seen == nil:
		return create
	case !equality.Semantic.DeepEqual(s.seen, merged(s.seen, s.wanted)):
		return update
	}
	return none
}

// body returns the Lease to create or update.
func (s slot) body() *coordinationv1.Lease {
	if s.seen == nil {
		return s.wanted
	}
	return merged(s.seen, s.wanted)
}

// merged returns the live Lease with the content of the wanted one. Labels and annotations that
// others have added stay. The live one's uid and resourceVersion make the API server refuse the
// update of another Lease of that name, and of another version.
func merged(live, wanted *coordinationv1.Lease) *coordinationv1.Lease {
	m := live.DeepCopy()
	for _, key := range []string{LabelDriver, LabelClaim, LabelSource, LabelNode} {
		delete(m.Labels, key)
	}
	for _, key := range []string{
		annotationFormat, annotationClaim, annotationClass, annotationVolume, annotationPolicy,
		annotationSince, annotationLastAnswer, annotationDoubt, annotationRequest,
	} {
		delete(m.Annotations, key)
	}
	m.Labels = union(m.Labels, wanted.Labels)
	m.Annotations = union(m.Annotations, wanted.Annotations)
	transitions := m.Spec.LeaseTransitions
	m.Spec = wanted.Spec
	if ptr.Deref(live.Spec.HolderIdentity, "") != ptr.Deref(wanted.Spec.HolderIdentity, "") {
		m.Spec.LeaseTransitions = new(ptr.Deref(transitions, 0) + 1)
	} else {
		m.Spec.LeaseTransitions, m.Spec.AcquireTime = transitions, live.Spec.AcquireTime
	}
	return m
}

func union(a, b map[string]string) map[string]string {
	u := map[string]string{}
	maps.Copy(u, a)
	maps.Copy(u, b)
	return u
}

// answered returns the slot after the answer to a request. The error is nil if next returns the
// request to send; errUncertain if the Lease must be read; ErrHeld, ErrFenced or ErrGivenUp; or
// the API server's refusal, which has changed nothing.
func (s slot) answered(v verb, lease *coordinationv1.Lease, err error) (slot, error) {
	switch {
	case err == nil && v == get:
		return s.read(lease)
	case err == nil && v == remove, v == remove && apierrors.IsNotFound(err):
		s.seen, s.owned, s.removing = nil, false, false
		return s, nil
	case err == nil:
		s.seen, s.owned, s.adopting = lease, true, false
		return s, nil
	case v == get && apierrors.IsNotFound(err):
		return s.missing()
	case apierrors.IsAlreadyExists(err), apierrors.IsConflict(err), v == update && apierrors.IsNotFound(err):
		s.certain, s.removing = false, v == remove
		return s, nil
	case refused(err):
		return s, err
	}
	s.certain, s.removing = false, s.removing || v == remove
	return s, fmt.Errorf("%w: %w", errUncertain, err)
}

// read returns the slot after the Lease was read.
func (s slot) read(lease *coordinationv1.Lease) (slot, error) {
	s.seen, s.certain, s.removing = lease, true, false
	switch holder := ptr.Deref(lease.Spec.HolderIdentity, ""); {
	case holder == s.holder:
		s.owned, s.adopting = true, false // a write whose answer was lost, or an administrator's edit
		return s, nil
	case s.adopting:
		// The earlier holder may have changed the content meanwhile.
		s.wanted = takenOver(lease, s.wanted)
		return s, nil
	case s.owned:
		s.fenced = true
		return s, fmt.Errorf("%w: its holder is %q", ErrFenced, holder)
	default:
		s.certain = false // it is read again before anything is written
		return s, fmt.Errorf("%w: its holder is %q", ErrHeld, holder)
	}
}

// missing returns the slot after the Lease was not found.
func (s slot) missing() (slot, error) {
	givenUp := s.owned && s.wanted != nil && !s.removing
	if givenUp || s.adopting {
		s.wanted = nil
	}
	s.seen, s.certain, s.owned, s.adopting, s.removing = nil, true, false, false, false
	if givenUp {
		return s, ErrGivenUp
	}
	return s, nil
}

// takenOver returns the live Lease's content with the holder and times of the wanted one.
func takenOver(live, wanted *coordinationv1.Lease) *coordinationv1.Lease {
	l := live.DeepCopy()
	l.Spec = *wanted.Spec.DeepCopy()
	if doubt := wanted.Annotations[annotationDoubt]; doubt != "" {
		l.Annotations = union(l.Annotations, map[string]string{annotationDoubt: doubt})
	}
	return l
}

// refused reports whether the API server has certainly not carried out a request.
func refused(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsInvalid(err) ||
		apierrors.IsBadRequest(err) || apierrors.IsNotFound(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsRequestEntityTooLargeError(err) || apierrors.IsMethodNotSupported(err) ||
		apierrors.IsNotAcceptable(err) || apierrors.IsUnsupportedMediaType(err)
}
