package integration

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// callsFor returns the CreateVolume calls for a claim whose volume has the usual
// name.
func callsFor(env *kit.Env, claim string) []faults.Call {
	return callsNamed(env, "pvc-"+string(env.Get(claim).UID))
}

func callsNamed(env *kit.Env, volume string) []faults.Call {
	var calls []faults.Call
	for _, call := range env.Faults.Calls("CreateVolume") {
		if call.Request.(*csi.CreateVolumeRequest).GetName() == volume {
			calls = append(calls, call)
		}
	}
	return calls
}

// requestFor returns the request of the only CreateVolume call for a claim.
func requestFor(t *testing.T, env *kit.Env, claim string) *csi.CreateVolumeRequest {
	t.Helper()
	calls := callsFor(env, claim)
	if len(calls) != 1 {
		t.Fatalf("there are %d CreateVolume calls for claim %q, want 1", len(calls), claim)
	}
	return calls[0].Request.(*csi.CreateVolumeRequest)
}

// unmarked returns an error if a claim carries a record, a part of one, or the
// protection of a source.
func unmarked(env *kit.Env, name string) error {
	claim, prefix := env.Get(name), strings.ToLower(env.DriverName)+"/"
	for _, finalizer := range claim.Finalizers {
		if finalizer != "kubernetes.io/pvc-protection" {
			return fmt.Errorf("claim %q has finalizer %s", name, finalizer)
		}
	}
	for key := range claim.Annotations {
		if strings.HasPrefix(key, prefix) {
			return fmt.Errorf("claim %q has annotation %s", name, key)
		}
	}
	if len(claim.OwnerReferences) > 0 {
		return fmt.Errorf("claim %q has owners %v", name, claim.OwnerReferences)
	}
	return nil
}

// field is one thing that is compared.
type field struct {
	name      string
	got, want any
}

func compare(t *testing.T, fields []field) {
	t.Helper()
	for _, f := range fields {
		if !reflect.DeepEqual(f.got, f.want) {
			t.Errorf("%s is %#v, want %#v", f.name, f.got, f.want)
		}
	}
}

func TestABlankClaimGetsTheVolumeItAskedFor(t *testing.T) {
	t.Parallel()
	env := kit.New(t,
		kit.Parameters(map[string]string{"csi.storage.k8s.io/fstype": "xfs", "tier": "fast"}),
		kit.ChangeClass(func(class *storagev1.StorageClass) { class.MountOptions = []string{"noatime", "nodiscard"} }))
	env.StartProvisioner()
	env.Create(env.Claim("data", kit.Size("1500001")))
	env.WaitBound("data")

	claim, pv, volume := env.Get("data"), env.PV("data"), env.Driver.Driver.Volumes()[0]
	size, identity := pv.Spec.Capacity[v1.ResourceStorage], pv.Spec.CSI.VolumeAttributes["storage.kubernetes.io/csiProvisionerIdentity"]
	compare(t, []field{
		{"name", pv.Name, "pvc-" + string(claim.UID)},
		{"finalizers", pv.Finalizers, []string{"external-provisioner.volume.kubernetes.io/finalizer", "kubernetes.io/pv-protection"}},
		{"annotations", pv.Annotations, map[string]string{
			"pv.kubernetes.io/provisioned-by":                            env.DriverName,
			"volume.kubernetes.io/provisioner-deletion-secret-name":      "",
			"volume.kubernetes.io/provisioner-deletion-secret-namespace": "",
		}},
		{"claimRef.kind", pv.Spec.ClaimRef.APIVersion + " " + pv.Spec.ClaimRef.Kind, "v1 PersistentVolumeClaim"},
		{"claimRef.name", pv.Spec.ClaimRef.Namespace + "/" + pv.Spec.ClaimRef.Name, env.Namespace + "/data"},
		{"claimRef.uid", pv.Spec.ClaimRef.UID, claim.UID},
		{"capacity, which the driver rounds up", size.String(), "2Mi"},
		{"capacity of the claim", claim.Status.Capacity.Storage().String(), "2Mi"},
		{"driver", pv.Spec.CSI.Driver, env.DriverName},
		{"handle", pv.Spec.CSI.VolumeHandle, volume.ID},
		{"file system", pv.Spec.CSI.FSType, "xfs"},
		{"read-only", pv.Spec.CSI.ReadOnly, false},
		{"number of attributes", len(pv.Spec.CSI.VolumeAttributes), 1},
		{"policy", pv.Spec.PersistentVolumeReclaimPolicy, v1.PersistentVolumeReclaimDelete},
		{"class", pv.Spec.StorageClassName, env.Class},
		{"access modes", pv.Spec.AccessModes, []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}},
		{"volume mode", *pv.Spec.VolumeMode, v1.PersistentVolumeFilesystem},
		{"mount options", pv.Spec.MountOptions, []string{"noatime", "nodiscard"}},
		{"owners", len(pv.OwnerReferences), 0},
	})
	if !regexp.MustCompile(`^\d+-\d+-` + regexp.QuoteMeta(env.DriverName) + `$`).MatchString(identity) {
		t.Errorf("the provisioner's identity is %q, want milliseconds-number-%s", identity, env.DriverName)
	}

	want := &csi.CreateVolumeRequest{
		Name:          pv.Name,
		CapacityRange: &csi.CapacityRange{RequiredBytes: 1500001},
		Parameters:    map[string]string{"tier": "fast"},
		VolumeCapabilities: []*csi.VolumeCapability{{
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER},
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: "xfs", MountFlags: []string{"noatime", "nodiscard"}}},
		}},
	}
	if got := requestFor(t, env, "data"); !proto.Equal(got, want) {
		t.Errorf("request is\n%v, want\n%v", got, want)
	}
	env.Eventually("the record is off", func() error { return unmarked(env, "data") })
	env.Eventually("the events of success are there, and no others", func() error {
		return heard(env, "data",
			told{"Normal", "Provisioning", fmt.Sprintf("External provisioner is provisioning volume for claim %q", env.Namespace+"/data")},
			told{"Normal", "ProvisioningSucceeded", "Successfully provisioned volume " + pv.Name})
	})
}

func TestABlockClaimGetsABlockVolume(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.Parameters(map[string]string{"csi.storage.k8s.io/fstype": "xfs"}))
	env.StartProvisioner("--default-fstype=ext4")
	env.Create(env.Claim("data", kit.Block()))
	env.WaitBound("data")
	pv, capabilities := env.PV("data"), requestFor(t, env, "data").GetVolumeCapabilities()
	compare(t, []field{
		{"volume mode", *pv.Spec.VolumeMode, v1.PersistentVolumeBlock},
		{"file system", pv.Spec.CSI.FSType, ""},
		{"number of capabilities", len(capabilities), 1},
		{"block access is asked for", capabilities[0].GetBlock() != nil, true},
	})
}

func TestAccessModesAreTranslatedForTheDriver(t *testing.T) {
	t.Parallel()
	type mode = csi.VolumeCapability_AccessMode_Mode
	modes := []struct {
		name          string
		claim         []v1.PersistentVolumeAccessMode
		knows, ignore []mode // by a driver that knows SINGLE_NODE_MULTI_WRITER, and one that does not
	}{
		{"rwo", []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
			[]mode{csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER}, []mode{csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}},
		{"rwop", []v1.PersistentVolumeAccessMode{v1.ReadWriteOncePod},
			[]mode{csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER}, []mode{csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}},
		{"rox", []v1.PersistentVolumeAccessMode{v1.ReadOnlyMany},
			[]mode{csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY}, []mode{csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY}},
		{"rwx", []v1.PersistentVolumeAccessMode{v1.ReadWriteMany},
			[]mode{csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER}, []mode{csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER}},
		{"rwo-rox", []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce, v1.ReadOnlyMany},
			[]mode{csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER, csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY},
			[]mode{csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY}},
	}
	for name, multiWriter := range map[string]bool{
		"the driver knows single node multi writer":   true,
		"the driver ignores single node multi writer": false,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := kit.New(t, kit.DriverConfig(func(config *demodriver.Config) {
				if !multiWriter {
					config.Without = []csi.ControllerServiceCapability_RPC_Type{csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER}
				}
			}))
			env.StartProvisioner()
			for _, m := range modes {
				env.Create(env.Claim(m.name, kit.Modes(m.claim...)))
			}
			for _, m := range modes {
				env.WaitBound(m.name)
				want := m.ignore
				if multiWriter {
					want = m.knows
				}
				var got []mode
				for _, capability := range requestFor(t, env, m.name).GetVolumeCapabilities() {
					got = append(got, capability.GetAccessMode().GetMode())
				}
				compare(t, []field{
					{"CSI access modes of " + m.name, got, want},
					{"access modes of the PV of " + m.name, env.PV(m.name).Spec.AccessModes, m.claim},
				})
			}
		})
	}
}

func TestAClaimThatIsDeletedTakesItsVolumeWithIt(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner()
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	pv := env.PV("data")
	env.Delete("data")
	env.WaitGone("data")
	env.WaitPVGone(pv.Name)
	if err := volumes(env, 0); err != nil {
		t.Error(err)
	}
	calls := env.Faults.Calls("DeleteVolume")
	if len(calls) != 1 {
		t.Fatalf("there are %d DeleteVolume calls, want 1", len(calls))
	}
	if got := calls[0].Request.(*csi.DeleteVolumeRequest).GetVolumeId(); got != pv.Spec.CSI.VolumeHandle {
		t.Errorf("volume %q was deleted, want %q", got, pv.Spec.CSI.VolumeHandle)
	}
}

func TestARetainedVolumeStaysUntilItsPolicyIsChanged(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.ReclaimPolicy(v1.PersistentVolumeReclaimRetain))
	env.StartProvisioner()
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	name := env.PV("data").Name
	env.Delete("data")
	env.WaitGone("data")
	pvs := env.Admin.CoreV1().PersistentVolumes()
	env.Eventually("the PV is Released", func() error {
		pv, err := pvs.Get(env.Ctx, name, metav1.GetOptions{})
		if err == nil && pv.Status.Phase != v1.VolumeReleased {
			err = fmt.Errorf("it is %s", pv.Status.Phase)
		}
		return err
	})
	env.Steadily("the volume is kept", time.Second, func() error {
		if n := len(env.Faults.Calls("DeleteVolume")); n > 0 {
			return fmt.Errorf("there are %d DeleteVolume calls", n)
		}
		return volumes(env, 1)
	})

	pv, err := pvs.Get(env.Ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pv.Spec.PersistentVolumeReclaimPolicy = v1.PersistentVolumeReclaimDelete
	if _, err := pvs.Update(env.Ctx, pv, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	env.WaitPVGone(name)
	if n := len(env.Faults.Calls("DeleteVolume")); n != 1 {
		t.Errorf("there are %d DeleteVolume calls, want 1", n)
	}
}

func TestADelayedClaimStartsWhenItsNodeIsSelected(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]kit.ClaimOption{
		"as the PV controller leaves it":             nil,
		"given to the driver before a node is known": {kit.Annotation("volume.kubernetes.io/storage-provisioner", "")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := kit.New(t, kit.WaitForFirstConsumer())
			p := env.StartProvisioner()
			claim := env.Claim("data", options...)
			if len(options) > 0 {
				claim.Annotations["volume.kubernetes.io/storage-provisioner"] = env.DriverName
			}
			env.Create(claim)
			env.WaitEvent("data", "WaitForFirstConsumer")
			if len(options) > 0 {
				env.Eventually("the claim was judged", func() error { return judged(p, env, "data", 1) })
			}
			env.Steadily("nothing happens", time.Second, func() error {
				if n := len(env.Faults.Calls("CreateVolume")); n > 0 {
					return fmt.Errorf("there are %d CreateVolume calls", n)
				}
				if err := heard(env, "data"); err != nil {
					return err
				}
				return unmarked(env, "data")
			})

			env.Update("data", kit.SelectedNode("node-1"))
			env.WaitBound("data")
			requestFor(t, env, "data")
		})
	}
}

func TestFlagsShapeTheRequest(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.CreateClass(env.Class+"-xfs", func(class *storagev1.StorageClass) {
		class.Parameters = map[string]string{"csi.storage.k8s.io/fstype": "xfs"}
	})
	env.CreateClass(env.Class+"-old", func(class *storagev1.StorageClass) {
		class.Parameters = map[string]string{"fsType": "btrfs"}
	})
	env.StartProvisioner("--volume-name-prefix=vol", "--volume-name-uuid-length=8", "--default-fstype=ext4",
		"--extra-create-metadata", "--controller-publish-readonly")
	cases := []struct {
		claim, fsType string
		readOnly      bool
		options       []kit.ClaimOption
		parameters    map[string]string
	}{
		{claim: "plain", fsType: "ext4"},
		{claim: "class-with-fstype", fsType: "xfs", options: []kit.ClaimOption{kit.Class(env.Class + "-xfs")}},
		{claim: "class-with-old-fstype", fsType: "btrfs", options: []kit.ClaimOption{kit.Class(env.Class + "-old")},
			parameters: map[string]string{"fsType": "btrfs"}},
		{claim: "read-only", fsType: "ext4", readOnly: true, options: []kit.ClaimOption{kit.Modes(v1.ReadOnlyMany)}},
		{claim: "read-only-and-more", fsType: "ext4", options: []kit.ClaimOption{kit.Modes(v1.ReadOnlyMany, v1.ReadWriteOnce)}},
	}
	for _, c := range cases {
		env.Create(env.Claim(c.claim, c.options...))
	}
	for _, c := range cases {
		env.WaitBound(c.claim)
		pv := env.PV(c.claim)
		calls := callsNamed(env, pv.Name)
		if len(calls) != 1 {
			t.Fatalf("there are %d CreateVolume calls for %q, want 1", len(calls), pv.Name)
		}
		request := calls[0].Request.(*csi.CreateVolumeRequest)
		parameters := map[string]string{
			"csi.storage.k8s.io/pvc/name":      c.claim,
			"csi.storage.k8s.io/pvc/namespace": env.Namespace,
			"csi.storage.k8s.io/pv/name":       pv.Name,
		}
		for key, value := range c.parameters {
			parameters[key] = value
		}
		compare(t, []field{
			{c.claim + ": PV name", pv.Name, "vol-" + strings.ReplaceAll(string(env.Get(c.claim).UID), "-", "")[:8]},
			{c.claim + ": file system asked for", request.GetVolumeCapabilities()[0].GetMount().GetFsType(), c.fsType},
			{c.claim + ": file system of the PV", pv.Spec.CSI.FSType, c.fsType},
			{c.claim + ": PV is read-only", pv.Spec.CSI.ReadOnly, c.readOnly},
			{c.claim + ": parameters", request.GetParameters(), parameters},
		})
	}
}
