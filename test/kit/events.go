package kit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Events returns the events of a claim, oldest first, whoever sent them.
func (e *Env) Events(claim string) []v1.Event {
	e.t.Helper()
	events, err := e.events(claim)
	if err != nil {
		e.t.Fatal(err)
	}
	return events
}

func (e *Env) events(claim string) ([]v1.Event, error) {
	namespace, name := e.split(claim)
	return e.eventsOf(namespace, "PersistentVolumeClaim", name)
}

func (e *Env) eventsOf(namespace, kind, name string) ([]v1.Event, error) {
	list, err := e.Admin.CoreV1().Events(namespace).List(e.Ctx, metav1.ListOptions{
		FieldSelector: fmt.Sprintf("involvedObject.kind=%s,involvedObject.name=%s", kind, name),
	})
	if err != nil {
		return nil, fmt.Errorf("listing events of %s %s/%s: %w", kind, namespace, name, err)
	}
	slices.SortStableFunc(list.Items, func(a, b v1.Event) int { return eventTime(a).Compare(eventTime(b)) })
	return list.Items, nil
}

// eventTime returns when an event happened last, wherever its sender wrote that.
func eventTime(event v1.Event) time.Time {
	switch {
	case event.Series != nil:
		return event.Series.LastObservedTime.Time
	case !event.LastTimestamp.IsZero():
		return event.LastTimestamp.Time
	case !event.EventTime.IsZero():
		return event.EventTime.Time
	}
	return event.CreationTimestamp.Time
}

// ofPVController is true for a "ProvisioningFailed" of the PV controller. It sends one
// under the provisioner's reason when a claim reaches it before the claim's class
// does, which a test that waits for the provisioner's must not take for that.
func ofPVController(event v1.Event) bool {
	return event.Reason == "ProvisioningFailed" && event.Source.Component == "persistentvolume-controller"
}

// WaitEvent waits until a claim has an event with a reason and returns the
// newest such event. See [ofPVController] for the one that does not count.
func (e *Env) WaitEvent(claim, reason string) v1.Event {
	e.t.Helper()
	var found v1.Event
	e.Eventually(fmt.Sprintf("claim %q has an event with reason %s", claim, reason), func() error {
		events, err := e.events(claim)
		if err != nil {
			return err
		}
		for _, event := range slices.Backward(events) {
			if event.Reason == reason && !ofPVController(event) {
				found = event
				return nil
			}
		}
		return fmt.Errorf("it has these: %s", describeEvents(events))
	})
	return found
}

// CountEvents returns how often an event with a reason was sent for a claim,
// repeats included. See [ofPVController] for the one that does not count.
func (e *Env) CountEvents(claim, reason string) int {
	e.t.Helper()
	count := 0
	for _, event := range e.Events(claim) {
		if event.Reason != reason || ofPVController(event) {
			continue
		}
		switch {
		case event.Series != nil:
			count += int(event.Series.Count)
		default:
			count += int(max(event.Count, 1))
		}
	}
	return count
}

// describeEvents returns one line for each event.
func describeEvents(events []v1.Event) string {
	if len(events) == 0 {
		return "(no events)"
	}
	var text strings.Builder
	for _, event := range events {
		fmt.Fprintf(&text, "\n    %s %s (%d, %s): %s", event.Type, event.Reason,
			max(event.Count, 1), cmp.Or(event.ReportingController, event.Source.Component), event.Message)
	}
	return text.String()
}
