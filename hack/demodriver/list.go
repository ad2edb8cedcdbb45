package demodriver

import (
	"context"
	"fmt"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver/store"
)

func (s *controller) ListVolumes(_ context.Context, req *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	d := s.driver
	if err := d.demand(canListVolumes); err != nil {
		return nil, err
	}
	records, next, err := page(d.store.Volumes.List(), req.GetStartingToken(), req.GetMaxEntries())
	if err != nil {
		return nil, err
	}
	resp := &csi.ListVolumesResponse{NextToken: next}
	for _, r := range records {
		resp.Entries = append(resp.Entries, &csi.ListVolumesResponse_Entry{Volume: d.describe(r)})
	}
	return resp, nil
}

func (s *controller) ListSnapshots(_ context.Context, req *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	d := s.driver
	if err := d.demand(canListSnapshots); err != nil {
		return nil, err
	}
	var wanted []store.Record
	for _, r := range d.store.Snapshots.List() {
		if (req.GetSnapshotId() == "" || r.ID == req.GetSnapshotId()) &&
			(req.GetSourceVolumeId() == "" || r.SourceVolumeID == req.GetSourceVolumeId()) {
			wanted = append(wanted, r)
		}
	}
	records, next, err := page(wanted, req.GetStartingToken(), req.GetMaxEntries())
	if err != nil {
		return nil, err
	}
	resp := &csi.ListSnapshotsResponse{NextToken: next}
	for _, r := range records {
		resp.Entries = append(resp.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: describeSnapshot(r)})
	}
	return resp, nil
}

// page returns the records after the one the token was made of, at most limit of
// them (0: all), and the token for what follows. It does not matter whether the
// token's own record still exists, and later records come on later pages.
func page(records []store.Record, token string, limit int32) ([]store.Record, string, error) {
	if limit < 0 {
		return nil, "", status.Errorf(codes.InvalidArgument, "max_entries is %d, must not be negative", limit)
	}
	if token != "" {
		after, id, err := parseToken(token)
		if err != nil {
			return nil, "", err
		}
		for len(records) > 0 && !isAfter(records[0], after, id) {
			records = records[1:]
		}
	}
	if limit == 0 || len(records) <= int(limit) {
		return records, "", nil
	}
	records = records[:limit]
	last := records[limit-1]
	return records, fmt.Sprintf("%d %s", last.CreatedAt.UnixNano(), last.ID), nil
}

func parseToken(token string) (after time.Time, id string, err error) {
	var nanos int64
	if n, err := fmt.Sscanf(token, "%d %s", &nanos, &id); n != 2 {
		return time.Time{}, "", status.Errorf(codes.Aborted, "starting_token %q is not one of ours (%v); start again without", token, err)
	}
	return time.Unix(0, nanos), id, nil
}

func isAfter(r store.Record, t time.Time, id string) bool {
	return r.CreatedAt.After(t) || r.CreatedAt.Equal(t) && r.ID > id
}
