package informers

import (
	"context"
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

const (
	byCloneSource = "clone source"
	bySnapshot    = "snapshot"
	byVolumeName  = "pinned volume name"
	byProtection  = "protected"
	byHandle      = "volume handle"
	byClaim       = "claim of a volume"
	byKey         = "what is left of the handle in an in-tree PV"
	byVolume      = "attached volume"
)

// safetyResync is how often everything is looked at again although nothing has
// changed: the engine's own figure. Nothing waits for it.
const safetyResync = 15 * time.Minute

// Keys says under which names a claim is found by the indexes. Each function
// returns "" for a claim that is not to be found; they must depend on the claim
// alone.
type Keys struct {
	// CloneSource of a claim on record: "namespace/name" of its source claim.
	CloneSource func(*v1.PersistentVolumeClaim) string
	// Snapshot that a claim on record is restored from, as "namespace/name".
	Snapshot func(*v1.PersistentVolumeClaim) string
	// VolumeName that is pinned on a claim on record.
	VolumeName func(*v1.PersistentVolumeClaim) string
}

// Set is all informers of the process.
type Set struct {
	// Claims, PVs and Classes of the whole cluster. Indexes hold only what is ours.
	Claims  cache.SharedIndexInformer
	PVs     cache.SharedIndexInformer
	Classes cache.SharedIndexInformer
	// OwnClaims and OwnPVs are the same informers, with events only of what was given
	// to the driver, is on record, protected, or the driver's volume.
	OwnClaims cache.SharedIndexInformer
	OwnPVs    cache.SharedIndexInformer
	// Attachments, Grants and Snapshots are nil unless asked for.
	Attachments cache.SharedIndexInformer
	Grants      cache.SharedIndexInformer
	Snapshots   cache.SharedIndexInformer
	// AttributesClasses, of volumes, are nil unless asked for.
	AttributesClasses cache.SharedIndexInformer
	// Nodes and CSINodes are nil unless asked for.
	Nodes, CSINodes cache.SharedIndexInformer

	inTree   InTree
	factory  informers.SharedInformerFactory
	optional []optional
	running  sync.WaitGroup
	// snapshotsAsked is closed when the first claim asks for a snapshot.
	snapshotsAsked chan struct{}
	askOnce        sync.Once
}

// Wanted says what is read beside claims, PVs and classes.
type Wanted struct {
	// Attachments asks for VolumeAttachments.
	Attachments bool
	// AttributesClasses asks for VolumeAttributesClasses, which must be served.
	AttributesClasses bool
	// Nodes asks for Nodes and CSINodes.
	Nodes bool
	// Grants asks for ReferenceGrants, and Snapshots for VolumeSnapshots.
	Grants, Snapshots dynamic.Interface
	// Served says, when it is asked by Start, that the API server has them and lets us read
	// them, so Start waits for them: without them it would look as if those that are there
	// were gone. Else they are picked up when it has.
	Served func(context.Context, schema.GroupVersionResource) bool
	// InTree is the in-tree plugin that the driver took over, whose PVs are then its
	// volumes, too; nil if it took over none.
	InTree InTree
}

// optional is an informer of what the API server need not have.
type optional struct {
	cache.SharedIndexInformer
	resource schema.GroupVersionResource
	served   func(context.Context, schema.GroupVersionResource) bool
	// asked, if not nil, is closed when somebody wants what is not served: before that
	// nobody asks the API server again and again whether it is by now.
	asked <-chan struct{}
}

// New builds the informers; nothing runs yet. driver is the name of the driver
// whose volumes are found by handle.
func New(client kubernetes.Interface, driver string, keys Keys, wanted Wanted) (*Set, error) {
	if wanted.InTree == nil {
		wanted.InTree = noInTree{}
	}
	f := informers.NewSharedInformerFactoryWithOptions(client, safetyResync, informers.WithTransform(newPacker(driver, wanted.InTree).transform))
	// Made here, for those of the factory have an index by namespace.
	claims := f.InformerFor(&v1.PersistentVolumeClaim{}, func(client kubernetes.Interface, resync time.Duration) cache.SharedIndexInformer {
		return coreinformers.NewPersistentVolumeClaimInformer(client, v1.NamespaceAll, resync, cache.Indexers{})
	})
	pvs := f.InformerFor(&v1.PersistentVolume{}, func(client kubernetes.Interface, resync time.Duration) cache.SharedIndexInformer {
		return coreinformers.NewPersistentVolumeInformer(client, resync, cache.Indexers{})
	})
	s := &Set{
		inTree:  wanted.InTree,
		factory: f,
		Claims:  thin{claims, false}, OwnClaims: thin{claims, true},
		PVs: thin{pvs, false}, OwnPVs: thin{pvs, true},
		Classes: f.Storage().V1().StorageClasses().Informer(),

		snapshotsAsked: make(chan struct{}),
	}
	err := s.Claims.AddIndexers(cache.Indexers{
		byCloneSource: index(keys.CloneSource),
		bySnapshot:    index(keys.Snapshot),
		byVolumeName:  index(keys.VolumeName),
		byProtection:  index(protected),
	})
	if err != nil {
		return nil, fmt.Errorf("adding indexes of claims: %w", err)
	}
	err = s.PVs.AddIndexers(handles(driver, wanted.InTree))
	if err != nil {
		return nil, fmt.Errorf("adding indexes of PVs: %w", err)
	}
	if wanted.Grants != nil {
		s.Grants = newGrants(wanted.Grants)
		s.optional = append(s.optional, optional{s.Grants, ReferenceGrants(), wanted.Served, nil})
	}
	if wanted.Snapshots != nil {
		s.Snapshots = newSnapshots(wanted.Snapshots)
		s.optional = append(s.optional, optional{s.Snapshots, VolumeSnapshots(), wanted.Served, s.snapshotsAsked})
	}
	if wanted.AttributesClasses {
		s.AttributesClasses = f.Storage().V1().VolumeAttributesClasses().Informer()
	}
	if wanted.Nodes {
		s.Nodes, s.CSINodes = f.Core().V1().Nodes().Informer(), f.Storage().V1().CSINodes().Informer()
	}
	if !wanted.Attachments {
		return s, nil
	}
	s.Attachments = f.Storage().V1().VolumeAttachments().Informer()
	err = s.Attachments.AddIndexers(cache.Indexers{byVolume: index(func(va *storagev1.VolumeAttachment) string {
		if va.Spec.Source.PersistentVolumeName == nil {
			return ""
		}
		return *va.Spec.Source.PersistentVolumeName
	})})
	if err != nil {
		return nil, fmt.Errorf("adding indexes of VolumeAttachments: %w", err)
	}
	return s, nil
}

// Start starts the informers and returns when every cache holds what the API
// server had, or when ctx ends. The informers run until ctx ends; Wait waits
// for that.
func (s *Set) Start(ctx context.Context) error {
	s.factory.Start(ctx.Done())
	for _, o := range s.optional {
		if err := s.start(ctx, o); err != nil {
			return err
		}
	}
	for kind, synced := range s.factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("reading all %s objects: %w", kind, context.Cause(ctx))
		}
	}
	return nil
}

// start starts an informer of what need not be served, and waits for it if it is.
func (s *Set) start(ctx context.Context, o optional) error {
	served := o.served(ctx, o.resource)
	s.running.Go(func() {
		if !served && o.asked != nil {
			select {
			case <-o.asked:
			case <-ctx.Done():
				return
			}
		}
		o.RunWithContext(ctx)
	})
	if served && !cache.WaitForCacheSync(ctx.Done(), o.HasSynced) {
		return fmt.Errorf("reading all %s: %w", o.resource.GroupResource(), context.Cause(ctx))
	}
	return nil
}

// AskForSnapshots says that a claim is to be restored from a VolumeSnapshot: if they were
// not served at the start, they are looked for from now on.
func (s *Set) AskForSnapshots() {
	s.askOnce.Do(func() { close(s.snapshotsAsked) })
}

// Wait returns when all informers have ended.
func (s *Set) Wait() {
	s.factory.Shutdown()
	s.running.Wait()
}

func protected(claim *v1.PersistentVolumeClaim) string {
	for _, f := range claim.Finalizers {
		if f == wellknown.CloningProtection {
			return f
		}
	}
	return ""
}

func index[T any](key func(T) string) cache.IndexFunc {
	return func(obj any) ([]string, error) {
		object, ok := obj.(T)
		if !ok {
			return nil, fmt.Errorf("unexpected %T in the cache", obj)
		}
		if k := key(object); k != "" {
			return []string{k}, nil
		}
		return nil, nil
	}
}
