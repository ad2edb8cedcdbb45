package journal

import (
	"errors"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

func held(holder, version, volume string) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u", ResourceVersion: version, Annotations: map[string]string{annotationVolume: volume}},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder},
	}
}

func wanted(volume string) *coordinationv1.Lease {
	l := held("me", "", volume)
	l.UID = ""
	return l
}

func TestNextRequest(t *testing.T) {
	for _, c := range []struct {
		name string
		slot slot
		want verb
	}{
		{"nothing wanted, nothing there", slot{certain: true}, none},
		{"an entry is wanted", slot{certain: true, wanted: wanted("v")}, create},
		{"it is there", slot{certain: true, wanted: wanted("v"), seen: held("me", "1", "v")}, none},
		{"its content differs", slot{certain: true, wanted: wanted("w"), seen: held("me", "1", "v")}, update},
		{"its holder differs", slot{certain: true, wanted: wanted("v"), seen: held("other", "1", "v")}, update},
		{"it is not wanted any more", slot{certain: true, seen: held("me", "1", "v")}, remove},
		{"it is not known what is there", slot{wanted: wanted("v"), seen: held("me", "1", "v")}, get},
		{"it is not known whether it is gone", slot{seen: held("me", "1", "v")}, get},
		{"another process has it", slot{fenced: true, wanted: wanted("w"), seen: held("other", "1", "v")}, none},
	} {
		if got := c.slot.next(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestWhatAnswersMean(t *testing.T) {
	lost := errors.New("connection reset")
	notFound := apierrors.NewNotFound(coordinationv1.Resource("leases"), "n")
	conflict := apierrors.NewConflict(coordinationv1.Resource("leases"), "n", errors.New("modified"))
	exists := apierrors.NewAlreadyExists(coordinationv1.Resource("leases"), "n")
	forbidden := apierrors.NewForbidden(coordinationv1.Resource("leases"), "n", errors.New("no"))
	invalid := apierrors.NewInvalid(coordinationv1.SchemeGroupVersion.WithKind("Lease").GroupKind(), "n", field.ErrorList{})
	mine, others := held("me", "2", "v"), held("other", "2", "v")
	creating := slot{holder: "me", certain: true, wanted: wanted("v")}
	owned := slot{holder: "me", certain: true, owned: true, wanted: wanted("v"), seen: held("me", "1", "v")}
	deleting := slot{holder: "me", certain: true, owned: true, seen: held("me", "1", "v")}
	uncertain := func(s slot) slot { s.certain = false; return s }
	adopting := slot{holder: "me", certain: true, adopting: true, seen: held("other", "1", "v"), wanted: wanted("v")}
	for _, c := range []struct {
		name  string
		slot  slot
		verb  verb
		lease *coordinationv1.Lease
		err   error
		want  error // what the caller gets; nil to go on
		next  verb
	}{
		{"created", creating, create, mine, nil, nil, none},
		{"creating: no answer", creating, create, nil, lost, errUncertain, get},
		{"creating: a server error", creating, create, nil, apierrors.NewInternalError(lost), errUncertain, get},
		{"creating: a timeout", creating, create, nil, apierrors.NewServerTimeout(coordinationv1.Resource("leases"), "create", 1), errUncertain, get},
		{"creating: forbidden", creating, create, nil, forbidden, forbidden, create},
		{"creating: invalid", creating, create, nil, invalid, invalid, create},
		{"creating: too many requests", creating, create, nil, apierrors.NewTooManyRequestsError("busy"), apierrors.NewTooManyRequestsError("busy"), create},
		{"creating: the namespace is gone", creating, create, nil, notFound, notFound, create},
		{"creating: it exists", creating, create, nil, exists, nil, get},
		{"it exists: our own", uncertain(creating), get, mine, nil, nil, none},
		{"it exists: our own of other content", uncertain(creating), get, held("me", "2", "w"), nil, nil, update},
		{"it exists: another's", uncertain(creating), get, others, nil, ErrHeld, get},
		{"it does not exist after all", uncertain(creating), get, nil, notFound, nil, create},
		{"reading: no answer", uncertain(creating), get, nil, lost, errUncertain, get},
		{"updating: conflict", owned, update, nil, conflict, nil, get},
		{"updating: gone", owned, update, nil, notFound, nil, get},
		{"updating: no answer", owned, update, nil, lost, errUncertain, get},
		{"changed by an administrator", uncertain(owned), get, held("me", "2", "w"), nil, nil, update},
		{"deleted by an administrator", uncertain(owned), get, nil, notFound, ErrGivenUp, none},
		{"adopted by another process", uncertain(owned), get, others, nil, ErrFenced, none},
		{"deleted", deleting, remove, nil, nil, nil, none},
		{"deleting: gone", deleting, remove, nil, notFound, nil, none},
		{"deleting: changed", deleting, remove, nil, conflict, nil, get},
		{"deleting: no answer", deleting, remove, nil, lost, errUncertain, get},
		{"deleting: forbidden", deleting, remove, nil, forbidden, forbidden, remove},
		{"deleting: it is there still", uncertain(deleting), get, held("me", "2", "w"), nil, nil, remove},
		{"deleting: adopted by another process", uncertain(deleting), get, others, nil, ErrFenced, none},
		{"deleting: gone after all", uncertain(deleting), get, nil, notFound, nil, none},
		{"adopted", adopting, update, mine, nil, nil, none},
		{"adopting: changed", adopting, update, nil, conflict, nil, get},
		{"adopting: changed by its holder", uncertain(adopting), get, held("other", "2", "w"), nil, nil, update},
		{"adopting: settled by its holder", uncertain(adopting), get, nil, notFound, nil, none},
		{"adopting: the update had no answer", uncertain(adopting), get, mine, nil, nil, none},
	} {
		if c.err == nil && c.verb == get && c.slot.certain {
			t.Fatalf("%s: read although it is certain", c.name)
		}
		after, err := c.slot.answered(c.verb, c.lease, c.err)
		if (err == nil) != (c.want == nil) || c.want != nil && !errors.Is(err, c.want) && err.Error() != c.want.Error() {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
		if got := after.next(); got != c.next {
			t.Errorf("%s: next is %q, want %q", c.name, got, c.next)
		}
	}
}

// A deletion that had no answer is no deletion by an administrator when the claim has a new entry.
func TestEntryIsRecordedAgainAfterAnUnansweredDeletion(t *testing.T) {
	s := slot{holder: "me", certain: true, owned: true, seen: held("me", "1", "v")}
	s, err := s.answered(remove, nil, errors.New("connection reset"))
	if !errors.Is(err, errUncertain) {
		t.Fatal(err)
	}
	s.wanted = wanted("v")
	s, err = s.answered(get, nil, apierrors.NewNotFound(coordinationv1.Resource("leases"), "n"))
	if err != nil || s.next() != create {
		t.Errorf("next is %q, %v", s.next(), err)
	}
}

func TestUpdateKeepsWhatOthersWrote(t *testing.T) {
	live := held("other", "7", "v")
	live.Labels = map[string]string{"team": "a", LabelSource: "old"}
	live.Annotations["note"] = "b"
	live.Spec.LeaseTransitions = new(int32(3))
	m := merged(live, wanted("w"))
	if m.UID != "u" || m.ResourceVersion != "7" || m.Labels["team"] != "a" || m.Annotations["note"] != "b" || m.Annotations[annotationVolume] != "w" {
		t.Errorf("%+v", m)
	}
	if _, found := m.Labels[LabelSource]; found {
		t.Errorf("labels %v", m.Labels)
	}
	if *m.Spec.HolderIdentity != "me" || ptr.Deref(m.Spec.LeaseTransitions, 0) != 4 {
		t.Errorf("%+v", m.Spec)
	}
	if again := merged(m, wanted("x")); *again.Spec.LeaseTransitions != 4 {
		t.Errorf("an update by the holder counts as a transition: %+v", again.Spec)
	}
	if live.Annotations[annotationVolume] != "v" {
		t.Error("the live Lease was changed")
	}
}
