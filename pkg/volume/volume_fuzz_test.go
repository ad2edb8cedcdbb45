package volume_test

import (
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/volume"
)

// from makes a content source: none, a volume, a snapshot, or an empty one.
func from(kind uint8, handle string) *csi.VolumeContentSource {
	return []*csi.VolumeContentSource{nil, fromVolume(handle), fromSnapshot(handle), {}}[kind%4]
}

// A reply that passes is what was asked for; of one that does not, the user
// hears in one line what is wrong with which volume.
func FuzzCheck(f *testing.F) {
	f.Add(int64(10<<30), uint8(1), "db", "v", int64(10<<30), uint8(1), "db", true)
	f.Add(int64(10<<30), uint8(1), "db", "v", int64(0), uint8(2), "db", true)
	f.Add(int64(10<<30), uint8(2), "s", "v\n", int64(10<<30-1), uint8(3), "", true)
	f.Add(int64(1<<62), uint8(0), "", "", int64(-1<<63), uint8(0), "", true)
	f.Add(int64(1), uint8(0), "", "", int64(0), uint8(0), "", false)
	f.Fuzz(func(t *testing.T, required int64, asked uint8, handle, id string, bytes int64, got uint8, echo string, volumed bool) {
		if required <= 0 || handle == "" || asked%4 == 3 {
			return // package request makes none of these
		}
		req := &csi.CreateVolumeRequest{CapacityRange: &csi.CapacityRange{RequiredBytes: required}, VolumeContentSource: from(asked, handle)}
		resp := &csi.CreateVolumeResponse{}
		if volumed {
			resp.Volume = &csi.Volume{VolumeId: id, CapacityBytes: bytes, ContentSource: from(got, echo)}
		}
		named := volumed && id != ""
		large := bytes == 0 || bytes >= required
		copied := asked%4 == 0 || got%4 == asked%4 && echo == handle
		err := volume.Check(req, resp)
		if fits := named && large && copied; (err == nil) != fits {
			t.Errorf("%v for %v: %v", resp, req, err)
		}
		if err == nil {
			return
		}
		if errors.Is(err, volume.ErrNoVolume) == named {
			t.Errorf("volume %q: %v", id, err)
		}
		if text := err.Error(); strings.ContainsAny(text, "\n\r") || !strings.HasSuffix(text, "; this is a fault of the driver") {
			t.Errorf("the error is no line: %q", text)
		}
	})
}

// A PV says what the driver replied, belongs to the claim, and shares nothing
// with the reply.
func FuzzBuild(f *testing.F) {
	f.Add("v", int64(12<<30), int64(10<<30), "pool", "ssd", "xfs", uint8(0), false)
	f.Add("", int64(0), int64(1), "storage.kubernetes.io/csiProvisionerIdentity", "other", "", uint8(3), true)
	f.Add("v\x00", int64(1<<62), int64(1<<62), "", "", "ext4", uint8(0xff), true)
	f.Fuzz(func(t *testing.T, id string, bytes, required int64, key, value, fsType string, modes uint8, readOnly bool) {
		if required <= 0 || bytes < required && bytes != 0 {
			return // does not pass Check
		}
		in := input()
		in.PublishReadOnly = readOnly
		in.Request.CapacityRange.RequiredBytes, in.Request.VolumeCapabilities = required, nil
		readers := 0
		for bit := range modes&3 + 1 {
			mode := csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
			if modes>>(2+bit)&1 != 0 {
				mode = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
				readers++
			}
			in.Request.VolumeCapabilities = append(in.Request.VolumeCapabilities, capability(mode, fsType))
		}
		context := map[string]string{key: value}
		in.Response = &csi.CreateVolumeResponse{Volume: &csi.Volume{VolumeId: id, CapacityBytes: bytes, VolumeContext: context}}
		claim := in.Claim.DeepCopy()
		pv := volume.Build(in)

		want := bytes
		if bytes == 0 {
			want = required
		}
		source := pv.Spec.CSI
		for what, holds := range map[string]bool{
			"the name":        pv.Name == in.Request.GetName(),
			"the capacity":    pv.Spec.Capacity.Storage().Value() == want && pv.Spec.Capacity.Storage().CmpInt64(want) == 0,
			"the handle":      source.VolumeHandle == id && source.Driver == in.Driver,
			"the file system": source.FSType == fsType,
			"read-only":       source.ReadOnly == (readOnly && readers == 1 && len(in.Request.GetVolumeCapabilities()) == 1),
			"the attribute":   source.VolumeAttributes[key] == value,
			"the owner":       volume.Owns(pv, in.Claim, in.Driver) && volume.SavedFor(pv, in.Claim, in.Driver),
			"the claim":       reflect.DeepEqual(in.Claim, claim),
			"the reply":       maps.Equal(context, map[string]string{key: value}),
		} {
			if !holds {
				t.Errorf("%s is wrong: %+v made of %v and %v", what, pv, in.Request, in.Response)
			}
		}
		source.VolumeAttributes["x"] = "y"
		if len(context) != 1 {
			t.Error("the attributes are the reply's own")
		}
	})
}
