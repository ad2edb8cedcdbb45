package provision

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/planner"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/secret"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

// keepGone is how many PVs that are gone are remembered: a worker of the engine may
// hold a copy of one for a moment longer.
const keepGone = 1000

// deletions remembers whose volume is deleted until the PV is gone and a while
// longer, so that the engine, which looks at the PV again after each of its own
// writes, does not make the driver delete it twice.
type deletions struct {
	mu sync.Mutex
	// done holds the PVs whose volume is deleted; true once the finalizer is off,
	// too, and nothing is left to do.
	done map[types.UID]bool
	// gone are those of done that are not in the API any more, the oldest first.
	gone []types.UID
	// uids of the PVs by name whose deletion the engine has begun.
	uids map[string]types.UID
}

func (d *deletions) begin(pv *v1.PersistentVolume) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.uids[pv.Name] = pv.UID
}

// Deleting implements PVDeletions.
func (p *Provisioner) Deleting(pv string) (types.UID, bool) {
	p.deleted.mu.Lock()
	defer p.deleted.mu.Unlock()
	uid, found := p.deleted.uids[pv]
	return uid, found
}

func (d *deletions) has(pv types.UID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, found := d.done[pv]
	return found
}

func (d *deletions) add(pv types.UID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done[pv] = false
}

// Patched implements PVDeletions.
func (p *Provisioner) Patched(pv string) {
	p.deleted.mu.Lock()
	defer p.deleted.mu.Unlock()
	uid, begun := p.deleted.uids[pv]
	if _, deleted := p.deleted.done[uid]; begun && deleted {
		p.deleted.done[uid] = true
	}
}

// NotRemoved implements PVDeletions: the volume is gone, the PV is not.
func (p *Provisioner) NotRemoved(name string, err error) {
	pv := p.Caches.PV(name)
	if pv == nil || !p.deleted.has(pv.UID) {
		return // that was about something else
	}
	p.Recorder.SayOfPV(pv, verdict.Refused(verdict.VolumeFailedDelete,
		"the volume of PV %q is deleted, but the PV could not be removed (tried again by itself): %v", name, err))
}

// Mine reports whether this process deletes the PV's volume.
func (p *Provisioner) Mine(pv *v1.PersistentVolume) bool {
	return p.Keeps == nil || p.Keeps(p.Migration.Seen(pv))
}

// ShouldDelete reports whether the engine may delete the PV: not if another process deletes it, or
// if it was deleted already, which the engine's cache may not show yet.
func (p *Provisioner) ShouldDelete(_ context.Context, pv *v1.PersistentVolume) bool {
	if !p.Mine(pv) {
		return false
	}
	p.deleted.mu.Lock()
	defer p.deleted.mu.Unlock()
	return !p.deleted.done[pv.UID]
}

// Gone notes that a PV no longer exists.
func (p *Provisioner) Gone(pv *v1.PersistentVolume) {
	p.deleted.mu.Lock()
	defer p.deleted.mu.Unlock()
	if _, deleted := p.deleted.done[pv.UID]; deleted {
		p.deleted.done[pv.UID] = true
		p.deleted.gone = append(p.deleted.gone, pv.UID)
	}
	if len(p.deleted.gone) > keepGone {
		delete(p.deleted.done, p.deleted.gone[0])
		p.deleted.gone = p.deleted.gone[1:]
	}
	if p.deleted.uids[pv.Name] == pv.UID {
		delete(p.deleted.uids, pv.Name)
	}
}

// Delete deletes the volume of a released PV. It is called by the engine, which
// has checked that the PV is ours, Released and to be deleted. The error's text
// is the event that the user reads on the PV.
func (p *Provisioner) Delete(ctx context.Context, pv *v1.PersistentVolume) (err error) {
	p.deleted.begin(pv)
	if p.deleted.has(pv.UID) {
		return nil
	}
	if p.Migration.Has(pv) {
		translated, err := p.Migration.ToCSI(pv)
		if err != nil {
			return err
		}
		ctx, pv = csidriver.Migrated(ctx), translated
	}
	if pv.Spec.CSI == nil {
		return fmt.Errorf("PV %q is not a CSI volume; it cannot be deleted by driver %q", pv.Name, p.Driver.Name)
	}
	if pv.Spec.CSI.Driver != p.Driver.Name {
		return &controller.IgnoredError{Reason: "the volume is of driver " + pv.Spec.CSI.Driver}
	}
	if ok, missing := p.Driver.CanProvision(); !ok {
		return fmt.Errorf("driver %q cannot delete volumes (no %s capability); PV %q stays", p.Driver.Name, missing, pv.Name)
	}
	for _, attachment := range p.attachments(pv) {
		return fmt.Errorf("the volume of PV %q is still attached to node %q (VolumeAttachment %q); it is deleted when that is gone", pv.Name, attachment.Spec.NodeName, attachment.Name)
	}
	if other := p.sharedWith(pv); other != nil {
		return fmt.Errorf("volume %q of PV %q is also that of PV %q, which is %s; it is deleted when that PV is gone, or is Released and to be deleted, too", pv.Spec.CSI.VolumeHandle, pv.Name, other.Name, other.Status.Phase)
	}
	ctx, end := observe.Span(ctx, "delete", "persistentvolume", pv)
	defer func() { end(err) }()
	with, err := p.deletionCredentials(ctx, pv)
	if err != nil {
		return err
	}
	handle := pv.Spec.CSI.VolumeHandle
	if err := p.Driver.DeleteVolume(ctx, handle, with.Values); err != nil {
		return with.Explain(err)
	}
	p.deleted.add(pv.UID)
	p.changed(pv.Spec.StorageClassName, topology.Of(pv))
	klog.FromContext(ctx).V(2).Info("Volume deleted", "pv", klog.KObj(pv), "volumeID", handle)
	return nil
}

// sharedWith returns another PV of the same volume, created by hand for instance, that keeps the
// volume from being deleted; nil if there is none.
func (p *Provisioner) sharedWith(pv *v1.PersistentVolume) *v1.PersistentVolume {
	for _, other := range p.Caches.PVsOfHandle(pv.Spec.CSI.VolumeHandle) {
		through := other.Status.Phase == v1.VolumeReleased && other.Spec.PersistentVolumeReclaimPolicy == v1.PersistentVolumeReclaimDelete
		if other.UID != pv.UID && !through {
			return other
		}
	}
	return nil
}

// deletionCredentials reads the Secret that the PV's deletion needs. If it does not exist, the
// driver is called without it, and an event says so: the Secret may have been deleted with its
// namespace, and not every driver needs it for a deletion.
func (p *Provisioner) deletionCredentials(ctx context.Context, pv *v1.PersistentVolume) (planner.Credentials, error) {
	ref, told := secret.OnPV(pv)
	if !told {
		class, v := p.classFor(pv)
		if v.Ready() {
			ref, v = secret.OfClass(pv, class, p.claimOf(pv))
		}
		if !v.Ready() {
			return planner.Credentials{}, errors.New(v.Message)
		}
	}
	values, err := p.Planner.SecretValues(ctx, ref)
	if !errors.Is(err, planner.ErrNoSecret) {
		return planner.Credentials{Ref: ref, Values: values}, err
	}
	p.Recorder.SayOfPV(pv, verdict.Refused(verdict.DeletedWithoutSecret,
		"Secret %q, which deleting volume %q needs, does not exist; driver %q is asked without it", ref, pv.Spec.CSI.VolumeHandle, p.Driver.Name))
	return planner.Credentials{Ref: ref, Lacking: fmt.Sprintf("Secret %q", ref)}, nil
}

// classFor returns the PV's class, as the driver understands it, if it is, still, of our
// driver.
func (p *Provisioner) classFor(pv *v1.PersistentVolume) (*storagev1.StorageClass, verdict.Verdict) {
	class := p.Caches.Class(secret.ClassOf(pv))
	if class == nil || !p.Planner.Provisions(class) {
		return nil, verdict.Verdict{}
	}
	return p.Migration.Class(class)
}

// claimOf returns the claim that the PV names, which is gone most of the time.
func (p *Provisioner) claimOf(pv *v1.PersistentVolume) *v1.PersistentVolumeClaim {
	if pv.Spec.ClaimRef == nil {
		return nil
	}
	return p.Caches.Claim(pv.Spec.ClaimRef.Namespace, pv.Spec.ClaimRef.Name)
}

// attachments of the PV, if it is the driver that attaches: no others keep it from
// deleting a volume.
func (p *Provisioner) attachments(pv *v1.PersistentVolume) []*storagev1.VolumeAttachment {
	if !p.Driver.Controller[csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME] {
		return nil
	}
	return p.Caches.AttachmentsOf(pv.Name)
}
