package kit

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
)

// Listing is what a typed client has for the lists of one kind.
type Listing[L runtime.Object] interface {
	List(ctx context.Context, options metav1.ListOptions) (L, error)
	Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error)
}

// Follow calls see, in a goroutine, with the objects that there are, as added ones, and then
// with every change, until see returns false or ctx ends. A watch that the API server ends, as
// it does with clients that are slow, is taken up where it was. fields selects objects; empty:
// all.
func Follow[L runtime.Object](ctx context.Context, client Listing[L], fields string, see func(watch.Event) bool) error {
	list, err := client.List(ctx, metav1.ListOptions{FieldSelector: fields})
	if err != nil {
		return fmt.Errorf("listing what is to be followed: %w", err)
	}
	objects, err := meta.ExtractList(list)
	if err != nil {
		return fmt.Errorf("reading the list of what is to be followed: %w", err)
	}
	of, err := meta.ListAccessor(list)
	if err != nil {
		return fmt.Errorf("reading the version of the list: %w", err)
	}
	watcher, err := toolswatch.NewRetryWatcherWithContext(ctx, of.GetResourceVersion(), &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.FieldSelector = fields
			return client.Watch(ctx, options)
		},
	})
	if err != nil {
		return fmt.Errorf("watching: %w", err)
	}
	go func() {
		defer watcher.Stop()
		for _, object := range objects {
			if !see(watch.Event{Type: watch.Added, Object: object}) {
				return
			}
		}
		for event := range watcher.ResultChan() {
			if !see(event) {
				return
			}
		}
	}()
	return nil
}
