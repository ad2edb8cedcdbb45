package demodriver_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
)

// list returns one page of volume ids and the next token.
func (s *served) list(t *testing.T, limit int32, token string) ([]string, string) {
	t.Helper()
	resp, err := s.ListVolumes(t.Context(), &csi.ListVolumesRequest{MaxEntries: limit, StartingToken: token})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, entry := range resp.GetEntries() {
		ids = append(ids, entry.GetVolume().GetVolumeId())
	}
	return ids, resp.GetNextToken()
}

func TestPagesFollowOneAnotherWhileVolumesComeAndGo(t *testing.T) {
	s := serve(t, demodriver.Config{})
	var ids []string
	for i := range 5 {
		ids = append(ids, s.create(t, request(fmt.Sprint(i))).GetVolumeId())
	}
	if all, next := s.list(t, 0, ""); !slices.Equal(all, ids) || next != "" {
		t.Fatalf("without limit: %v, token %q; want %v and no token", all, next, ids)
	}
	page, token := s.list(t, 2, "")
	if !slices.Equal(page, ids[:2]) {
		t.Fatalf("first page is %v, want %v", page, ids[:2])
	}
	for _, id := range ids[:3] { // what the token was made of, and what comes next
		if _, err := s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
			t.Fatal(err)
		}
	}
	added := s.create(t, request("added")).GetVolumeId()
	page, token = s.list(t, 2, token)
	if !slices.Equal(page, ids[3:]) {
		t.Fatalf("second page is %v, want %v", page, ids[3:])
	}
	page, token = s.list(t, 2, token)
	if !slices.Equal(page, []string{added}) || token != "" {
		t.Fatalf("last page is %v, token %q; want %q and no token", page, token, added)
	}
}

func TestAListCannotBeStartedAnywhere(t *testing.T) {
	s := serve(t, demodriver.Config{})
	_, err := s.ListVolumes(t.Context(), &csi.ListVolumesRequest{StartingToken: "x"})
	if status.Code(err) != codes.Aborted {
		t.Errorf("a token that is not ours got %v, want Aborted", err)
	}
	_, err = s.ListVolumes(t.Context(), &csi.ListVolumesRequest{MaxEntries: -1})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("a negative limit got %v, want InvalidArgument", err)
	}
}

func TestSnapshotsAreListedByIDAndByVolume(t *testing.T) {
	s := serve(t, demodriver.Config{})
	var snapshots []*csi.Snapshot
	for _, name := range []string{"a", "b"} {
		volume := s.create(t, request(name)).GetVolumeId()
		resp, err := s.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: volume})
		if err != nil {
			t.Fatal(err)
		}
		snapshots = append(snapshots, resp.GetSnapshot())
	}
	cases := []struct {
		name string
		req  *csi.ListSnapshotsRequest
		want []string
	}{
		{"all", &csi.ListSnapshotsRequest{}, []string{snapshots[0].GetSnapshotId(), snapshots[1].GetSnapshotId()}},
		{"one by its id", &csi.ListSnapshotsRequest{SnapshotId: snapshots[1].GetSnapshotId()}, []string{snapshots[1].GetSnapshotId()}},
		{"those of a volume", &csi.ListSnapshotsRequest{SourceVolumeId: snapshots[0].GetSourceVolumeId()}, []string{snapshots[0].GetSnapshotId()}},
		{"none by an id that does not exist", &csi.ListSnapshotsRequest{SnapshotId: "snap-0"}, nil},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			resp, err := s.ListSnapshots(t.Context(), tc.req)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, entry := range resp.GetEntries() {
				got = append(got, entry.GetSnapshot().GetSnapshotId())
			}
			if !slices.Equal(got, tc.want) {
				t.Fatalf("got %v, want %v", got, tc.want)
			}
		})
	}
}
