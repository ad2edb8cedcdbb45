package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

const (
	foreignDriver = "ebs.csi.foreign.example"
	// perNamespace claims are in one namespace.
	perNamespace = 250
	// writers create objects side by side.
	writers = 24
)

// crowd is the PVs and claims of another driver, bound to each other, and dressed as
// those that a chart installs: labels, annotations, field managers, a zone.
type crowd struct {
	env                 *kit.Env
	size                int
	pvBytes, claimBytes int
}

func newCrowd(env *kit.Env) *crowd { return &crowd{env: env} }

// grow adds to the crowd until there are so many of each kind, and returns when the
// controller manager has seen them all. That stands still meanwhile: it would see
// claims whose PV is not there yet.
func (c *crowd) grow(t *testing.T, size int) {
	t.Helper()
	manager := c.controllerManager(t, syscall.SIGSTOP)
	for n := c.size; n < size; n += perNamespace {
		c.create(t, &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespaceOf(n)}})
	}
	numbers := make(chan int)
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for n := range numbers {
				if err := c.add(c.env.Ctx, n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := c.size; n < size; n++ {
		numbers <- n
	}
	close(numbers)
	group.Wait()
	c.size = size
	manager(syscall.SIGCONT)
	c.awaitControllerManager(t)
}

// controllerManager sends a signal to it, and returns a function to send more.
func (c *crowd) controllerManager(t *testing.T, first syscall.Signal) func(syscall.Signal) {
	t.Helper()
	for _, p := range c.env.Cluster.Group().Processes() {
		if p.Name() == "kube-controller-manager" {
			send := func(sig syscall.Signal) {
				if err := p.Signal(sig); err != nil {
					t.Fatal(err)
				}
			}
			send(first)
			return send
		}
	}
	t.Fatal("there is no kube-controller-manager")
	return nil
}

// awaitControllerManager returns when a new claim has been given to the driver, and is
// gone after its deletion: the controller manager does that after all that came before.
func (c *crowd) awaitControllerManager(t *testing.T) {
	t.Helper()
	name := fmt.Sprintf("canary-%d", c.size)
	c.env.Create(c.env.Claim(name))
	deleted := false
	err := wait.PollUntilContextTimeout(c.env.Ctx, 100*time.Millisecond, 15*time.Minute, true, func(ctx context.Context) (bool, error) {
		canary, err := c.env.Admin.CoreV1().PersistentVolumeClaims(c.env.Namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil && !deleted && canary.Annotations["volume.kubernetes.io/storage-provisioner"] != "" {
			c.env.Delete(name)
			deleted = true
		}
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
	if err != nil {
		t.Fatalf("waiting for the controller manager to see all: %v", err)
	}
}

func namespaceOf(n int) string { return fmt.Sprintf("team-%04d", n/perNamespace) }

func (c *crowd) create(t *testing.T, namespace *v1.Namespace) {
	t.Helper()
	if _, err := c.env.Admin.CoreV1().Namespaces().Create(c.env.Ctx, namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// add makes the claim and the PV with that number, and binds them.
func (c *crowd) add(ctx context.Context, n int) error {
	core := c.env.Admin.CoreV1()
	claim, err := core.PersistentVolumeClaims(namespaceOf(n)).Create(ctx, foreignClaim(n), metav1.CreateOptions{FieldManager: "kube-controller-manager"})
	if err != nil {
		return fmt.Errorf("making foreign claim %d: %w", n, err)
	}
	pv, err := core.PersistentVolumes().Create(ctx, foreignPV(n, claim), metav1.CreateOptions{FieldManager: "csi-provisioner"})
	if err != nil {
		return fmt.Errorf("making foreign PV %d: %w", n, err)
	}
	pv.Status.Phase = v1.VolumeBound
	if pv, err = core.PersistentVolumes().UpdateStatus(ctx, pv, metav1.UpdateOptions{FieldManager: "kube-controller-manager"}); err != nil {
		return fmt.Errorf("binding foreign PV %d: %w", n, err)
	}
	claim.Status = v1.PersistentVolumeClaimStatus{Phase: v1.ClaimBound, AccessModes: claim.Spec.AccessModes, Capacity: pv.Spec.Capacity}
	claim, err = core.PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, claim, metav1.UpdateOptions{FieldManager: "kube-controller-manager"})
	if err != nil {
		return fmt.Errorf("binding foreign claim %d: %w", n, err)
	}
	if n == 0 {
		c.pvBytes, c.claimBytes = len(asJSON(pv)), len(asJSON(claim))
	}
	return nil
}

func asJSON(object any) []byte {
	text, err := json.Marshal(object)
	if err != nil {
		panic(err) // API objects are made to be marshalled
	}
	return text
}

func foreignClaim(n int) *v1.PersistentVolumeClaim {
	name := fmt.Sprintf("data-postgres-%05d", n)
	labels := map[string]string{
		"app.kubernetes.io/name": "postgres", "app.kubernetes.io/instance": fmt.Sprintf("postgres-%05d", n),
		"app.kubernetes.io/component": "primary", "app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "postgresql-16.4.1",
	}
	spec := v1.PersistentVolumeClaimSpec{
		AccessModes:      []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
		StorageClassName: ptr.To("fast"),
		VolumeMode:       ptr.To(v1.PersistentVolumeFilesystem),
		Resources:        v1.VolumeResourceRequirements{Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse("8Gi")}},
	}
	applied := asJSON(v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespaceOf(n), Labels: labels}, Spec: spec})
	spec.VolumeName = pvName(n)
	fields := `{"f:metadata":{"f:annotations":{".":{},"f:kubectl.kubernetes.io/last-applied-configuration":{}},"f:labels":{".":{},` +
		`"f:app.kubernetes.io/component":{},"f:app.kubernetes.io/instance":{},"f:app.kubernetes.io/managed-by":{},"f:app.kubernetes.io/name":{},"f:helm.sh/chart":{}}},` +
		`"f:spec":{"f:accessModes":{},"f:resources":{"f:requests":{".":{},"f:storage":{}}},"f:storageClassName":{},"f:volumeMode":{}}}`
	return &v1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: namespaceOf(n), Labels: labels,
			Annotations: map[string]string{
				"kubectl.kubernetes.io/last-applied-configuration": string(applied),
				"pv.kubernetes.io/bind-completed":                  "yes",
				"pv.kubernetes.io/bound-by-controller":             "yes",
				"volume.beta.kubernetes.io/storage-provisioner":    foreignDriver,
				"volume.kubernetes.io/storage-provisioner":         foreignDriver,
				"volume.kubernetes.io/selected-node":               fmt.Sprintf("ip-10-0-%d-%d.eu-central-1.compute.internal", n/250%250, n%250),
			},
			ManagedFields: managed("kubectl-client-side-apply", fields),
		},
		Spec: spec,
	}
}

func foreignPV(n int, claim *v1.PersistentVolumeClaim) *v1.PersistentVolume {
	zone := map[string]string{"topology.kubernetes.io/region": "eu-central-1", "topology.kubernetes.io/zone": fmt.Sprintf("eu-central-1%c", 'a'+n%3)}
	var terms []v1.NodeSelectorRequirement
	for _, key := range []string{"topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology." + foreignDriver + "/zone"} {
		value := zone[key]
		if value == "" {
			value = zone["topology.kubernetes.io/zone"]
		}
		terms = append(terms, v1.NodeSelectorRequirement{Key: key, Operator: v1.NodeSelectorOpIn, Values: []string{value}})
	}
	labels := maps.Clone(zone)
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: pvName(n), Labels: labels,
			Annotations: map[string]string{
				"pv.kubernetes.io/bound-by-controller":                       "yes",
				"pv.kubernetes.io/provisioned-by":                            foreignDriver,
				"volume.kubernetes.io/provisioner-deletion-secret-name":      "",
				"volume.kubernetes.io/provisioner-deletion-secret-namespace": "",
			},
			Finalizers:    []string{"external-provisioner.volume.kubernetes.io/finalizer", "kubernetes.io/pv-protection", "external-attacher/" + "ebs-csi-foreign-example"},
			ManagedFields: managed("csi-attacher", `{"f:metadata":{"f:finalizers":{"v:\"external-attacher/ebs-csi-foreign-example\"":{}}}}`),
		},
		Spec: v1.PersistentVolumeSpec{
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      claim.Spec.Resources.Requests,
			ClaimRef:                      &v1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID, ResourceVersion: claim.ResourceVersion},
			PersistentVolumeReclaimPolicy: v1.PersistentVolumeReclaimDelete,
			StorageClassName:              "fast",
			VolumeMode:                    claim.Spec.VolumeMode,
			NodeAffinity:                  &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{MatchExpressions: terms}}}},
			PersistentVolumeSource: v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{
				Driver: foreignDriver, VolumeHandle: fmt.Sprintf("vol-0%016x", n), FSType: "ext4",
				VolumeAttributes: map[string]string{"storage.kubernetes.io/csiProvisionerIdentity": "1795418229824-6600-" + foreignDriver, "type": "gp3", "iops": "3000"},
			}},
		},
	}
}

func pvName(n int) string {
	return fmt.Sprintf("pvc-%08x-5b1f-4c2e-9d3a-7e64a1%06x", n*2654435761%(1<<32), n)
}

func managed(manager, fields string) []metav1.ManagedFieldsEntry {
	return []metav1.ManagedFieldsEntry{{
		Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: ptr.To(metav1.Now()),
		FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields),
	}}
}
