// Command floor is a provisioner that does as little as one can: it watches claims,
// calls the driver and saves the PV; or it watches PVs, calls the driver and deletes
// the PV. No record, no rule, no event, no look at the source, nothing that outlives
// it. Nothing that provisions can be faster; benchmarks measure ours against it.
//
// It speaks to the API server as ours does (protobuf, no limit on this side) and has
// as many workers. It relies on the stub (test/bench/stub): a volume's id is its name.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
)

// ready is what is printed when claims or PVs are being watched.
const ready = "floor: ready"

// callTimeout and workers are the defaults of our provisioner.
const (
	callTimeout = 10 * time.Second
	workers     = 100
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "path of a kubeconfig file")
	socket := flag.String("csi-address", "", "path of the driver's socket")
	name := flag.String("driver", "", "name of the driver")
	remove := flag.Bool("delete", false, "delete volumes instead of creating them")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, *kubeconfig, *socket, *name, *remove)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

// floor is what both kinds of work need.
type floor struct {
	client kubernetes.Interface
	csi    csi.ControllerClient
	driver string
	// store has the claims, or the PVs where volumes are deleted.
	store cache.Indexer
	// done are the uids of those that are through.
	done sync.Map
}

func run(ctx context.Context, kubeconfig, socket, driver string, remove bool) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	config.QPS = -1
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making a client for the API server: %w", err)
	}
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connecting to the driver: %w", err)
	}
	defer conn.Close()

	factory := informers.NewSharedInformerFactory(client, 0)
	f := &floor{client: client, csi: csi.NewControllerClient(conn), driver: driver}
	informer, work := factory.Core().V1().PersistentVolumeClaims().Informer(), f.provision
	if remove {
		informer, work = factory.Core().V1().PersistentVolumes().Informer(), f.delete
	}
	f.store = informer.GetIndexer()

	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
	if _, err := informer.AddEventHandler(enqueue(queue)); err != nil {
		return fmt.Errorf("watching: %w", err)
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("reading all %v: %w", kind, ctx.Err())
		}
	}
	var working sync.WaitGroup
	for range workers {
		working.Go(func() { loop(ctx, queue, work) })
	}
	fmt.Println(ready)
	<-ctx.Done()
	queue.ShutDown()
	working.Wait()
	factory.Shutdown()
	return nil
}

// enqueue puts the key of whatever is new or has changed into the queue.
func enqueue(queue workqueue.TypedRateLimitingInterface[string]) cache.ResourceEventHandler {
	add := func(obj any) {
		if key, err := cache.MetaNamespaceKeyFunc(obj); err == nil {
			queue.Add(key)
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, obj any) { add(obj) }}
}

// loop works off the queue until it is shut down.
func loop(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string], work func(context.Context, string) error) {
	for {
		key, shutDown := queue.Get()
		if shutDown {
			return
		}
		if err := work(ctx, key); err != nil {
			fmt.Fprintf(os.Stderr, "floor: %s: %v\n", key, err)
			queue.AddRateLimited(key)
		} else {
			queue.Forget(key)
		}
		queue.Done(key)
	}
}
