package demodriver_test

import (
	"math"
	"os"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
)

func TestWhatCreateVolumeAnswers(t *testing.T) {
	s := serve(t, demodriver.Config{Capacity: 100 * mib})
	source := s.create(t, request("source", sized(4*mib, 0), parameters("a", "1"))).GetVolumeId()
	blocks := s.create(t, request("blocks", asBlock)).GetVolumeId()
	cases := []struct {
		name  string
		req   *csi.CreateVolumeRequest
		code  codes.Code
		bytes int64
	}{
		{"a volume without size has the least", request("1"), codes.OK, mib},
		{"a size is rounded up", request("2", sized(mib+1, 0)), codes.OK, 2 * mib},
		{"a limit that leaves room is kept", request("3", sized(1, mib)), codes.OK, mib},
		{"a limit below the least size is out of range", request("4", sized(0, mib-1)), codes.OutOfRange, 0},
		{"a limit that rounding exceeds is out of range", request("5", sized(mib+1, 2*mib-1)), codes.OutOfRange, 0},
		{"a limit below the required size is no range", request("6", sized(2*mib, mib)), codes.InvalidArgument, 0},
		{"a negative size is none", request("7", sized(-1, 0)), codes.InvalidArgument, 0},
		{"more than can be counted is out of range", request("8", sized(math.MaxInt64, 0)), codes.OutOfRange, 0},
		{"more than there is exhausts the driver", request("9", sized(101*mib, 0)), codes.ResourceExhausted, 0},
		{"a clone without size is as large as its source", request("10", cloneOf(source)), codes.OK, 4 * mib},
		{"a clone may be larger", request("11", cloneOf(source), sized(5*mib, 0)), codes.OK, 5 * mib},
		{"a clone that rounds up to its source's size will do", request("12", cloneOf(source), sized(4*mib-1, 0)), codes.OK, 4 * mib},
		{"a smaller clone is out of range", request("13", cloneOf(source), sized(3*mib, 0)), codes.OutOfRange, 0},
		{"a clone limited below its source is out of range", request("14", cloneOf(source), sized(0, 3*mib)), codes.OutOfRange, 0},
		{"a clone of nothing is not found", request("15", cloneOf("vol-0")), codes.NotFound, 0},
		{"a restore of nothing is not found", request("16", restoreOf("snap-0")), codes.NotFound, 0},
		{"a clone of a path is not found", request("17", cloneOf("../volumes/"+source)), codes.NotFound, 0},
		{"a source without id is invalid", request("18", cloneOf("")), codes.InvalidArgument, 0},
		{"a block clone of a filesystem is invalid", request("19", cloneOf(source), asBlock), codes.InvalidArgument, 0},
		{"a filesystem clone of a block volume is invalid", request("20", cloneOf(blocks)), codes.InvalidArgument, 0},
		{"the same again is the same volume", request("source", sized(4*mib, 0), parameters("a", "1")), codes.OK, 4 * mib},
		{"the same with a size that fits is the same volume", request("source", sized(3*mib, 5*mib), parameters("a", "1")), codes.OK, 4 * mib},
		{"the same name with more bytes exists", request("source", sized(5*mib, 0), parameters("a", "1")), codes.AlreadyExists, 0},
		{"the same name with other parameters exists", request("source", parameters("a", "2")), codes.AlreadyExists, 0},
		{"the same name as a block volume exists", request("source", asBlock, parameters("a", "1")), codes.AlreadyExists, 0},
		{"the same name with a source exists", request("source", cloneOf(blocks), parameters("a", "1")), codes.AlreadyExists, 0},
		{"a name of slashes and dots is a name", request("../../etc/\x00passwd"), codes.OK, mib},
		{"a nameless volume is invalid", request(""), codes.InvalidArgument, 0},
		{"no capabilities are invalid", &csi.CreateVolumeRequest{Name: "21"}, codes.InvalidArgument, 0},
		{"mutable parameters are invalid", request("22", func(r *csi.CreateVolumeRequest) {
			r.MutableParameters = map[string]string{"iops": "1"}
		}), codes.InvalidArgument, 0},
		{"both access types at once are invalid", request("23", func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities = append(r.VolumeCapabilities, block(writer))
		}), codes.InvalidArgument, 0},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			resp, err := s.CreateVolume(t.Context(), tc.req)
			if status.Code(err) != tc.code {
				t.Fatalf("got %v, want %s", err, tc.code)
			}
			if got := resp.GetVolume().GetCapacityBytes(); got != tc.bytes {
				t.Fatalf("volume has %d bytes, want %d", got, tc.bytes)
			}
			if err == nil && !proto.Equal(resp.GetVolume().GetContentSource(), tc.req.GetVolumeContentSource()) {
				t.Fatalf("content source is %v, want that of the request", resp.GetVolume().GetContentSource())
			}
		})
	}
}

func TestACloneHasTheDataAndIsIndependent(t *testing.T) {
	s := serve(t, demodriver.Config{})
	source := s.create(t, request("source")).GetVolumeId()
	s.write(t, source, "file", "old")
	req := request("clone", cloneOf(source))
	clone := s.create(t, req).GetVolumeId()
	s.write(t, source, "file", "new")
	if got := s.read(t, clone, "file"); got != "old" {
		t.Fatalf("clone has %q, want old", got)
	}
	if _, err := s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: source}); err != nil {
		t.Fatal(err)
	}
	if again := s.create(t, req).GetVolumeId(); again != clone {
		t.Fatalf("the same request without its source made %q, want the same clone %q", again, clone)
	}
	v := s.Driver.Volumes()
	if len(v) != 1 || v[0].SourceVolumeID != source || v[0].Name != "clone" || v[0].Path != s.Driver.VolumePath(clone) {
		t.Fatalf("volumes are %+v, want the clone only", v)
	}
}

func TestASnapshotOutlivesItsVolume(t *testing.T) {
	s := serve(t, demodriver.Config{Capacity: 10 * mib})
	source := s.create(t, request("source")).GetVolumeId()
	s.write(t, source, "file", "old")
	snapshot := func(name, volume string) (*csi.Snapshot, error) {
		resp, err := s.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: volume})
		return resp.GetSnapshot(), err
	}
	first, err := snapshot("snap", source)
	if err != nil || !first.GetReadyToUse() || first.GetSizeBytes() != mib {
		t.Fatalf("snapshot is %v (%v)", first, err)
	}
	if _, err := snapshot("snap", s.create(t, request("other")).GetVolumeId()); status.Code(err) != codes.AlreadyExists {
		t.Fatalf("the same name for another volume got %v, want AlreadyExists", err)
	}
	if _, err := s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: source}); err != nil {
		t.Fatal(err)
	}
	again, err := snapshot("snap", source)
	if err != nil || again.GetSnapshotId() != first.GetSnapshotId() {
		t.Fatalf("the same again is %v (%v), want the same snapshot", again, err)
	}
	if _, err := snapshot("late", source); status.Code(err) != codes.NotFound {
		t.Fatalf("a snapshot of the deleted volume got %v, want NotFound", err)
	}
	restored := s.create(t, request("restored", restoreOf(first.GetSnapshotId()))).GetVolumeId()
	if got := s.read(t, restored, "file"); got != "old" {
		t.Fatalf("restored volume has %q, want old", got)
	}
	for range 2 { // the second time there is nothing to do
		if _, err := s.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: first.GetSnapshotId()}); err != nil {
			t.Fatal(err)
		}
	}
	if left := s.Driver.Snapshots(); len(left) != 0 {
		t.Fatalf("snapshots are %v, want none", left)
	}
}

func TestABlockVolumeIsASparseFileOfItsSize(t *testing.T) {
	s := serve(t, demodriver.Config{})
	source := s.create(t, request("source", asBlock, sized(64*mib, 0))).GetVolumeId()
	file, err := os.OpenFile(s.Driver.VolumePath(source), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("island"), 32*mib); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	clone := s.create(t, request("clone", asBlock, cloneOf(source), sized(100*mib, 0))).GetVolumeId()
	copied, err := os.Open(s.Driver.VolumePath(clone))
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	info, err := copied.Stat()
	if err != nil || info.Size() != 100*mib {
		t.Fatalf("clone has %d bytes (%v), want 100 MiB", info.Size(), err)
	}
	island := make([]byte, 6)
	if _, err := copied.ReadAt(island, 32*mib); err != nil || string(island) != "island" {
		t.Fatalf("clone has %q (%v) where the source has an island", island, err)
	}
}

func TestDeletingFreesTheCapacity(t *testing.T) {
	s := serve(t, demodriver.Config{Capacity: 2 * mib})
	available := func() int64 {
		resp, err := s.GetCapacity(t.Context(), &csi.GetCapacityRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetAvailableCapacity()
	}
	id := s.create(t, request("a", sized(2*mib, 0))).GetVolumeId()
	if _, err := s.CreateVolume(t.Context(), request("b")); status.Code(err) != codes.ResourceExhausted || available() != 0 {
		t.Fatalf("got %v with %d bytes available, want ResourceExhausted with none", err, available())
	}
	for range 2 { // the second time there is nothing to do, and nothing to count
		if _, err := s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
			t.Fatal(err)
		}
	}
	if got := available(); got != 2*mib {
		t.Fatalf("%d bytes available, want all", got)
	}
}

func TestAVolumeThatItsOwnerMayNotWriteToCanBeDeleted(t *testing.T) {
	s := serve(t, demodriver.Config{})
	id := s.create(t, request("a")).GetVolumeId()
	s.write(t, id, "file", "x")
	if err := os.Chmod(s.Driver.VolumePath(id), 0o500); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
		t.Fatal(err)
	}
}
