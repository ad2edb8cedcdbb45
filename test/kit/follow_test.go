package kit_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// endingWatches is a client whose watches end after one event each.
type endingWatches struct {
	mu     sync.Mutex
	events []watch.Event
	from   []string
}

func configMap(name, version string) *v1.ConfigMap {
	return &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: version}}
}

func (*endingWatches) List(context.Context, metav1.ListOptions) (*v1.ConfigMapList, error) {
	return &v1.ConfigMapList{ListMeta: metav1.ListMeta{ResourceVersion: "5"}, Items: []v1.ConfigMap{*configMap("old", "3")}}, nil
}

func (w *endingWatches) Watch(_ context.Context, options metav1.ListOptions) (watch.Interface, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.from = append(w.from, options.ResourceVersion)
	events := watch.NewFakeWithChanSize(1, false)
	if len(w.events) > 0 {
		events.Action(w.events[0].Type, w.events[0].Object)
		w.events = w.events[1:]
	}
	events.Stop()
	return events, nil
}

func TestFollowContinuesAfterAWatchEnds(t *testing.T) {
	client := &endingWatches{events: []watch.Event{
		{Type: watch.Added, Object: configMap("new", "6")}, {Type: watch.Deleted, Object: configMap("old", "7")},
	}}
	var seen []string
	done := make(chan struct{})
	err := kit.Follow(t.Context(), client, "", func(event watch.Event) bool {
		object, ok := event.Object.(*v1.ConfigMap)
		if !ok {
			t.Errorf("got a %T", event.Object)
			return true
		}
		seen = append(seen, string(event.Type)+" "+object.Name)
		if len(seen) == 3 {
			close(done)
		}
		return len(seen) < 3
	})
	if err != nil {
		t.Fatal(err)
	}
	<-done
	if want := []string{"ADDED old", "ADDED new", "DELETED old"}; !slices.Equal(seen, want) {
		t.Errorf("saw %v, want %v", seen, want)
	}
	client.mu.Lock()
	defer client.mu.Unlock()
	if want := []string{"5", "6"}; !slices.Equal(client.from[:2], want) {
		t.Errorf("watched from versions %v, want %v first", client.from, want)
	}
}
