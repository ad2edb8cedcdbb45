package request_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/request"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

// claimOf returns a claim that asks for the size; "" for none.
func claimOf(size string) *v1.PersistentVolumeClaim {
	c := &v1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "copy", UID: "uid-copy"},
		Spec:       v1.PersistentVolumeClaimSpec{AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce}},
	}
	if size != "" {
		c.Spec.Resources.Requests = v1.ResourceList{v1.ResourceStorage: resource.MustParse(size)}
	}
	return c
}

// clone is the input for a clone of a source of 12Gi by a claim of 10Gi.
func clone() request.Input {
	claim := claimOf("10Gi")
	claim.Spec.DataSource = &v1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "db"}
	return request.Input{
		Claim: claim, Class: classOf(map[string]string{"pool": "ssd"}), Name: "pvc-1",
		Source: &source.Volume{Handle: "handle-db", Bytes: 12 << 30},
	}
}

// blank is the input for an empty volume of 10Gi.
func blank() request.Input {
	in := clone()
	in.Claim.Spec.DataSource, in.Source = nil, nil
	return in
}

func mount(mode csi.VolumeCapability_AccessMode_Mode, fsType string, flags ...string) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fsType, MountFlags: flags}},
	}
}

func block(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
	}
}

func build(t *testing.T, in request.Input) *csi.CreateVolumeRequest {
	t.Helper()
	req, v := request.Build(in)
	if v != (verdict.Verdict{}) {
		t.Fatalf("got %+v", v)
	}
	return req
}

func TestBuild(t *testing.T) {
	const writer = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	want := func() *csi.CreateVolumeRequest {
		return &csi.CreateVolumeRequest{
			Name:               "pvc-1",
			CapacityRange:      &csi.CapacityRange{RequiredBytes: 10 << 30},
			VolumeCapabilities: []*csi.VolumeCapability{mount(writer, "")},
			Parameters:         map[string]string{"pool": "ssd"},
		}
	}
	for _, c := range []struct {
		name   string
		change func(*request.Input)
		want   func(*csi.CreateVolumeRequest)
	}{
		{"a blank volume has no content source", func(*request.Input) {}, func(*csi.CreateVolumeRequest) {}},
		{
			"a clone names the source's handle and is as large as the source",
			func(in *request.Input) { in.Source = clone().Source },
			func(r *csi.CreateVolumeRequest) {
				r.CapacityRange.RequiredBytes = 12 << 30
				r.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
					Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: "handle-db"},
				}}
			},
		},
		{
			"the class names file system and mount options",
			func(in *request.Input) {
				in.Class.Parameters["csi.storage.k8s.io/fstype"] = "xfs"
				in.Class.MountOptions = []string{"noatime", "discard"}
				in.DefaultFSType = "ext4"
			},
			func(r *csi.CreateVolumeRequest) {
				r.VolumeCapabilities = []*csi.VolumeCapability{mount(writer, "xfs", "noatime", "discard")}
			},
		},
		{
			"the default file system stands in where the class names none",
			func(in *request.Input) { in.DefaultFSType = "ext4" },
			func(r *csi.CreateVolumeRequest) {
				r.VolumeCapabilities = []*csi.VolumeCapability{mount(writer, "ext4")}
			},
		},
		{
			"a block volume has neither file system nor mount options",
			func(in *request.Input) {
				in.Claim.Spec.VolumeMode = new(v1.PersistentVolumeBlock)
				in.DefaultFSType, in.Class.MountOptions = "ext4", []string{"noatime"}
			},
			func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = []*csi.VolumeCapability{block(writer)} },
		},
		{
			"Filesystem in words is mounted",
			func(in *request.Input) { in.Claim.Spec.VolumeMode = new(v1.PersistentVolumeFilesystem) },
			func(*csi.CreateVolumeRequest) {},
		},
		{
			"extra metadata names claim and PV",
			func(in *request.Input) { in.ExtraMetadata = true },
			func(r *csi.CreateVolumeRequest) {
				r.Parameters = map[string]string{
					"pool": "ssd", "csi.storage.k8s.io/pvc/name": "copy",
					"csi.storage.k8s.io/pvc/namespace": "shop", "csi.storage.k8s.io/pv/name": "pvc-1",
				}
			},
		},
		{
			"extra metadata needs no parameters in the class",
			func(in *request.Input) { in.ExtraMetadata, in.Class.Parameters = true, nil },
			func(r *csi.CreateVolumeRequest) {
				r.Parameters = map[string]string{
					"csi.storage.k8s.io/pvc/name": "copy", "csi.storage.k8s.io/pvc/namespace": "shop", "csi.storage.k8s.io/pv/name": "pvc-1",
				}
			},
		},
		{
			"a VolumeAttributesClass",
			func(in *request.Input) {
				in.Attributes = &storagev1.VolumeAttributesClass{Parameters: map[string]string{"iops": "100"}}
			},
			func(want *csi.CreateVolumeRequest) { want.MutableParameters = map[string]string{"iops": "100"} },
		},
		{
			"a VolumeAttributesClass that is not heeded",
			func(in *request.Input) { in.Claim.Spec.VolumeAttributesClassName = new("gold") },
			func(*csi.CreateVolumeRequest) {},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, expected := blank(), want()
			c.change(&in)
			c.want(expected)
			claim, class := in.Claim.DeepCopy(), in.Class.DeepCopy()
			if got := build(t, in); !proto.Equal(got, expected) {
				t.Errorf("got  %v\nwant %v", got, expected)
			}
			if !reflect.DeepEqual(in.Claim, claim) || !reflect.DeepEqual(in.Class, class) {
				t.Error("claim or class was changed")
			}
		})
	}
}

func TestAccessModes(t *testing.T) {
	const (
		rwo, rwop = v1.ReadWriteOnce, v1.ReadWriteOncePod
		rox, rwx  = v1.ReadOnlyMany, v1.ReadWriteMany

		writer       = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
		singleWriter = csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
		multiWriter  = csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER
		manyReaders  = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
		manyWriters  = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	)
	for _, c := range []struct {
		name  string
		modes []v1.PersistentVolumeAccessMode
		// plain drivers, and those with SINGLE_NODE_MULTI_WRITER.
		plain, able []csi.VolumeCapability_AccessMode_Mode
	}{
		{"ReadWriteOnce", []v1.PersistentVolumeAccessMode{rwo}, []csi.VolumeCapability_AccessMode_Mode{writer}, []csi.VolumeCapability_AccessMode_Mode{multiWriter}},
		{"ReadWriteOncePod", []v1.PersistentVolumeAccessMode{rwop}, []csi.VolumeCapability_AccessMode_Mode{writer}, []csi.VolumeCapability_AccessMode_Mode{singleWriter}},
		{"ReadOnlyMany", []v1.PersistentVolumeAccessMode{rox}, []csi.VolumeCapability_AccessMode_Mode{manyReaders}, []csi.VolumeCapability_AccessMode_Mode{manyReaders}},
		{"ReadWriteMany", []v1.PersistentVolumeAccessMode{rwx}, []csi.VolumeCapability_AccessMode_Mode{manyWriters}, []csi.VolumeCapability_AccessMode_Mode{manyWriters}},
		{
			"several become one capability each, in the claim's order", []v1.PersistentVolumeAccessMode{rwx, rwo, rox},
			[]csi.VolumeCapability_AccessMode_Mode{manyWriters, writer, manyReaders},
			[]csi.VolumeCapability_AccessMode_Mode{manyWriters, multiWriter, manyReaders},
		},
	} {
		for _, able := range []bool{false, true} {
			name, want := c.name+", plain driver", c.plain
			if able {
				name, want = c.name+", driver with SINGLE_NODE_MULTI_WRITER", c.able
			}
			t.Run(name, func(t *testing.T) {
				in := blank()
				in.Claim.Spec.AccessModes, in.SingleNodeMultiWriter = c.modes, able
				var mounted, blocks []csi.VolumeCapability_AccessMode_Mode
				for _, capability := range build(t, in).GetVolumeCapabilities() {
					mounted = append(mounted, capability.GetAccessMode().GetMode())
				}
				in.Claim.Spec.VolumeMode = new(v1.PersistentVolumeBlock)
				for _, capability := range build(t, in).GetVolumeCapabilities() {
					blocks = append(blocks, capability.GetAccessMode().GetMode())
				}
				if !slices.Equal(mounted, want) || !slices.Equal(blocks, want) {
					t.Errorf("got %v mounted and %v as block, want %v", mounted, blocks, want)
				}
			})
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*request.Input)
		want   verdict.Verdict
	}{
		{
			"a claim without a size",
			func(in *request.Input) { in.Claim.Spec.Resources.Requests = nil },
			verdict.Verdict{Kind: verdict.Refuse, Reason: verdict.InvalidSize, Message: "the claim asks for no size; create it again with spec.resources.requests.storage"},
		},
		{
			"a claim without a size, whatever its record pins",
			func(in *request.Input) { in.Claim.Spec.Resources.Requests, in.PinnedBytes = nil, 10<<30 },
			verdict.Verdict{Kind: verdict.Refuse, Reason: verdict.InvalidSize, Message: "the claim asks for no size; create it again with spec.resources.requests.storage"},
		},
		{
			"a class with unknown parameters",
			func(in *request.Input) { in.Class.Parameters["csi.storage.k8s.io/x"] = "y" },
			verdict.Verdict{Kind: verdict.Refuse, Reason: verdict.InvalidClass, Message: `StorageClass "fast" has the unknown parameter "csi.storage.k8s.io/x"; keys that begin with "csi.storage.k8s.io/" are reserved, correct or remove it`},
		},
		{
			"a claim without access modes",
			func(in *request.Input) { in.Claim.Spec.AccessModes = nil },
			verdict.Verdict{Kind: verdict.Refuse, Reason: verdict.InvalidAccessMode, Message: "the claim names no access mode; create it again with spec.accessModes"},
		},
		{
			"an access mode that CSI does not have",
			func(in *request.Input) {
				in.Claim.Spec.AccessModes = []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce, "WriteOnly"}
			},
			verdict.Verdict{Kind: verdict.Refuse, Reason: verdict.InvalidAccessMode, Message: `access mode "WriteOnly" has no counterpart in CSI; create the claim again with another one`},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := clone()
			c.change(&in)
			req, v := request.Build(in)
			if req != nil || v != c.want {
				t.Errorf("got %v and %+v\nwant %+v", req, v, c.want)
			}
		})
	}
}

// The pin repeats an earlier request. What no attempt of ours can have asked
// for is not repeated: annotations are the user's to write.
func TestPinnedBytes(t *testing.T) {
	for _, c := range []struct {
		name   string
		in     request.Input
		pinned int64
		want   int64
	}{
		{"nothing pinned leaves it to the claim", blank(), 0, 10 << 30},
		{"a negative pin is none", blank(), -1, 10 << 30},
		{"a blank claim repeats its size", blank(), 10 << 30, 10 << 30},
		{"a clone repeats its size though the source grew meanwhile", clone(), 11 << 30, 11 << 30},
		{"a clone repeats the size of its source", clone(), 12 << 30, 12 << 30},
		{"a blank claim is never given more than it asks for", blank(), 1 << 40, 10 << 30},
		{"a clone is never given more than it or its source has", clone(), 1 << 40, 12 << 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := c.in
			in.PinnedBytes = c.pinned
			if got := build(t, in).GetCapacityRange().GetRequiredBytes(); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

// A clone that is only to be found again and deleted keeps its pin, even if its
// source cannot be read any more.
func TestPinnedBytesOfACloneWithoutItsSource(t *testing.T) {
	in := clone()
	in.Source, in.PinnedBytes = nil, 12<<30
	if got := build(t, in).GetCapacityRange().GetRequiredBytes(); got != 12<<30 {
		t.Errorf("got %d, want %d", got, int64(12<<30))
	}
}
