package demodriver_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
)

func TestEverythingSurvivesARestart(t *testing.T) {
	s := serve(t, demodriver.Config{Capacity: 10 * mib})
	source := s.create(t, request("source", sized(2*mib, 0), parameters("a", "1"))).GetVolumeId()
	s.write(t, source, "file", "data")
	s.create(t, request("blocks", asBlock))
	snapshot, err := s.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "snap", SourceVolumeId: source})
	if err != nil {
		t.Fatal(err)
	}
	s.create(t, request("clone", cloneOf(source)))
	s.create(t, request("restored", restoreOf(snapshot.GetSnapshot().GetSnapshotId())))
	volumes, snapshots := s.Driver.Volumes(), s.Driver.Snapshots()

	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	s.connect(t)
	if got := s.Driver.Volumes(); !reflect.DeepEqual(got, volumes) {
		t.Errorf("volumes are\n%v, before\n%v", got, volumes)
	}
	if got := s.Driver.Snapshots(); !reflect.DeepEqual(got, snapshots) {
		t.Errorf("snapshots are\n%v, before\n%v", got, snapshots)
	}
	if got := s.create(t, request("clone", cloneOf(source))).GetVolumeId(); got != volumes[2].ID {
		t.Errorf("the same clone has id %q now, before %q", got, volumes[2].ID)
	}
	if _, err := s.CreateVolume(t.Context(), request("source", parameters("a", "2"))); status.Code(err) != codes.AlreadyExists {
		t.Errorf("other parameters got %v, want AlreadyExists", err)
	}
	resp, err := s.GetCapacity(t.Context(), &csi.GetCapacityRequest{})
	if err != nil || resp.GetAvailableCapacity() != mib { // 2 source, 2 clone, 2 restored, 2 snapshot, 1 blocks
		t.Errorf("%d bytes are available (%v), want 1 MiB", resp.GetAvailableCapacity(), err)
	}
}

func TestWhatACrashLeftIsRemoved(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, demodriver.Config{Dir: dir})
	id := s.create(t, request("a")).GetVolumeId()
	s.write(t, id, "file", "data")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	// A volume that is whole but for its last step, and one half deleted.
	for _, left := range []string{"vol-0123456789abcdef", "vol-fedcba9876543210.deleted"} {
		target := filepath.Join(dir, "tmp", left)
		if err := os.CopyFS(target, os.DirFS(filepath.Join(dir, "volumes", id))); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(target, "data"), 0o500); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	if v := s.Driver.Volumes(); len(v) != 1 || v[0].ID != id {
		t.Errorf("volumes are %v, want the finished one", v)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(entries) != 0 {
		t.Errorf("left over are %v (%v), want nothing", entries, err)
	}
}

func TestADamagedRecordIsSaidSo(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, demodriver.Config{Dir: dir})
	id := s.create(t, request("a")).GetVolumeId()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	record := filepath.Join(dir, "volumes", id, "record.json")
	if err := os.WriteFile(record, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := `record "` + record + `" is damaged, remove its directory by hand: unexpected end of JSON input`
	if err := s.Restart(); err == nil || err.Error() != want {
		t.Fatalf("got  %v\nwant %s", err, want)
	}
}
