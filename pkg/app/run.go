package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/kubernetes-csi/csi-lib-utils/connection"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"

	// Their metrics count themselves in the legacy registry.
	_ "k8s.io/component-base/metrics/prometheus/clientgo/leaderelection"
	_ "k8s.io/component-base/metrics/prometheus/workqueue"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/options"
)

// terminationLog is where Kubernetes looks for a container's last words.
const terminationLog = "/dev/termination-log"

// Run runs the provisioner until ctx ends, which is a clean end (nil), or until
// it cannot go on. version goes into the first log line.
func Run(ctx context.Context, o *options.Options, version string) error {
	logger := klog.FromContext(ctx)
	logger.Info("Starting", "program", "csi-clone-provisioner", "version", version, "clonePolicy", o.ClonePolicy, "crossNamespace", o.CrossNamespace)
	tuneMemory(ctx, memlimit.FromCgroup, o.OwnGC)
	if o.Tracing {
		stop, err := observe.StartTracing(ctx, version)
		if err != nil {
			return err
		}
		defer stop()
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	calls := newCallMetrics()
	server := observe.NewServer(o.HTTPEndpoint)
	engineMetrics, registry := newRegistry()
	server.ServeMetrics(o.MetricsPath, append(calls.gatherers(), registry, legacyregistry.DefaultGatherer)...)
	if o.Pprof {
		server.ServePprof()
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Run(ctx); err != nil {
			fail(err)
		}
	}()

	err := run(ctx, o, parts{calls, engineMetrics, registry, server}, fail)
	cause := context.Cause(ctx)
	fail(nil)
	<-served
	switch {
	case cause != nil && !errors.Is(cause, context.Canceled):
		lastWords(logger, cause)
		return cause
	case cause != nil:
		logger.Info("Stopped")
		return nil
	}
	return err
}

// run is Run with the HTTP server up.
func run(ctx context.Context, o *options.Options, p parts, lost func(error)) error {
	config, clients, err := connect(o)
	if err != nil {
		return err
	}
	var with []connection.Option
	if o.Tracing {
		with = append(with, connection.WithOtelTracing())
	}
	driver, err := csidriver.Connect(ctx, o.CSIAddress, o.Timeout, p.csiMetrics, lost, with...)
	if err != nil {
		return err
	}
	defer func() {
		if err := driver.Close(); err != nil {
			klog.FromContext(ctx).V(4).Info("Closing the connection to the driver", "err", err)
		}
	}()
	pulse := driver.Pulse()
	p.server.AddLive(func(r *http.Request) error { return pulse.Check(klog.NewContext(r.Context(), klog.FromContext(ctx))) })
	h, err := build(ctx, o, clients, driver, p)
	if err != nil {
		return err
	}
	if !o.LeaderElection.Enabled {
		return h.run(ctx, func() { p.server.SetReady(ready) })
	}
	return lead(ctx, o.LeaderElection, config, driver.Name, p.server, h)
}

// clients speak to the API server.
type clients struct {
	typed kubernetes.Interface
	// dynamic reads what has no Go types here: ReferenceGrants and snapshots.
	dynamic dynamic.Interface
	// capacity is for CSIStorageCapacity objects; nil if none are published.
	capacity kubernetes.Interface
}

// connect makes the clients for the API server: protobuf on the wire where it can
// be, and no limit of ours unless one is set.
func connect(o *options.Options) (*rest.Config, clients, error) {
	config, err := clientcmd.BuildConfigFromFlags(o.Master, o.Kubeconfig)
	if err != nil {
		return nil, clients{}, fmt.Errorf("finding the API server (inside a pod by itself, outside by --kubeconfig): %w", err)
	}
	config.UserAgent = rest.DefaultKubernetesUserAgent()
	config.QPS, config.Burst = float32(o.KubeAPIQPS), o.KubeAPIBurst
	if o.KubeAPIQPS == 0 {
		config.QPS = -1
	}
	// The first reads can be large, and the network within a cluster is faster than
	// packing and unpacking on both of its ends.
	config.DisableCompression = true
	var c clients
	if c.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, clients{}, fmt.Errorf("making a client for snapshots and ReferenceGrants: %w", err)
	}
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	if c.typed, err = kubernetes.NewForConfig(config); err != nil {
		return nil, clients{}, fmt.Errorf("making a client for the API server: %w", err)
	}
	if c.capacity, err = capacityClient(config, o.Capacity); err != nil {
		return nil, clients{}, err
	}
	return config, c, nil
}

// lastWords leaves the reason where kubectl describe pod shows it. Outside a
// container there is no such place.
func lastWords(logger klog.Logger, cause error) {
	if err := writeExisting(terminationLog, cause.Error()); err != nil {
		logger.V(4).Info("No termination log", "path", terminationLog, "err", err)
	}
}

// writeExisting writes to a file that is there; it makes none.
func writeExisting(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
