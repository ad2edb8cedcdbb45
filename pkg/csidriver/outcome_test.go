package csidriver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
)

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want ledger.Proof
	}{
		{"no error means that the volume is there", nil, ledger.Created},
		{"Canceled says nothing", status.Error(codes.Canceled, ""), ledger.Indeterminate},
		{"DeadlineExceeded says nothing", status.Error(codes.DeadlineExceeded, ""), ledger.Indeterminate},
		{"Unavailable says nothing", status.Error(codes.Unavailable, ""), ledger.Indeterminate},
		{"Aborted speaks of work in progress", status.Error(codes.Aborted, ""), ledger.Indeterminate},
		{"an error that is no status says nothing", errors.New("connection reset"), ledger.Indeterminate},
		{"a deadline on this side says nothing", context.DeadlineExceeded, ledger.Indeterminate},
		{"a cancelled call on this side says nothing", context.Canceled, ledger.Indeterminate},
		{"Unknown proves nothing", status.Error(codes.Unknown, ""), ledger.Inconclusive},
		{"Internal proves nothing", status.Error(codes.Internal, ""), ledger.Inconclusive},
		{"DataLoss proves nothing", status.Error(codes.DataLoss, ""), ledger.Inconclusive},
		{"AlreadyExists proves the contrary", status.Error(codes.AlreadyExists, ""), ledger.Conflict},
		{"a code that gRPC does not have proves nothing", status.Error(codes.Code(17), ""), ledger.Inconclusive},
		{"InvalidArgument is final", status.Error(codes.InvalidArgument, ""), ledger.Absent},
		{"NotFound, the source, is final", status.Error(codes.NotFound, ""), ledger.Absent},
		{"ResourceExhausted is final", status.Error(codes.ResourceExhausted, ""), ledger.Absent},
		{"OutOfRange is final", status.Error(codes.OutOfRange, ""), ledger.Absent},
		{"FailedPrecondition is final", status.Error(codes.FailedPrecondition, ""), ledger.Absent},
		{"Unimplemented is final", status.Error(codes.Unimplemented, ""), ledger.Absent},
		{"a wrapped status keeps its meaning", fmt.Errorf("calling: %w", status.Error(codes.Unavailable, "")), ledger.Indeterminate},
		{"so does a wrapped final one", fmt.Errorf("calling: %w", status.Error(codes.InvalidArgument, "")), ledger.Absent},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := csidriver.Classify(c.err); got.Proof != c.want || (got.Err == nil) != (c.err == nil) {
				t.Errorf("got %+v, want proof %d", got, c.want)
			}
		})
	}
}

// still is a clock that a test sets.
type still struct{ now time.Time }

func (s *still) Now() time.Time                     { return s.now }
func (s *still) Since(then time.Time) time.Duration { return s.now.Sub(then) }

// A caller that was rejected learns nothing about the volume: after a call of unknown outcome such
// answers prove no absence, however many there are (docs/reliability.md).
func TestTurnedAwayProvesNothingOfAnEarlierCall(t *testing.T) {
	for _, code := range []codes.Code{codes.Unauthenticated, codes.PermissionDenied} {
		t.Run(code.String(), func(t *testing.T) {
			clock := &still{time.Unix(1_800_000_000, 0)}
			turn, _ := ledger.New(10*time.Second, clock).Take("uid-copy")
			turn.Recording()
			answer := func(code codes.Code) ledger.State {
				before := turn.Calling(&csi.CreateVolumeRequest{Name: "pvc-1"})
				return turn.Answered(before, csidriver.Classify(status.Error(code, "")).Proof)
			}
			answer(codes.DeadlineExceeded)
			for range 3 {
				clock.now = clock.now.Add(time.Minute)
				if got := answer(code); got != ledger.Unknown {
					t.Fatalf("state is %s, want unknown: the volume may exist", got)
				}
			}
		})
	}
}

func TestCapabilities(t *testing.T) {
	const (
		service = csi.PluginCapability_Service_CONTROLLER_SERVICE
		create  = csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME
		clone   = csi.ControllerServiceCapability_RPC_CLONE_VOLUME
	)
	for _, c := range []struct {
		name       string
		plugin     []csi.PluginCapability_Service_Type
		controller []csi.ControllerServiceCapability_RPC_Type
		missing    string
		clones     bool
	}{
		{"a driver without capabilities", nil, nil, "CONTROLLER_SERVICE", false},
		{"a driver without volumes", []csi.PluginCapability_Service_Type{service}, nil, "CREATE_DELETE_VOLUME", false},
		{"a driver without a controller", nil, []csi.ControllerServiceCapability_RPC_Type{create}, "CONTROLLER_SERVICE", false},
		{"a driver without clones", []csi.PluginCapability_Service_Type{service}, []csi.ControllerServiceCapability_RPC_Type{create}, "", false},
		{"a driver with all", []csi.PluginCapability_Service_Type{service}, []csi.ControllerServiceCapability_RPC_Type{create, clone}, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &csidriver.Driver{
				Plugin:     map[csi.PluginCapability_Service_Type]bool{},
				Controller: map[csi.ControllerServiceCapability_RPC_Type]bool{},
			}
			for _, capability := range c.plugin {
				d.Plugin[capability] = true
			}
			for _, capability := range c.controller {
				d.Controller[capability] = true
			}
			if ok, missing := d.CanProvision(); ok != (c.missing == "") || missing != c.missing {
				t.Errorf("CanProvision is %t, %q missing, want %q", ok, missing, c.missing)
			}
			if d.CanClone() != c.clones {
				t.Errorf("CanClone is %t", d.CanClone())
			}
		})
	}
}

// What may be said of a source that cannot be copied to some place, and what is never said
// of it.
func TestSourceRefused(t *testing.T) {
	yes := []codes.Code{codes.ResourceExhausted, codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented}
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		want := slices.Contains(yes, code)
		if got := csidriver.Classify(status.Error(code, "")).SourceRefused; got != want {
			t.Errorf("%s: got %t, want %t", code, got, want)
		}
		if want && csidriver.Classify(status.Error(code, "")).Proof != ledger.Absent {
			t.Errorf("%s does not prove that nothing exists", code)
		}
	}
}

// Another node may help only if there is no room.
func TestOtherNode(t *testing.T) {
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		if got, want := csidriver.Classify(status.Error(code, "")).OtherNode, code == codes.ResourceExhausted; got != want {
			t.Errorf("%s: got %t, want %t", code, got, want)
		}
	}
}
