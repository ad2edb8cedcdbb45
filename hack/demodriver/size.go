package demodriver

import (
	"math"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// sizeFor returns how large a volume must be made: the required bytes, or the
// source's if nothing is required, rounded up to the granularity. A source of 0
// bytes means there is none.
//
// Rule: CSI spec, CreateVolume, capacity_range.
func sizeFor(capacity *csi.CapacityRange, source, granularity int64) (int64, error) {
	required, limit := capacity.GetRequiredBytes(), capacity.GetLimitBytes()
	switch {
	case required < 0 || limit < 0:
		return 0, status.Errorf(codes.InvalidArgument, "capacity_range has a negative size (required_bytes %d, limit_bytes %d)", required, limit)
	case limit > 0 && required > limit:
		return 0, status.Errorf(codes.InvalidArgument, "required_bytes %d is above limit_bytes %d", required, limit)
	case required > math.MaxInt64-granularity:
		return 0, status.Errorf(codes.OutOfRange, "required_bytes %d is more than any volume can have", required)
	}
	size := max(roundUp(required, granularity), granularity)
	if required == 0 && source > 0 {
		size = source
	}
	if size < source {
		return 0, status.Errorf(codes.OutOfRange, "required_bytes %d is less than the %d bytes of the content source; ask for at least these", required, source)
	}
	if limit > 0 && size > limit {
		return 0, status.Errorf(codes.OutOfRange, "limit_bytes %d is too low: the volume would have %d bytes (multiples of %d, and no less than its content source)", limit, size, granularity)
	}
	return size, nil
}

func roundUp(bytes, granularity int64) int64 {
	return (bytes + granularity - 1) / granularity * granularity
}

// fits is true when an existing volume is of a size that was asked for.
func fits(size int64, capacity *csi.CapacityRange) bool {
	limit := capacity.GetLimitBytes()
	return size >= capacity.GetRequiredBytes() && (limit == 0 || size <= limit)
}

// quota counts the bytes of volumes and snapshots, those in the making included.
type quota struct {
	mu    sync.Mutex
	limit int64 // 0: none
	used  int64
}

// take reserves bytes; false when there are not enough.
func (q *quota) take(bytes int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.limit > 0 && bytes > q.limit-q.used {
		return false
	}
	q.used += bytes
	return true
}

func (q *quota) give(bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used -= bytes
}

// free returns what is left; limited is false when there is no limit.
func (q *quota) free() (bytes int64, limited bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return max(q.limit-q.used, 0), q.limit > 0
}
