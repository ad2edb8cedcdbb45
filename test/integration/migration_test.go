package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// TestADriverThatTookOverAnInTreePlugin needs a driver of a certain name, so it has a
// cluster of its own, and its parts run one after the other and leave nothing behind.
func TestADriverThatTookOverAnInTreePlugin(t *testing.T) { //nolint:tparallel // its parts share the name of a driver
	t.Parallel()
	oneByOne(t, kit.StartCluster(t, cluster.Options{AuditLog: true}), []part{
		{"a class of the plugin is provisioned, cloned and deleted", inTreeLife},
		{"a PV from before the migration is a source and is deleted", inTreePVOfOld},
		{"both kinds of classes clone each other's volumes", inTreeAndCSI},
		{"a PV that cannot be one of the plugin leaves no volume", inTreePVFails},
		{"a class that cannot be translated is refused", inTreeClassRefused},
		{"a volume whose claim was deleted is cleaned up after a restart", inTreeCleanUp},
		{"a volume that is attached is not deleted", inTreeAttached},
		{"claims that were given to the plugin", inTreeGiven},
		{"claims of other plugins are left alone", inTreeOthers},
		{"a snapshot is restored in a class of the plugin", inTreeRestore}, // the last: it installs the kinds
	})
}

// part of a test.
type part struct {
	name string
	try  func(*testing.T, *kit.Env)
}

// oneByOne runs the parts with a driver that took over a plugin, in a class of the plugin.
func oneByOne(t *testing.T, world *kit.World, parts []part) {
	t.Helper()
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) {
			p.try(t, kit.New(t, kit.On(world),
				kit.DriverName(func(string) string { return kit.EBS }),
				kit.ChangeClass(func(class *storagev1.StorageClass) {
					class.Provisioner = kit.EBSInTree
					class.Parameters = map[string]string{"fsType": "xfs", "type": "gp3", "iopsPerGB": "10"}
					class.MountOptions = []string{"noatime"}
				})))
		})
	}
}

// ebs returns the volume that a PV of the plugin names.
func ebs(t *testing.T, env *kit.Env, claim string) string {
	t.Helper()
	pv := env.PV(claim)
	if pv.Spec.AWSElasticBlockStore == nil || pv.Spec.CSI != nil {
		t.Fatalf("PV %q of claim %q is not one of the in-tree plugin: %+v", pv.Name, claim, pv.Spec.PersistentVolumeSource)
	}
	return pv.Spec.AWSElasticBlockStore.VolumeID
}

// ebsCSI creates a class of the CSI driver and returns its name.
func ebsCSI(env *kit.Env, changes ...func(*storagev1.StorageClass)) string {
	return env.CreateClass(env.Class+"-csi", changes...).Name
}

// deletedOnce checks that the driver was asked once to delete each volume.
func deletedOnce(t *testing.T, env *kit.Env, handles ...string) {
	t.Helper()
	var got []string
	for _, call := range env.Faults.Calls("DeleteVolume") {
		got = append(got, call.Request.(*csi.DeleteVolumeRequest).GetVolumeId())
	}
	slices.Sort(got)
	slices.Sort(handles)
	if !slices.Equal(got, handles) {
		t.Errorf("volumes %v were deleted, want each of %v once", got, handles)
	}
}

// counted returns how many calls the metrics show.
func counted(p *kit.Provisioner, method, migrated string) float64 {
	return p.Metric("csi_sidecar_operations_seconds_count",
		"method_name", "/csi.v1.Controller/"+method, "driver_name", kit.EBS, "migrated", migrated)
}

func inTreeLife(t *testing.T, env *kit.Env) {
	p := freeSource(t, env)
	claim, pv, volume := env.Get("src"), env.PV("src"), ebs(t, env, "src")
	req := requestFor(t, env, "src")
	mount := req.GetVolumeCapabilities()[0].GetMount()
	compare(t, []field{
		// The PV controller translates the name; older ones wrote that of the plugin, and
		// the annotation migrated-to.
		{"provisioner of the claim", claim.Annotations["volume.kubernetes.io/storage-provisioner"], kit.EBS},
		{"provisioned-by of the PV", pv.Annotations["pv.kubernetes.io/provisioned-by"], kit.EBSInTree},
		{"migrated-to of the PV", pv.Annotations["pv.kubernetes.io/migrated-to"], kit.EBS},
		{"file system of the PV", pv.Spec.AWSElasticBlockStore.FSType, "xfs"},
		{"mount options of the PV", pv.Spec.MountOptions, []string{"noatime"}},
		{"class of the PV", pv.Spec.StorageClassName, env.Class},
		{"file system of the request", mount.GetFsType(), "xfs"},
		{"mount options of the request", mount.GetMountFlags(), []string{"noatime"}},
		{"parameters", req.GetParameters(), map[string]string{"type": "gp3", "iopsPerGB": "10", "allowautoiopspergbincrease": "true"}},
	})
	if !slices.Contains(pv.Finalizers, "external-provisioner.volume.kubernetes.io/finalizer") {
		t.Errorf("finalizers of the PV are %v", pv.Finalizers)
	}
	hearAll(env, "src", made(env, "src")...)

	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitBound("copy")
	sameContent(t, env, "copy", "src")
	copied := ebs(t, env, "copy")
	if got := requestFor(t, env, "copy").GetVolumeContentSource().GetVolume().GetVolumeId(); got != volume {
		t.Errorf("content source is %q, want %q", got, volume)
	}
	hearAll(env, "copy", made(env, "copy")...)

	leave(env, "copy", "src")
	deletedOnce(t, env, volume, copied)
	noComplaints(t, env, pv.Name)
	compare(t, []field{
		{"CreateVolume calls counted as migrated", counted(p, "CreateVolume", "true"), 2.0},
		{"CreateVolume calls counted as others", counted(p, "CreateVolume", "false"), 0.0},
		{"DeleteVolume calls counted as migrated", counted(p, "DeleteVolume", "true"), 2.0},
		{"DeleteVolume calls counted as others", counted(p, "DeleteVolume", "false"), 0.0},
	})
}

// inTreePVOfOld is about PVs that the PV controller once made itself.
func inTreePVOfOld(t *testing.T, env *kit.Env) {
	env.StartProvisioner(noBackOff, noBackOffMax)
	retaining := ebsCSI(env, func(class *storagev1.StorageClass) { class.ReclaimPolicy = ptr.To(v1.PersistentVolumeReclaimRetain) })
	env.Create(env.Claim("first", kit.Class(retaining)))
	env.WaitBound("first")
	env.WriteFile("first", "file", []byte("from before the migration"))
	made := env.PV("first")
	volume := made.Spec.CSI.VolumeHandle
	env.Delete("first")
	env.WaitGone("first")
	if err := env.Admin.CoreV1().PersistentVolumes().Delete(env.Ctx, made.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	env.WaitPVGone(made.Name)

	pv := &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: env.Namespace + "-old", Labels: map[string]string{"topology.kubernetes.io/zone": "us-east-1a"},
			Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": kit.EBSInTree},
		},
		Spec: v1.PersistentVolumeSpec{
			AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}, Capacity: made.Spec.Capacity,
			StorageClassName: env.Class, PersistentVolumeReclaimPolicy: v1.PersistentVolumeReclaimDelete,
			PersistentVolumeSource: v1.PersistentVolumeSource{AWSElasticBlockStore: &v1.AWSElasticBlockStoreVolumeSource{
				VolumeID: "aws://us-east-1a/" + volume, FSType: "ext4",
			}},
		},
	}
	if _, err := env.Admin.CoreV1().PersistentVolumes().Create(env.Ctx, pv, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	src := env.Claim("src")
	src.Spec.VolumeName = pv.Name
	env.Create(src)
	env.WaitBound("src")
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitBound("copy")
	sameContent(t, env, "copy", "src")
	if got := requestFor(t, env, "copy").GetVolumeContentSource().GetVolume().GetVolumeId(); got != volume {
		t.Errorf("content source is %q, want %q", got, volume)
	}
	copied := ebs(t, env, "copy")
	env.Eventually("the PV is ours to delete", func() error {
		pv := env.PV("src")
		if pv.Annotations["pv.kubernetes.io/migrated-to"] != kit.EBS || !slices.Contains(pv.Finalizers, "external-provisioner.volume.kubernetes.io/finalizer") {
			return fmt.Errorf("its annotations are %v, its finalizers %v", pv.Annotations, pv.Finalizers)
		}
		return nil
	})
	leave(env, "src", "copy")
	deletedOnce(t, env, volume, copied)
	noComplaints(t, env, pv.Name)
}

// noComplaints checks that nobody, the PV controller least of all, has told anything
// wrong about a PV.
func noComplaints(t *testing.T, env *kit.Env, pv string) {
	t.Helper()
	list, err := env.Admin.CoreV1().Events("").List(env.Ctx, metav1.ListOptions{FieldSelector: "involvedObject.kind=PersistentVolume,involvedObject.name=" + pv})
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range list.Items {
		t.Errorf("PV %q: %s %s: %s", pv, event.Type, event.Reason, event.Message)
	}
}

// inTreeRestore: the snapshotter takes snapshots of CSI volumes only.
func inTreeRestore(t *testing.T, env *kit.Env) {
	env.InstallSnapshots()
	env.StartSnapshotter()
	env.StartProvisioner(noBackOff, noBackOffMax)
	env.Create(env.Claim("src", kit.Class(ebsCSI(env))))
	env.WaitBound("src")
	env.WriteFile("src", "file", []byte("content of monday"))
	env.TakeSnapshot("monday", "src")
	env.WaitSnapshot("monday")
	env.Create(env.Claim("data", kit.RestoreOf("monday")))
	env.WaitBound("data")
	sameContent(t, env, "data", "src")
	ebs(t, env, "data")
	hearAll(env, "data", made(env, "data")...)
	leave(env, "data", "src")
}

func inTreeAndCSI(t *testing.T, env *kit.Env) {
	p := freeSource(t, env, "--clone-policy=compatible")
	class := ebsCSI(env)
	env.Create(env.Claim("copy", kit.Class(class), kit.CloneOf("src")))
	env.WaitBound("copy")
	pv := env.PV("copy")
	if pv.Spec.CSI == nil || pv.Annotations["pv.kubernetes.io/provisioned-by"] != kit.EBS {
		t.Errorf("PV in the CSI class: %v, %+v", pv.Annotations, pv.Spec.PersistentVolumeSource)
	}
	env.Create(env.Claim("copy-of-copy", kit.CloneOf("copy")))
	env.WaitBound("copy-of-copy")
	sameContent(t, env, "copy-of-copy", "src")
	ebs(t, env, "copy-of-copy")
	leave(env, "src", "copy", "copy-of-copy")
	compare(t, []field{
		{"CreateVolume calls counted as migrated", counted(p, "CreateVolume", "true"), 2.0},
		{"CreateVolume calls counted as others", counted(p, "CreateVolume", "false"), 1.0},
		{"DeleteVolume calls counted as migrated", counted(p, "DeleteVolume", "true"), 2.0},
		{"DeleteVolume calls counted as others", counted(p, "DeleteVolume", "false"), 1.0},
	})
}

// inTreePVFails: the plugin knows partitions by number only.
func inTreePVFails(t *testing.T, env *kit.Env) {
	env.StartProvisioner("--retry-interval-start=1s", "--retry-interval-max=1s")
	rule := env.Faults.On("CreateVolume").MutateReply(faults.Reply(func(resp *csi.CreateVolumeResponse) {
		resp.Volume.VolumeContext = map[string]string{"partition": "the first"}
	}))
	env.Create(env.Claim("data"))
	event := env.WaitEvent("data", "ProvisioningFailed")
	for _, want := range []string{`driver "ebs.csi.aws.com" made volume`, `cannot be made one of in-tree plugin "kubernetes.io/aws-ebs"`, "the first", "the volume was deleted, and it is tried again"} {
		if !strings.Contains(event.Message, want) {
			t.Errorf("event %q does not say %q", event.Message, want)
		}
	}
	env.Eventually("it was tried again", func() error {
		if n := rule.Hits(); n < 2 {
			return fmt.Errorf("%d tries", n)
		}
		return nil
	})
	env.Delete("data")
	env.WaitGone("data")
	if err := env.Faults.WaitIdle(env.Ctx); err != nil {
		t.Fatal(err)
	}
	if err := volumes(env, 0); err != nil {
		t.Error(err)
	}
	if created, deleted := len(env.Faults.Calls("CreateVolume")), len(env.Faults.Calls("DeleteVolume")); created != deleted {
		t.Errorf("%d volumes were made, and %d deleted", created, deleted)
	}
	rule.Remove()
	env.Create(env.Claim("later"))
	env.WaitBound("later")
	leave(env, "later")
}

func inTreeClassRefused(t *testing.T, env *kit.Env) {
	env.StartProvisioner(noBackOff, noBackOffMax)
	name := env.Class + "-zones"
	change := func(zone string) func(*storagev1.StorageClass) {
		return func(class *storagev1.StorageClass) {
			class.Provisioner, class.Parameters = kit.EBSInTree, map[string]string{"type": "gp3"}
			if zone != "" {
				class.Parameters["zone"] = zone
			}
			class.AllowedTopologies = []v1.TopologySelectorTerm{{MatchLabelExpressions: []v1.TopologySelectorLabelRequirement{
				{Key: "topology.kubernetes.io/zone", Values: []string{"us-east-1a"}},
			}}}
		}
	}
	env.CreateClass(name, change("us-east-1a"))
	env.Create(env.Claim("data", kit.Class(name)))
	refused := told{"Warning", "InvalidStorageClass", fmt.Sprintf(
		`StorageClass %q is one of in-tree plugin "kubernetes.io/aws-ebs", and cannot be translated for CSI driver "ebs.csi.aws.com": cannot simultaneously set allowed topologies and zone/zones parameters; correct the class`, name)}
	hearAll(env, "data", refused)
	if err := unmarked(env, "data"); err != nil {
		t.Error(err)
	}
	if err := env.Admin.StorageV1().StorageClasses().Delete(env.Ctx, name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	env.CreateClass(name, change(""))
	env.WaitBound("data")
	leave(env, "data")
}

func inTreeCleanUp(t *testing.T, env *kit.Env) {
	p := env.StartProvisioner(alone)
	env.Faults.On("CreateVolume").Nth(1).LoseReplyAs(codes.DeadlineExceeded, "too late")
	gate := env.Faults.On("CreateVolume").Nth(2).Gate()
	env.Create(env.Claim("data"))
	await(t, gate.Entered(), "the driver is called again")
	p.Kill()
	gate.Release()
	env.Delete("data")
	env.StartProvisioner(alone)
	env.WaitGone("data")
	env.Eventually("no volume is left", func() error { return volumes(env, 0) })
}

func inTreeAttached(t *testing.T, env *kit.Env) {
	publishes(env)
	env.StartProvisioner(noBackOff, noBackOffMax)
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	pv := env.PV("data").Name
	attachment := env.Attach(pv, "a")
	env.Delete("data")
	waitPVEvent(env, pv, "VolumeFailedDelete", "is still attached to node", "it is deleted when that is gone")
	env.Detach(attachment)
	env.WaitPVGone(pv)
	if n := len(env.Faults.Calls("DeleteVolume")); n != 1 {
		t.Errorf("the driver was asked %d times", n)
	}
}

// inTreeGiven is about what older PV controllers wrote onto claims, which then waited for
// their first consumer. Today's rewrites it only when they have one.
func inTreeGiven(t *testing.T, env *kit.Env) {
	const provisioner = "volume.kubernetes.io/storage-provisioner"
	p := env.StartProvisioner(noBackOff, noBackOffMax)
	class := env.CreateClass(env.Class+"-later", func(class *storagev1.StorageClass) {
		class.Provisioner, class.VolumeBindingMode = kit.EBSInTree, ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)
	})
	env.Create(env.Claim("data", kit.Class(class.Name), kit.Annotation(provisioner, kit.EBSInTree)))
	env.Eventually("the PV controller says that the claim was migrated", func() error {
		if claim := env.Get("data"); claim.Annotations["pv.kubernetes.io/migrated-to"] != kit.EBS || claim.Annotations[provisioner] != kit.EBSInTree {
			return fmt.Errorf("its annotations are %v", claim.Annotations)
		}
		return nil
	})
	env.Eventually("the claim is judged", func() error { return judged(p, env, "data", 1) })
	if err := unmarked(env, "data"); err != nil {
		t.Error(err)
	}
	env.Update("data", func(claim *v1.PersistentVolumeClaim) {
		claim.Annotations["volume.kubernetes.io/selected-node"] = "node-a"
	})
	env.WaitBound("data")
	ebs(t, env, "data")
	leave(env, "data")
}

// inTreeOthers is about a plugin that another driver took over.
func inTreeOthers(t *testing.T, env *kit.Env) {
	env.StartProvisioner(noBackOff, noBackOffMax)
	class := env.CreateClass(env.Class+"-other", func(class *storagev1.StorageClass) { class.Provisioner = "kubernetes.io/gce-pd" })
	env.Create(env.Claim("other", kit.Class(class.Name)))
	env.Eventually("the PV controller has looked at the claim", func() error {
		if claim := env.Get("other"); claim.Annotations["volume.kubernetes.io/storage-provisioner"] != "pd.csi.storage.gke.io" {
			return fmt.Errorf("its annotations are %v", claim.Annotations)
		}
		return nil
	})
	env.Steadily("nothing is done", time.Second, func() error {
		if n := len(env.Faults.Calls("CreateVolume")); n != 0 {
			return fmt.Errorf("the driver was called %d times", n)
		}
		return unmarked(env, "other")
	})
	env.Delete("other")
	env.WaitGone("other")
}
