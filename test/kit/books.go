package kit

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
)

// cloningProtection is the finalizer on sources. Written out, not taken from the
// product: its name is a promise to the incumbent.
const cloningProtection = "provisioner.storage.kubernetes.io/cloning-protection"

// ledger is what the books are checked on: the driver's volumes, the driver's
// PVs and the test's claims, all of the same moment or nearly so.
type ledger struct {
	driver  string
	volumes []demodriver.Volume
	pvs     []v1.PersistentVolume
	claims  []v1.PersistentVolumeClaim
	// Claims, as namespace/name, that may carry a finalizer nonetheless.
	mayBeRecorded, mayBeProtected map[string]bool
}

// readBooks gathers a ledger. Volumes are read before and PVs after, so that a
// volume whose PV is just being saved does not look lost; the other way round is
// cured by reading again.
func (e *Env) readBooks() (ledger, error) {
	books := ledger{
		driver:        e.DriverName,
		mayBeRecorded: e.allowed.record, mayBeProtected: e.allowed.protection,
	}
	for _, server := range e.drivers() {
		books.volumes = append(books.volumes, server.Driver.Volumes()...)
	}
	var err error
	if books.pvs, err = e.pvs(); err != nil {
		return ledger{}, err
	}
	for _, namespace := range e.namespaces {
		list, err := e.Admin.CoreV1().PersistentVolumeClaims(namespace).List(e.Ctx, metav1.ListOptions{})
		if err != nil {
			return ledger{}, fmt.Errorf("listing claims of namespace %q: %w", namespace, err)
		}
		books.claims = append(books.claims, list.Items...)
	}
	return books, nil
}

// errors returns what is wrong with the books, one line each.
func (l ledger) errors() []string {
	return slices.Concat(l.lostVolumes(), l.emptyPVs(), l.strayRecords(), l.strayProtections())
}

// lostVolumes returns the volumes no PV knows of.
func (l ledger) lostVolumes() []string {
	known := map[string]bool{}
	for _, pv := range l.pvs {
		known[pv.Spec.CSI.VolumeHandle] = true
	}
	var found []string
	for _, volume := range l.volumes {
		if !known[volume.ID] {
			found = append(found, fmt.Sprintf("volume %q (name %q) of driver %q is lost: no PV has this handle",
				volume.ID, volume.Name, l.driver))
		}
	}
	return found
}

// emptyPVs returns the PVs without a volume and those that share one.
func (l ledger) emptyPVs() []string {
	exists := map[string]bool{}
	for _, volume := range l.volumes {
		exists[volume.ID] = true
	}
	owner := map[string]string{}
	var found []string
	for _, pv := range l.pvs {
		handle := pv.Spec.CSI.VolumeHandle
		if !exists[handle] {
			found = append(found, fmt.Sprintf("PV %q (%s) has no volume: driver %q knows no %q", pv.Name, pv.Status.Phase, l.driver, handle))
		}
		if other, shared := owner[handle]; shared {
			found = append(found, fmt.Sprintf("PVs %q and %q share volume %q", other, pv.Name, handle))
		}
		owner[handle] = pv.Name
	}
	return found
}

// strayRecords returns the claims that carry a record, or parts of one, though
// nothing is being done for them.
func (l ledger) strayRecords() []string {
	var found []string
	for _, claim := range l.claims {
		recorded := l.recorded(claim)
		if recorded && !l.inWork(claim) && !l.mayBeRecorded[key(claim)] {
			found = append(found, fmt.Sprintf("claim %q (%s%s) still carries the record %s",
				key(claim), claim.Status.Phase, deleting(claim), strings.Join(l.records(claim), ", ")))
		}
		if recorded {
			continue
		}
		for name := range claim.Annotations {
			if strings.HasPrefix(name, l.prefix()) {
				found = append(found, fmt.Sprintf("claim %q carries annotation %s without the record it belongs to", key(claim), name))
			}
		}
	}
	return found
}

// strayProtections returns the claims that are protected as sources though no
// clone of them is being made.
func (l ledger) strayProtections() []string {
	needed := map[string]bool{}
	for _, claim := range l.claims {
		if l.recorded(claim) && (l.inWork(claim) || l.mayBeRecorded[key(claim)]) {
			needed[source(claim)] = true
		}
	}
	var found []string
	for _, claim := range l.claims {
		name := key(claim)
		if slices.Contains(claim.Finalizers, cloningProtection) && !needed[name] && !l.mayBeProtected[name] {
			found = append(found, fmt.Sprintf("claim %q (%s%s) still carries %s, but no clone of it is in work",
				name, claim.Status.Phase, deleting(claim), cloningProtection))
		}
	}
	return found
}

// prefix begins the names of the record's finalizer and annotations.
func (l ledger) prefix() string { return strings.ToLower(l.driver) + "/" }

// records returns the record finalizers of a claim; with one provisioner per
// node they end in a hash.
func (l ledger) records(claim v1.PersistentVolumeClaim) []string {
	var found []string
	for _, finalizer := range claim.Finalizers {
		if strings.HasPrefix(finalizer, l.prefix()+"provisioning") {
			found = append(found, finalizer)
		}
	}
	return found
}

func (l ledger) recorded(claim v1.PersistentVolumeClaim) bool { return len(l.records(claim)) > 0 }

// inWork says that a record on the claim is as it should be.
func (l ledger) inWork(claim v1.PersistentVolumeClaim) bool {
	return claim.Status.Phase == v1.ClaimPending && claim.DeletionTimestamp == nil
}

// key returns namespace/name.
func key(claim v1.PersistentVolumeClaim) string { return claim.Namespace + "/" + claim.Name }

func deleting(claim v1.PersistentVolumeClaim) string {
	if claim.DeletionTimestamp != nil {
		return ", being deleted"
	}
	return ""
}

// source returns namespace/name of the claim that a claim is a clone of, or "".
func source(claim v1.PersistentVolumeClaim) string {
	ref := claim.Spec.DataSourceRef
	if ref == nil || ref.Kind != "PersistentVolumeClaim" {
		return ""
	}
	if ref.Namespace != nil && *ref.Namespace != "" {
		return *ref.Namespace + "/" + ref.Name
	}
	return claim.Namespace + "/" + ref.Name
}
