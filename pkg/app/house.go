package app

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	csimetrics "github.com/kubernetes-csi/csi-lib-utils/metrics"
	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
	enginemetrics "sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller/metrics"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/capacity"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/claimwriter"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/intake"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/inuse"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/migration"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/nodelocal"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/options"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/places"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/planner"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/provision"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

// parts is what exists before the driver has told its name.
type parts struct {
	csiMetrics    csimetrics.CSIMetricsManager
	engineMetrics enginemetrics.Metrics
	registry      *prometheus.Registry
	server        *observe.Server
}

// subsystem begins the names of the engine's metrics, as those of the incumbent.
const subsystem = "controller"

// newRegistry returns the engine's metrics, registered.
func newRegistry() (enginemetrics.Metrics, *prometheus.Registry) {
	m, r := enginemetrics.New(subsystem), prometheus.NewRegistry()
	m.PersistentVolumeClaimProvisionDurationSeconds = durations("persistentvolumeclaim_provision_duration_seconds",
		"How many seconds it took to provision a volume, by StorageClass and kind of the data source; attempts that failed are not in it.", "class", "source")
	m.PersistentVolumeDeleteDurationSeconds = durations("persistentvolume_delete_duration_seconds",
		"How many seconds it took to delete a volume, by StorageClass; attempts that failed are not in it.", "class")
	r.MustRegister(
		m.PersistentVolumeClaimProvisionTotal, m.PersistentVolumeClaimProvisionFailedTotal,
		m.PersistentVolumeClaimProvisionDurationSeconds,
		m.PersistentVolumeDeleteTotal, m.PersistentVolumeDeleteFailedTotal,
		m.PersistentVolumeDeleteDurationSeconds)
	return m, r
}

// durations returns a histogram that goes on where the engine's own ends.
func durations(name, help string, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Subsystem: subsystem, Name: name, Help: help, Buckets: observe.DurationBuckets(),
	}, labels)
}

// house is everything that only the leader runs.
type house struct {
	caches      *informers.Set
	recorder    *observe.Recorder
	pods        *inuse.Pods
	intake      *intake.Intake
	protection  protectors
	planner     *planner.Planner
	provisioner *provision.Provisioner
	driver      *csidriver.Driver
	writer      *claimwriter.Writer
	places      *places.Places        // where the driver runs; nil without topology, or with local
	local       *nodelocal.Controller // nil unless each node has its own provisioner
	capacity    *capacity.Controller  // nil without --enable-capacity
	plugin      *migration.Plugin     // that the driver took over; nil for none
	engine      *controller.ProvisionController
	workers     *sync.WaitGroup
}

// build fits the controllers together. Nothing runs yet.
func build(ctx context.Context, o *options.Options, clients clients, driver *csidriver.Driver, p parts) (*house, error) { //nolint:funlen // a list of what there is
	client := clients.typed
	publishes := driver.Controller[csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME]
	hasTopology := o.Topology && driver.HasTopology()
	access := look(ctx, client, o, abilities{publishes, driver.CanModify(), driver.CanRestore(), hasTopology})
	keys := keysOf(o, driver.Name)
	naming := record.Naming{Prefix: o.VolumeNamePrefix, UUIDLength: o.VolumeNameUUIDLength}
	books := ledger.New(o.Timeout, clock.RealClock{})
	recorded := func(claim *v1.PersistentVolumeClaim) bool { return record.On(keys, claim) }
	// A source is protected for the clones of all nodes.
	anybodys := func(claim *v1.PersistentVolumeClaim) bool { return record.Anybodys(keys, claim) }
	h := &house{driver: driver, plugin: migration.Of(driver.Name), workers: &sync.WaitGroup{}}

	var err error
	strict := o.ClonePolicy == options.Strict
	wanted := informers.Wanted{
		Attachments:       publishes || strict && access.attachments,
		AttributesClasses: access.attributesClasses,
		Nodes:             hasTopology && !o.NodeDeployment.Enabled,
		Served:            access.servedToUs(client),
	}
	if o.CrossNamespace {
		wanted.Grants = clients.dynamic
	}
	if access.snapshots {
		wanted.Snapshots = clients.dynamic
	}
	if h.plugin != nil {
		wanted.InTree = h.plugin
		klog.FromContext(ctx).Info("The driver took over an in-tree plugin", "driver", driver.Name, "plugin", h.plugin.Name())
	}
	h.caches, err = informers.New(client, driver.Name, h.keys(recorded, anybodys), wanted)
	if err != nil {
		return nil, err
	}

	where, err := h.watchNodes()
	if err != nil {
		return nil, err
	}
	component := driver.Name + "/csi-clone-provisioner"
	h.recorder = observe.NewRecorder(ctx, client, component, clock.RealClock{})
	h.writer = claimwriter.New(client, !access.patchClaims)
	if strict {
		h.pods = inuse.New(client, waiters{h}, clock.RealClock{})
	}
	planning := planner.Config{
		Client: client, Dynamic: clients.dynamic, Caches: h.caches, Driver: driver, Migration: h.plugin, Ledger: books, Keys: keys, Naming: naming,
		DefaultFSType: o.DefaultFSType, ExtraMetadata: o.ExtraCreateMetadata,
		Strict: strict, Pods: h.pods, AttachmentsTell: publishes,
		OtherNamespaces: o.CrossNamespace, KeepMode: o.PreventVolumeModeConversion,
		AttributesClasses: o.AttributesClasses == options.GateOn || o.AttributesClasses == options.GateAuto && !access.attributesMissing,
		Places:            where, StrictTopology: o.StrictTopology, ImmediateTopology: o.ImmediateTopology,
	}
	provisioning := provision.Config{
		Client: client, Caches: h.caches, Driver: driver, Migration: h.plugin, Ledger: books, Keys: keys, Figures: observe.NewFigures(p.registry),
		Identity:        fmt.Sprintf("%d-%d-%s", time.Now().UnixMilli(), rand.IntN(10000), driver.Name),
		PublishReadOnly: o.ControllerPublishReadOnly,
		Recorder:        h.recorder,
		Finished:        h.enqueue, VolumesChanged: h.volumesChanged,
	}
	if o.NodeDeployment.Enabled {
		if err := h.onNode(ctx, o, client, keys, &planning, &provisioning); err != nil {
			return nil, err
		}
	}
	h.planner = planner.New(planning)
	provisioning.Planner = h.planner
	h.provisioner = provision.New(provisioning)
	h.protection = h.protect(o, clients, h.writer, anybodys)
	claims := informers.NewFacade(h.caches.OwnClaims, func(obj any) bool {
		claim, ok := obj.(*v1.PersistentVolumeClaim)
		return ok && h.planner.Admitted(claim)
	})
	pvs := informers.NewFacade(h.caches.OwnPVs, h.keepsPV)
	h.intake = intake.New(intake.Config{
		Nodes:  h.nodes(),
		Client: client, Writer: h.writer, Caches: h.caches, Driver: driver.Name, Migration: h.plugin, Keys: keys, Ledger: books,
		Recorder: h.recorder, Planner: h.planner, Cleaner: h.provisioner, Protector: h.protection, WakeEngine: func(claim *v1.PersistentVolumeClaim) { claims.Wake(claim) },
		OnRecord: func(plan planner.Plan) bool { return o.ProvisioningRecord.Writes(plan.Copies()) },
		Workers:  o.WorkerThreads, Timeout: o.Timeout,
		RetryStart: o.RetryIntervalStart, RetryMax: o.RetryIntervalMax, Clock: clock.RealClock{},
	})
	h.engine = controller.NewProvisionController(ctx, provision.EngineClient(client, component, h.provisioner, h.recorder), driver.Name, h.provisioner,
		engineOptions(o, h, claims, pvs, p.engineMetrics)...)
	h.engine.ControllerWaitGroup(h.workers)
	p.registry.MustRegister(observe.Gauges(h.caches.Recorded, h.intake.Waiting, h.protection.counts())...)
	return h, errors.Join(h.forgetDeletedPVs(), h.wakeDetached(pvs), h.wakeReleased(pvs, anybodys), h.publish(ctx, o, clients, p))
}

// keys says by what claims are found in the caches.
func (h *house) keys(recorded, anybodys func(*v1.PersistentVolumeClaim) bool) informers.Keys {
	return informers.Keys{
		CloneSource: joined(sourceOf(source.Claim, anybodys)),
		Snapshot:    joined(sourceOf(source.Snapshot, anybodys)),
		VolumeName: func(claim *v1.PersistentVolumeClaim) string {
			if !recorded(claim) {
				return ""
			}
			return h.planner.RecordedName(claim)
		},
	}
}

// joined returns the name of a source as one word; "" if there is none.
func joined(sourceOf func(*v1.PersistentVolumeClaim) (namespace, name string, found bool)) func(*v1.PersistentVolumeClaim) string {
	return func(claim *v1.PersistentVolumeClaim) string {
		if namespace, name, found := sourceOf(claim); found {
			return namespace + "/" + name
		}
		return ""
	}
}

// waiters shows intake to the look at pods, which is made before it.
type waiters struct{ *house }

// Wake implements inuse.Waiters.
func (w waiters) Wake(object waitlist.Object) { w.intake.Wake(object) }

// Awaited implements inuse.Waiters.
func (w waiters) Awaited(object waitlist.Object) bool { return w.intake.Awaited(object) }

// engineOptions are the library's. They are right by construction: it would end
// the process over a bad one.
func engineOptions(o *options.Options, h *house, claims, pvs *informers.Facade, m enginemetrics.Metrics) []func(*controller.ProvisionController) error {
	var others []string
	if h.plugin != nil {
		others = append(others, h.plugin.Name())
	}
	return []func(*controller.ProvisionController) error{
		controller.AdditionalProvisionerNames(others),
		controller.LeaderElection(false),
		controller.FailedProvisionThreshold(0),
		controller.FailedDeleteThreshold(0),
		controller.RateLimiter(workqueue.NewTypedItemExponentialFailureRateLimiter[string](o.RetryIntervalStart, o.RetryIntervalMax)),
		controller.Threadiness(o.WorkerThreads),
		controller.ClaimsInformer(claims),
		controller.VolumesInformer(pvs),
		controller.ClassesInformer(h.caches.Classes),
		controller.AddFinalizer(true),
		controller.MetricsInstance(m),
		controller.VolumeName(h.planner.VolumeName),
	}
}

// watchNodes returns the places where the driver runs, nil without topology.
func (h *house) watchNodes() (planner.Places, error) {
	if h.caches.Nodes == nil {
		return nil, nil //nolint:nilnil // no topology is no error
	}
	var err error
	if h.places, err = places.Watch(h.driver.Name, h.caches, h.nodeChanged); err != nil {
		return nil, err
	}
	return h.places, nil
}

// nodeChanged has the claims looked at that wait for the node, or for any, and the places
// that capacity is published for.
func (h *house) nodeChanged(node string) {
	if h.capacity != nil {
		h.capacity.SegmentsChanged()
	}
	h.intake.Wake(waitlist.Node(node))
	h.intake.Wake(waitlist.Nodes())
}

// enqueue breaks the circle between provisioner and intake.
func (h *house) enqueue(namespace, name string, uid types.UID) {
	h.intake.Enqueue(namespace, name, uid)
}

// run fills the caches, says so through started, and works until ctx ends. It
// returns when nothing of it works any more: then the lease may be given up.
func (h *house) run(ctx context.Context, started func()) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer func() {
		stop(nil)
		if h.pods != nil {
			h.pods.Wait()
		}
		h.caches.Wait()
		h.recorder.Stop()
	}()
	if h.pods != nil {
		h.pods.Start(ctx)
	}
	if err := h.caches.Start(ctx); err != nil {
		return err
	}
	if h.places != nil {
		if err := h.places.Wait(ctx); err != nil {
			return err
		}
	}
	debug.FreeOSMemory() // filling the caches took more than keeping them does
	var running sync.WaitGroup
	group := []func() error{
		func() error { return h.intake.Run(ctx) },
		func() error { return h.protection.claims.Run(ctx, h.intake.Judged()) },
		func() error { return h.provisioner.RunUnbound(ctx) },
		func() error { h.engine.Run(ctx); h.workers.Wait(); return nil },
	}
	group = append(group, h.localMembers(ctx)...)
	if h.protection.snapshots != nil {
		group = append(group, func() error { return h.protection.snapshots.Run(ctx, h.intake.Judged()) })
	}
	if h.capacity != nil {
		group = append(group, func() error { return h.capacity.Run(ctx) })
	}
	running.Go(func() {
		select {
		case <-h.intake.Judged():
			debug.FreeOSMemory() // so did the first look at everything
		case <-ctx.Done():
		}
	})
	var once sync.Once
	var first error
	for _, member := range group {
		running.Go(func() {
			err := member()
			once.Do(func() { first = err })
			stop(err) // the first to return stops all
		})
	}
	started()
	running.Wait()
	return first
}

func ready(*http.Request) error { return nil }
