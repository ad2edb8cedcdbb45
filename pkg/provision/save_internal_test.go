package provision

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestMayPass(t *testing.T) {
	pvs := v1.Resource("persistentvolumes")
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"the API server was not reached", io.ErrUnexpectedEOF, true},
		{"no answer came in time", context.DeadlineExceeded, true},
		{"the API server timed out", apierrors.NewServerTimeout(pvs, "create", 1), true},
		{"the request timed out", apierrors.NewTimeoutError("slow", 1), true},
		{"the API server is busy", apierrors.NewTooManyRequests("busy", 1), true},
		{"the API server is away", apierrors.NewServiceUnavailable("away"), true},
		{"the API server stumbled", apierrors.NewInternalError(errors.New("x")), true},
		{"what existed is gone by now", fmt.Errorf("comparing: %w", apierrors.NewNotFound(pvs, "pvc-1")), true},
		{"the PV is not valid", apierrors.NewInvalid(v1.SchemeGroupVersion.WithKind("PersistentVolume").GroupKind(), "pvc-1", nil), false},
		{"we are not allowed to", apierrors.NewForbidden(pvs, "pvc-1", errors.New("x")), false},
		{"nobody knows us", apierrors.NewUnauthorized("x"), false},
		{"the request is broken", apierrors.NewBadRequest("x"), false},
		{"the PV of another claim has the name", errForeignPV, false},
		{"so does a wrapped one", fmt.Errorf("comparing: %w", errForeignPV), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := mayPass(c.err); got != c.want {
				t.Errorf("%v: got %t", c.err, got)
			}
		})
	}
}

// The engine takes a gRPC InvalidArgument anywhere in the chain for the end of
// the matter; an attempt of unknown outcome must not look like one.
func TestWithoutStatus(t *testing.T) {
	err := fmt.Errorf("driver answered: %w", status.Error(codes.InvalidArgument, "no"))
	hidden := withoutStatus(err)
	if hidden.Error() != err.Error() {
		t.Errorf("got %q, want %q", hidden, err)
	}
	if _, found := status.FromError(hidden); found {
		t.Error("the status can still be reached")
	}
}

func TestDeletions(t *testing.T) {
	p := New(Config{})
	const pv types.UID = "uid-pv"
	if p.deleted.has(pv) {
		t.Error("a PV is deleted before it was")
	}
	p.deleted.add(pv)
	if !p.deleted.has(pv) || p.deleted.has("uid-other") {
		t.Error("the wrong PVs are deleted")
	}
	object := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pvc-1", UID: pv}}
	p.deleted.begin(object)
	if uid, found := p.Deleting("pvc-1"); uid != pv || !found {
		t.Errorf("deleting %q, %t", uid, found)
	}
	if !p.ShouldDelete(t.Context(), object) {
		t.Error("a PV that still has its finalizer is left alone")
	}
	p.Patched("pvc-1")
	if p.ShouldDelete(t.Context(), object) {
		t.Error("a PV that is through is deleted once more")
	}
	p.Gone(object)
	if p.ShouldDelete(t.Context(), object) {
		t.Error("a PV that is gone is deleted once more by a worker that was late")
	}
	p.Gone(&v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pvc-2", UID: "uid-of-others"}})
	for i := range keepGone {
		other := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pvc-1", UID: types.UID(strconv.Itoa(i))}}
		p.deleted.begin(other)
		p.deleted.add(other.UID)
		p.Gone(other)
	}
	if p.deleted.has(pv) || len(p.deleted.done) != keepGone || len(p.deleted.gone) != keepGone || len(p.deleted.uids) != 0 {
		t.Errorf("too many PVs that are gone are remembered: %d, %d, %d", len(p.deleted.done), len(p.deleted.gone), len(p.deleted.uids))
	}
}

// What one look at the API server may take fits into the time that is left
// after a signal to stop (Kubernetes gives a pod 30 s by default).
func TestSaveTimeout(t *testing.T) {
	if saveTimeout >= 30*time.Second {
		t.Errorf("saving may take %s", saveTimeout)
	}
}
