package request_test

import (
	"maps"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/request"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/arbitrary"
)

const reserved = "csi.storage.k8s.io/"

// ofSecret are the reserved keys that name Secrets, without the prefix.
var ofSecret = regexp.MustCompile(`^((provisioner|controller-(publish|expand|modify)|node-(stage|publish|expand))-)?secret-name(space)?$`)

// The driver is asked for exactly what the claim asks for, rounded up, or for
// what the source has if that is more.
func FuzzRequiredBytes(f *testing.F) {
	for _, size := range []string{"", "0", "-1Gi", "1.5", "100m", "1500m", "1k", "1Ki", "1G", "1Gi", "1e3", "1E", "8Ei", "7.999Ei", "20E", "1e30", "9223372036854775807", "9223372036854775808", "20000000000000000000"} {
		f.Add(size, int64(0), false)
		f.Add(size, int64(1<<62), true)
	}
	f.Fuzz(func(t *testing.T, size string, sourceBytes int64, cloned bool) {
		claim := claimOf("")
		claim.Spec.Resources.Requests = arbitrary.Storage(size)
		var src *source.Volume
		least := int64(0)
		if cloned {
			src, least = &source.Volume{Handle: "handle-db", Bytes: sourceBytes}, sourceBytes
		}
		asked, possible := arbitrary.Bytes(claim.Spec.Resources.Requests)
		got, v := request.RequiredBytes(claim, src)
		switch {
		case possible && (!v.Ready() || got != max(asked, least) || got <= 0):
			t.Errorf("%q and a source of %d become %d, %s", size, least, got, v.Message)
		case !possible && (v.Reason != verdict.InvalidSize || v.Kind != verdict.Refuse || got != 0):
			t.Errorf("%q becomes %d, %s %q", size, got, v.Kind, v.Reason)
		}
	})
}

// No reserved key reaches the driver, nothing else is kept from it, and one who
// writes a reserved key that is not known hears of it.
func FuzzParameters(f *testing.F) {
	f.Add("pool", "ssd", "fstype", "ext4")
	f.Add("csi.storage.k8s.io/fstype", "xfs", "FSTYPE", "ext4")
	f.Add("csi.storage.k8s.io/fstype", "xfs", "CSI.storage.k8s.io/x", "")
	f.Add("csi.storage.k8s.io/provisioner-secret-name", "x", "", "")
	f.Add("csiNodeStageSecretName", "x", "csi.storage.k8s.io/\xff", "y")
	f.Add("csi.storage.k8s.io/pvc/name", "forged", "fſtype", "ext4")
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 string) {
		class := classOf(map[string]string{key1: value1, key2: value2})
		before := maps.Clone(class.Parameters)
		got, fsType, v := request.Parameters(class)
		if !maps.Equal(class.Parameters, before) {
			t.Errorf("the class was changed: %v", class.Parameters)
		}
		if !v.Ready() {
			refused(t, v)
			if got != nil || fsType != "" {
				t.Errorf("refused with %v and %q", got, fsType)
			}
			return
		}
		want, fsTypes := maps.Clone(before), map[string]bool{}
		for key, value := range before {
			if strings.EqualFold(key, "fstype") || key == reserved+"fstype" {
				fsTypes[value] = true
			} else if strings.HasPrefix(key, reserved) && !ofSecret.MatchString(strings.TrimPrefix(key, reserved)) {
				t.Errorf("%q is accepted", key)
			}
			if strings.HasPrefix(key, reserved) {
				delete(want, key)
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("the driver gets %v of %v, want %v", got, before, want)
		}
		if len(fsTypes) > 1 || fsType != "" && !fsTypes[fsType] || fsType == "" && len(fsTypes) == 1 && !fsTypes[""] {
			t.Errorf("the file system is %q of %v", fsType, before)
		}
	})
}

// Whatever claim, class and record say, the request is one that can be sent, or
// there is none and the user is told why.
func FuzzBuild(f *testing.F) {
	f.Add("10Gi", int64(12<<30), int64(0), "ReadWriteOnce", "pool", "ssd", "ext4", uint8(0))
	f.Add("16Ei", int64(-1), int64(-1), "ReadWriteOncePod", "fstype", "xfs", "", uint8(0xff))
	f.Add("-100m", int64(0), int64(1), "", "csi.storage.k8s.io/x", "", "", uint8(5))
	f.Add("", int64(1<<62), int64(1<<62), "nonsense", "", "", "", uint8(2))
	f.Add("20E", int64(1), int64(1), "ReadOnlyMany", "csi.storage.k8s.io/pvc/name", "forged", "", uint8(8))
	f.Add("1", int64(12<<30), int64(11<<30), "ReadWriteMany", "csi.storage.k8s.io/fstype", "xfs", "ext4", uint8(0x18))
	f.Fuzz(func(t *testing.T, size string, sourceBytes, pinned int64, mode, key, value, fsType string, bits uint8) {
		if !arbitrary.Texts(mode, key, value, fsType) {
			return
		}
		in := clone()
		in.Claim.Spec.Resources.Requests = arbitrary.Storage(size)
		in.Claim.Spec.AccessModes = []v1.PersistentVolumeAccessMode{v1.PersistentVolumeAccessMode(mode), v1.ReadWriteOnce}[:bits&3%3]
		in.Class.Parameters, in.DefaultFSType = map[string]string{key: value}, fsType
		in.PinnedBytes, in.Source.Bytes = pinned, sourceBytes
		if bits&4 != 0 {
			in.Source = nil
		}
		if bits&8 != 0 {
			in.Claim.Spec.VolumeMode = new(v1.PersistentVolumeBlock)
		}
		if bits&16 != 0 {
			in.Claim.Spec.DataSource = nil
		}
		if bits&32 != 0 {
			in.Claim.Spec.VolumeAttributesClassName = &value
		}
		in.ExtraMetadata, in.SingleNodeMultiWriter = bits&64 != 0, bits&128 != 0
		untouched := in.Claim.DeepCopy()
		req, v := request.Build(in)
		if !reflect.DeepEqual(in.Claim, untouched) || !maps.Equal(in.Class.Parameters, map[string]string{key: value}) {
			t.Error("claim or class was changed")
		}
		if !v.Ready() {
			refused(t, v)
			if req != nil {
				t.Errorf("refused with %v", req)
			}
			return
		}
		rightBytes(t, in, req)
		rightParameters(t, in, req)
		rightCapabilities(t, in, req)
		if got := req.GetVolumeContentSource(); (got == nil) != (in.Source == nil) || got != nil && got.GetVolume().GetVolumeId() != in.Source.Handle {
			t.Errorf("source %v became %v", in.Source, got)
		}
		if _, err := proto.Marshal(req); err != nil {
			t.Errorf("the request cannot be sent: %v", err)
		}
	})
}

// rightBytes: what the claim and its source account for, or less if that is on
// record; only where the source cannot be asked the record stands as it is.
func rightBytes(t *testing.T, in request.Input, req *csi.CreateVolumeRequest) {
	t.Helper()
	want, possible := arbitrary.Bytes(in.Claim.Spec.Resources.Requests)
	if !possible {
		t.Errorf("%v was accepted as a size", in.Claim.Spec.Resources.Requests)
	}
	if in.Source != nil {
		want = max(want, in.Source.Bytes)
	}
	if in.PinnedBytes > 0 && (in.PinnedBytes < want || in.Source == nil && in.Claim.Spec.DataSource != nil) {
		want = in.PinnedBytes
	}
	if got := req.GetCapacityRange().GetRequiredBytes(); got != want || req.GetCapacityRange().GetLimitBytes() != 0 {
		t.Errorf("capacity range is %v, want %d and no limit", req.GetCapacityRange(), want)
	}
}

func rightParameters(t *testing.T, in request.Input, req *csi.CreateVolumeRequest) {
	t.Helper()
	got, metadata := maps.Clone(req.GetParameters()), map[string]string{}
	if in.ExtraMetadata {
		metadata = map[string]string{reserved + "pvc/name": in.Claim.Name, reserved + "pvc/namespace": in.Claim.Namespace, reserved + "pv/name": in.Name}
	}
	for key, want := range metadata {
		if got[key] != want {
			t.Errorf("%q is %q, want %q", key, got[key], want)
		}
		delete(got, key)
	}
	for key, value := range got {
		if strings.HasPrefix(key, reserved) || in.Class.Parameters[key] != value {
			t.Errorf("the driver gets %q with %q", key, value)
		}
	}
}

func rightCapabilities(t *testing.T, in request.Input, req *csi.CreateVolumeRequest) {
	t.Helper()
	list := req.GetVolumeCapabilities()
	if len(list) == 0 || len(list) != len(in.Claim.Spec.AccessModes) {
		t.Errorf("%d capabilities for %v", len(list), in.Claim.Spec.AccessModes)
	}
	block := in.Claim.Spec.VolumeMode != nil
	for _, c := range list {
		if (c.GetBlock() != nil) != block || (c.GetMount() != nil) == block || c.GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_UNKNOWN {
			t.Errorf("capability %v of a claim with %v", c, in.Claim.Spec)
		}
		if fsType := c.GetMount().GetFsType(); fsType == "" && in.DefaultFSType != "" && !block {
			t.Errorf("no file system although the default is %q", in.DefaultFSType)
		}
	}
}

// refused fails unless the user is told in one line what is wrong.
func refused(t *testing.T, v verdict.Verdict) {
	t.Helper()
	if v.Kind != verdict.Refuse || v.Reason == "" || v.Message == "" || strings.ContainsAny(v.Message, "\n\r") {
		t.Errorf("%s with reason %q and the words %q", v.Kind, v.Reason, v.Message)
	}
}
