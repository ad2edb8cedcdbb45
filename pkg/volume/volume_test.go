package volume_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/volume"
)

const driver = "clone.example.com"

func fromVolume(handle string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: handle},
	}}
}

func fromSnapshot(handle string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: handle},
	}}
}

func capability(mode csi.VolumeCapability_AccessMode_Mode, fsType string) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fsType}},
	}
}

func TestCheck(t *testing.T) {
	const (
		asked = 10 << 30
		fault = "; this is a fault of the driver"
		none  = "the driver's reply to CreateVolume names no volume (volume_id is empty)" + fault
	)
	for _, c := range []struct {
		name string
		from *csi.VolumeContentSource
		made *csi.Volume
		// want is the error's text; empty for none.
		want string
	}{
		{"a blank volume of the right size", nil, &csi.Volume{VolumeId: "v", CapacityBytes: asked}, ""},
		{"a larger volume", nil, &csi.Volume{VolumeId: "v", CapacityBytes: asked + 1}, ""},
		{"a volume of unknown size", nil, &csi.Volume{VolumeId: "v"}, ""},
		{"a volume one byte too small", nil, &csi.Volume{VolumeId: "v", CapacityBytes: asked - 1}, `the driver made volume "v" with 10737418239 bytes, but at least 10737418240 were asked for` + fault},
		{"a volume of negative size", nil, &csi.Volume{VolumeId: "v", CapacityBytes: -1}, `the driver made volume "v" with -1 bytes, but at least 10737418240 were asked for` + fault},
		{"no volume", nil, nil, none},
		{"a volume without a name", nil, &csi.Volume{CapacityBytes: asked}, none},
		{"a blank volume that names a source nobody asked for", nil, &csi.Volume{VolumeId: "v", ContentSource: fromVolume("x")}, ""},
		{"a clone that echoes its source", fromVolume("db"), &csi.Volume{VolumeId: "v", ContentSource: fromVolume("db")}, ""},
		{"a clone without an echo", fromVolume("db"), &csi.Volume{VolumeId: "v"}, `the driver made volume "v" without confirming that it was copied from volume "db" (no content_source in its reply)` + fault},
		{"a clone of something else", fromVolume("db"), &csi.Volume{VolumeId: "v", ContentSource: fromVolume("web")}, `the driver says that it copied volume "v" from volume "web", but volume "db" was asked for` + fault},
		{"a clone with an empty echo", fromVolume("db"), &csi.Volume{VolumeId: "v", ContentSource: &csi.VolumeContentSource{}}, `the driver says that it copied volume "v" from volume "", but volume "db" was asked for` + fault},
		{"a snapshot of the volume's name is no volume", fromVolume("db"), &csi.Volume{VolumeId: "v", ContentSource: fromSnapshot("db")}, `the driver says that it copied volume "v" from snapshot "db", but volume "db" was asked for` + fault},
		{"a restore that echoes its snapshot", fromSnapshot("s"), &csi.Volume{VolumeId: "v", ContentSource: fromSnapshot("s")}, ""},
		{"a restore without an echo", fromSnapshot("s"), &csi.Volume{VolumeId: "v"}, `the driver made volume "v" without confirming that it was copied from snapshot "s" (no content_source in its reply)` + fault},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := &csi.CreateVolumeRequest{CapacityRange: &csi.CapacityRange{RequiredBytes: asked}, VolumeContentSource: c.from}
			err := volume.Check(req, &csi.CreateVolumeResponse{Volume: c.made})
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != c.want {
				t.Errorf("got  %q\nwant %q", text, c.want)
			}
			if nothing := c.made.GetVolumeId() == ""; errors.Is(err, volume.ErrNoVolume) != nothing {
				t.Errorf("there is nothing to delete: %t, but the error is %v", nothing, err)
			}
		})
	}
}

func TestCheckOfNoReply(t *testing.T) {
	if err := volume.Check(&csi.CreateVolumeRequest{}, nil); !errors.Is(err, volume.ErrNoVolume) {
		t.Errorf("got %v", err)
	}
}

func input() volume.Input {
	return volume.Input{
		Claim: &v1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "copy", UID: "uid-copy", ResourceVersion: "42"},
			Spec:       v1.PersistentVolumeClaimSpec{AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}},
		},
		Class: &storagev1.StorageClass{
			ObjectMeta:    metav1.ObjectMeta{Name: "fast"},
			Provisioner:   driver,
			ReclaimPolicy: new(v1.PersistentVolumeReclaimDelete),
			MountOptions:  []string{"noatime"},
		},
		Driver:        driver,
		Identity:      "host-1",
		ReclaimPolicy: v1.PersistentVolumeReclaimDelete,
		Request: &csi.CreateVolumeRequest{
			Name:               "pvc-1",
			CapacityRange:      &csi.CapacityRange{RequiredBytes: 10 << 30},
			VolumeCapabilities: []*csi.VolumeCapability{capability(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, "xfs")},
		},
		Response: &csi.CreateVolumeResponse{Volume: &csi.Volume{
			VolumeId: "handle-1", CapacityBytes: 12 << 30, VolumeContext: map[string]string{"pool": "ssd"},
		}},
	}
}

func TestBuild(t *testing.T) {
	want := &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:       "pvc-1",
			Finalizers: []string{"external-provisioner.volume.kubernetes.io/finalizer"},
			Annotations: map[string]string{
				"pv.kubernetes.io/provisioned-by":                            driver,
				"volume.kubernetes.io/provisioner-deletion-secret-name":      "",
				"volume.kubernetes.io/provisioner-deletion-secret-namespace": "",
			},
		},
		Spec: v1.PersistentVolumeSpec{
			AccessModes:                   []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
			MountOptions:                  []string{"noatime"},
			Capacity:                      v1.ResourceList{v1.ResourceStorage: resource.MustParse("12Gi")},
			StorageClassName:              "fast",
			PersistentVolumeReclaimPolicy: v1.PersistentVolumeReclaimDelete,
			ClaimRef: &v1.ObjectReference{
				Kind: "PersistentVolumeClaim", APIVersion: "v1",
				Namespace: "shop", Name: "copy", UID: "uid-copy", ResourceVersion: "42",
			},
			PersistentVolumeSource: v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{
				Driver: driver, VolumeHandle: "handle-1", FSType: "xfs",
				VolumeAttributes: map[string]string{"storage.kubernetes.io/csiProvisionerIdentity": "host-1", "pool": "ssd"},
			}},
		},
	}
	in := input()
	pv := volume.Build(in)
	quantity := pv.Spec.Capacity[v1.ResourceStorage]
	if got := quantity.String(); got != "12Gi" {
		t.Errorf("capacity is %s, want 12Gi", got)
	}
	pv.Spec.Capacity = want.Spec.Capacity // compared above: a quantity has many forms
	if !reflect.DeepEqual(pv, want) {
		t.Errorf("got  %+v\nwant %+v", pv, want)
	}
	if len(in.Response.GetVolume().GetVolumeContext()) != 1 {
		t.Errorf("the driver's reply was changed: %v", in.Response)
	}
}

func TestReclaimPolicy(t *testing.T) {
	const retain, remove, unknown = v1.PersistentVolumeReclaimRetain, v1.PersistentVolumeReclaimDelete, v1.PersistentVolumeReclaimPolicy("")
	classOf := func(policy v1.PersistentVolumeReclaimPolicy) *storagev1.StorageClass {
		return &storagev1.StorageClass{ReclaimPolicy: &policy}
	}
	for _, c := range []struct {
		name                 string
		recorded, remembered v1.PersistentVolumeReclaimPolicy
		class                *storagev1.StorageClass
		want                 v1.PersistentVolumeReclaimPolicy
	}{
		{"the class says Delete", unknown, unknown, classOf(remove), remove},
		{"the class says Retain", unknown, unknown, classOf(retain), retain},
		{"the class says neither", unknown, unknown, &storagev1.StorageClass{}, retain},
		{"Delete on record", remove, unknown, classOf(remove), remove},
		{"Retain on record is stricter than the class", retain, unknown, classOf(remove), retain},
		{"Delete on record does not weaken the class", remove, unknown, classOf(retain), retain},
		{"nonsense on record counts as nothing", "delete", unknown, classOf(remove), remove},
		{"the class was recreated with Delete", unknown, retain, classOf(remove), retain},
		{"the class was recreated with Retain", unknown, remove, classOf(retain), retain},
		{"the class is gone, this process has read it", unknown, remove, nil, remove},
		{"the class is gone, this process has read Retain", remove, retain, nil, retain},
		{"the class is gone, Retain on record", retain, remove, nil, retain},
		{"the class is gone, only the record says Delete", remove, unknown, nil, retain},
		{"nothing is known", unknown, unknown, nil, retain},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := volume.ReclaimPolicy(c.recorded, c.remembered, c.class); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestBuildDetails(t *testing.T) {
	readers := []*csi.VolumeCapability{capability(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY, "xfs")}
	for _, c := range []struct {
		name   string
		change func(*volume.Input)
		holds  func(*v1.PersistentVolume) bool
	}{
		{
			"a reply without capacity means what was asked for",
			func(in *volume.Input) { in.Response.Volume.CapacityBytes = 0 },
			func(pv *v1.PersistentVolume) bool { return pv.Spec.Capacity.Storage().Value() == 10<<30 },
		},
		{
			"an odd capacity is kept to the byte",
			func(in *volume.Input) { in.Response.Volume.CapacityBytes = 10<<30 + 1 },
			func(pv *v1.PersistentVolume) bool { return pv.Spec.Capacity.Storage().Value() == 10<<30+1 },
		},
		{
			"a block volume has no file system",
			func(in *volume.Input) {
				in.Claim.Spec.VolumeMode = new(v1.PersistentVolumeBlock)
				in.Request.VolumeCapabilities[0].AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
			},
			func(pv *v1.PersistentVolume) bool {
				return pv.Spec.CSI.FSType == "" && *pv.Spec.VolumeMode == v1.PersistentVolumeBlock
			},
		},
		{
			"the reclaim policy is not simply that of the class",
			func(in *volume.Input) { in.ReclaimPolicy = v1.PersistentVolumeReclaimRetain },
			func(pv *v1.PersistentVolume) bool {
				return pv.Spec.PersistentVolumeReclaimPolicy == v1.PersistentVolumeReclaimRetain
			},
		},
		{
			"a reply without attributes still says who made it",
			func(in *volume.Input) { in.Response.Volume.VolumeContext = nil },
			func(pv *v1.PersistentVolume) bool {
				return reflect.DeepEqual(pv.Spec.CSI.VolumeAttributes, map[string]string{"storage.kubernetes.io/csiProvisionerIdentity": "host-1"})
			},
		},
		{
			"readers only are not marked unless asked for",
			func(in *volume.Input) { in.Request.VolumeCapabilities = readers },
			func(pv *v1.PersistentVolume) bool { return !pv.Spec.CSI.ReadOnly },
		},
		{
			"readers only are marked if asked for",
			func(in *volume.Input) { in.PublishReadOnly, in.Request.VolumeCapabilities = true, readers },
			func(pv *v1.PersistentVolume) bool { return pv.Spec.CSI.ReadOnly },
		},
		{
			"readers among writers are not marked",
			func(in *volume.Input) {
				in.PublishReadOnly = true
				in.Request.VolumeCapabilities = append(in.Request.VolumeCapabilities, readers...)
			},
			func(pv *v1.PersistentVolume) bool { return !pv.Spec.CSI.ReadOnly },
		},
		{
			"a writer is not marked",
			func(in *volume.Input) { in.PublishReadOnly = true },
			func(pv *v1.PersistentVolume) bool { return !pv.Spec.CSI.ReadOnly },
		},
		{
			"nothing links it to its source",
			func(in *volume.Input) { in.Response.Volume.ContentSource = fromVolume("db") },
			func(pv *v1.PersistentVolume) bool { return len(pv.OwnerReferences) == 0 && len(pv.Finalizers) == 1 },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := input()
			c.change(&in)
			if pv := volume.Build(in); !c.holds(pv) {
				t.Errorf("does not hold for %+v", pv.Spec)
			}
		})
	}
}

func TestOwns(t *testing.T) {
	claim := input().Claim
	for _, c := range []struct {
		name   string
		change func(*v1.PersistentVolume)
		owns   bool
		saved  bool
	}{
		{"the PV that was built", func(*v1.PersistentVolume) {}, true, true},
		{
			"a PV that is being deleted owns its volume but does not stay",
			func(pv *v1.PersistentVolume) {
				pv.DeletionTimestamp = new(metav1.NewTime(time.Unix(1_800_000_000, 0)))
			},
			true, false,
		},
		{"a PV of another claim", func(pv *v1.PersistentVolume) { pv.Spec.ClaimRef.UID = "uid-other" }, false, false},
		{"a PV reserved by name only", func(pv *v1.PersistentVolume) { pv.Spec.ClaimRef.UID = "" }, false, false},
		{"a PV of no claim", func(pv *v1.PersistentVolume) { pv.Spec.ClaimRef = nil }, false, false},
		{"a PV of another driver", func(pv *v1.PersistentVolume) { pv.Spec.CSI.Driver = "other.example.com" }, false, false},
		{"a PV that is not CSI", func(pv *v1.PersistentVolume) { pv.Spec.CSI = nil }, false, false},
		{"a PV made by hand", func(pv *v1.PersistentVolume) { pv.Annotations = nil }, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			pv := volume.Build(input())
			c.change(pv)
			if got := volume.Owns(pv, claim, driver); got != c.owns {
				t.Errorf("Owns is %t", got)
			}
			if got := volume.SavedFor(pv, claim, driver); got != c.saved {
				t.Errorf("SavedFor is %t", got)
			}
		})
	}
	if volume.Owns(nil, claim, driver) || volume.SavedFor(nil, claim, driver) {
		t.Error("no PV owns a volume")
	}
}
