package observe

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

// maxMessage is what an event's message may have in bytes.
const maxMessage = 1024

// newEvent returns the event that tells the verdict about the claim.
func newEvent(component string, claim *v1.PersistentVolumeClaim, v verdict.Verdict, now time.Time) *v1.Event {
	return eventOf(component, v1.ObjectReference{
		Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: claim.Namespace, Name: claim.Name,
		UID: claim.UID, ResourceVersion: claim.ResourceVersion,
	}, v, now)
}

// eventOf is newEvent for an object of any kind. What is in no namespace has its events
// where Kubernetes looks for them: in "default".
func eventOf(component string, object v1.ObjectReference, v verdict.Verdict, now time.Time) *v1.Event {
	stamp := metav1.NewTime(now)
	event := &v1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: cmp.Or(object.Namespace, metav1.NamespaceDefault)},
		InvolvedObject: object,
		Type:           string(verdict.TypeOf(v.Reason)), Reason: string(v.Reason), Message: cut(v.Message),
		Source: v1.EventSource{Component: component}, ReportingController: component,
		FirstTimestamp: stamp, LastTimestamp: stamp, Count: 1,
	}
	event.Name = nameOf(event)
	return event
}

// nameOf returns a name that is the same whenever the same is said of the same
// claim, by whichever process.
//
// The times of an event have no fractions of a second, and what happened in the
// same second is shown in the order of the names. The reason's place in the
// catalogue, which follows the life of a claim, makes that the likely order of
// events; with a 0 before it what a claim waited for comes before the engine's
// events, whose suffix is the time.
func nameOf(event *v1.Event) string {
	said := strings.Join([]string{
		string(event.InvolvedObject.UID), event.Source.Component, event.Type, event.Reason, event.Message,
	}, "\x00")
	sum := sha256.Sum256([]byte(said))
	rank := slices.IndexFunc(verdict.Catalogue(), func(e verdict.Entry) bool { return string(e.Reason) == event.Reason })
	suffix := fmt.Sprintf(".0%02x%s", max(rank, 0), hex.EncodeToString(sum[:8]))
	name := event.InvolvedObject.Name
	if room := validation.DNS1123SubdomainMaxLength - len(suffix); len(name) > room {
		name = strings.TrimRight(name[:room], "-.")
	}
	return name + suffix
}

// cut shortens a message to what the API takes, between two characters.
func cut(message string) string {
	const more = "..."
	message = strings.ToValidUTF8(message, string(utf8.RuneError)) // a driver's error may hold anything
	if len(message) <= maxMessage {
		return message
	}
	end := maxMessage - len(more)
	for !utf8.RuneStart(message[end]) {
		end--
	}
	return message[:end] + more
}

// deliver brings one event to the API server and returns the count that it has
// there. A count from the caller is that of the same event, sent before: then
// this is a repeat of it.
func (r *Recorder) deliver(event *v1.Event, count int32) (int32, error) {
	ctx, cancel := context.WithTimeout(r.ctx, sendPatience)
	defer cancel()
	if event.Count > 1 {
		count = event.Count - 1
	}
	if count > 0 {
		after, err := r.repeat(ctx, event, count+1)
		if !apierrors.IsNotFound(err) {
			return after, err
		}
	}
	err := r.create(ctx, event)
	if !apierrors.IsAlreadyExists(err) {
		return 1, err
	}
	// An earlier process has said it, or this one, and the answer got lost; how
	// often is not known.
	after, err := r.repeat(ctx, event, 0)
	if apierrors.IsNotFound(err) { // it was an hour old
		return 1, r.create(ctx, event)
	}
	return after, err
}

func (r *Recorder) create(ctx context.Context, event *v1.Event) error {
	if _, err := r.client.CoreV1().Events(event.Namespace).Create(ctx, event, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating event %s/%s: %w", event.Namespace, event.Name, err)
	}
	return nil
}

// repeat says of an event that is there that it happened now, and how often by
// now if that is known.
func (r *Recorder) repeat(ctx context.Context, event *v1.Event, count int32) (int32, error) {
	change := map[string]any{"lastTimestamp": event.LastTimestamp}
	if event.Count > 1 {
		change["message"] = event.Message // of several that are alike
	}
	if count > 0 {
		change["count"] = count
	}
	patch, err := json.Marshal(change)
	if err != nil {
		return 0, err
	}
	after, err := r.client.CoreV1().Events(event.Namespace).Patch(ctx, event.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return 0, fmt.Errorf("repeating event %s/%s: %w", event.Namespace, event.Name, err)
	}
	return after.Count, nil
}

// transient says whether the same request may succeed later: nobody answered,
// or the answer is about the API server or the moment, not about the event.
func transient(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true
	}
	switch code := status.Status().Code; code {
	case http.StatusTooManyRequests, http.StatusRequestTimeout, http.StatusConflict, http.StatusUnauthorized: // a token may be late
		return true
	default:
		return code >= http.StatusInternalServerError
	}
}
