package observe

import (
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

func TestAnEventIsComplete(t *testing.T) {
	s := startServer(t)
	r, _ := startRecorder(t, s)
	r.Say(claimOf("copy"), tooSmall())
	idle(t, r)
	events := s.kept()
	if len(events) != 1 {
		t.Fatalf("%d events, want one", len(events))
	}
	got := events[0]
	if !strings.HasPrefix(got.Name, "copy.0") {
		t.Errorf("it is called %s, want copy with a suffix", got.Name)
	}
	stamp := metav1.NewTime(start().Local())
	want := v1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: got.Name, Namespace: "shop"},
		InvolvedObject: v1.ObjectReference{
			Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: "shop", Name: "copy", UID: "uid-copy", ResourceVersion: "17",
		},
		Reason: "CloneTooSmall", Message: "it is too small", Type: "Warning",
		Source: v1.EventSource{Component: component}, ReportingController: component,
		FirstTimestamp: stamp, LastTimestamp: stamp, Count: 1,
	}
	got.TypeMeta = metav1.TypeMeta{}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestNamesOfEvents(t *testing.T) {
	long := strings.Repeat("a", 230)
	for _, c := range []struct{ name, claim, prefix string }{
		{"a short one", "copy", "copy.0"},
		{"a dot", "copy.2", "copy.2.0"},
		{"one that just fits", strings.Repeat("a", 233), strings.Repeat("a", 233) + ".0"},
		{"one that just does not", strings.Repeat("a", 233) + "b", strings.Repeat("a", 233) + ".0"},
		{"the longest", strings.Repeat("a", 253), strings.Repeat("a", 233) + ".0"},
		{"cut at a dot", long + "aa." + strings.Repeat("b", 20), long + "aa.0"},
		{"cut after dashes", long + "---" + strings.Repeat("b", 20), long + ".0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if wrong := validation.IsDNS1123Subdomain(c.claim); wrong != nil {
				t.Fatalf("the claim has no valid name: %v", wrong)
			}
			got := newEvent(component, claimOf(c.claim), tooSmall(), start()).Name
			if !strings.HasPrefix(got, c.prefix) {
				t.Errorf("got %q, want the prefix %q", got, c.prefix)
			}
			if wrong := validation.IsDNS1123Subdomain(got); wrong != nil {
				t.Errorf("%q is no valid name: %v", got, wrong)
			}
		})
	}
}

func TestTheNameTellsWhatIsSaid(t *testing.T) {
	event := func(change func(*v1.PersistentVolumeClaim, *verdict.Verdict)) string {
		claim, v := claimOf("copy"), tooSmall()
		change(claim, &v)
		return newEvent(component, claim, v, start()).Name
	}
	base := event(func(*v1.PersistentVolumeClaim, *verdict.Verdict) {})
	for name, other := range map[string]string{
		"the uid": event(func(claim *v1.PersistentVolumeClaim, _ *verdict.Verdict) { claim.UID = "uid-other" }),
		"the reason": event(func(_ *v1.PersistentVolumeClaim, v *verdict.Verdict) {
			v.Reason = verdict.CloneOfItself
		}),
		"the message":   event(func(_ *v1.PersistentVolumeClaim, v *verdict.Verdict) { v.Message = "it is too big" }),
		"the component": newEvent("another", claimOf("copy"), tooSmall(), start()).Name,
	} {
		if other == base {
			t.Errorf("%s makes no difference", name)
		}
	}
	later := newEvent(component, claimOf("copy"), tooSmall(), start().Add(time.Hour))
	if changed := event(func(claim *v1.PersistentVolumeClaim, _ *verdict.Verdict) { claim.ResourceVersion = "18" }); changed != base || later.Name != base {
		t.Errorf("the same said later is called %s and %s, want %s", changed, later.Name, base)
	}
}

// The times of events are whole seconds.
func TestEventsOfOneSecondAreShownInOrder(t *testing.T) {
	for _, c := range []struct {
		name string
		say  []verdict.Reason
	}{
		{"a source that appears", []verdict.Reason{verdict.CloneSourceNotFound, verdict.CloneSourceNotBound}},
		{"a source that is the wrong one", []verdict.Reason{verdict.CloneSourceNotBound, verdict.CloneModeMismatch}},
		{"a clean-up that fails", []verdict.Reason{verdict.CleaningUp, verdict.CleanUpBlocked}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startServer(t)
			r, _ := startRecorder(t, s)
			var want []string
			for _, reason := range c.say {
				r.Say(claimOf("copy"), verdict.Waiting(reason, "%s", reason))
				want = append(want, string(reason))
			}
			idle(t, r)
			if got := s.reasons(); got != strings.Join(want, " ") {
				t.Errorf("shown as %s, want %s", got, want)
			}
			engines := "copy.18a5b0c3d4e5f607" // as client-go names events since 2026
			if events := s.kept(); events[len(events)-1].Name > engines {
				t.Errorf("%s comes after what the engine says later", events[len(events)-1].Name)
			}
		})
	}
}

func TestMessagesAreCut(t *testing.T) {
	for _, c := range []struct{ name, message, want string }{
		{"a short one", "it is too small", "it is too small"},
		{"one that just fits", strings.Repeat("a", 1024), strings.Repeat("a", 1024)},
		{"one that just does not", strings.Repeat("a", 1025), strings.Repeat("a", 1021) + "..."},
		{"cut within a character", "a" + strings.Repeat("ä", 600), "a" + strings.Repeat("ä", 510) + "..."},
		{"cut before a character", strings.Repeat("€", 400), strings.Repeat("€", 340) + "..."},
		{"no text at all", "driver says \xff\xfe", "driver says \uFFFD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := newEvent(component, claimOf("copy"), verdict.Refused(verdict.InvalidSize, "%s", c.message), start()).Message
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if len(got) > 1024 || !utf8.ValidString(got) {
				t.Errorf("%d bytes, valid text: %t", len(got), utf8.ValidString(got))
			}
		})
	}
}
