package csidriver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-lib-utils/connection"
	"github.com/kubernetes-csi/csi-lib-utils/metrics"
	"github.com/kubernetes-csi/csi-lib-utils/rpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"k8s.io/klog/v2"
)

// ErrLost: the driver's socket was closed after it had been connected.
var ErrLost = errors.New("lost the connection to the CSI driver; exiting so that the pod starts again with a fresh one")

// Driver is a connected CSI driver that has answered Probe.
type Driver struct {
	// Name as GetPluginInfo reported it.
	Name string
	// Plugin and Controller capabilities, as reported once after connecting.
	Plugin     rpc.PluginCapabilitySet
	Controller rpc.ControllerCapabilitySet
	// MayCall, unless nil, is asked right before each call that changes something. Its
	// error is returned in place of the call: another process may be at work.
	MayCall func() error

	conn       *grpc.ClientConn
	controller csi.ControllerClient
	timeout    time.Duration
}

// Connect waits for the driver at the address to be there and ready; for ever,
// unless ctx ends or the driver answers Probe with an error. timeout is the
// deadline of every single call. lost is called once, from another goroutine,
// when the connection breaks later: it is not made again, and every call then
// fails with Unavailable.
func Connect(ctx context.Context, address string, timeout time.Duration, m metrics.CSIMetricsManager, lost func(error), with ...connection.Option) (*Driver, error) {
	var connected atomic.Bool
	conn, err := connection.Connect(ctx, address, m, append(with,
		connection.WithTimeout(0), // no deadline: ctx decides
		connection.OnConnectionLoss(func(context.Context) bool {
			// A driver that accepts and has no time to greet us within a second was
			// never connected: gRPC tries it again.
			if !connected.Load() {
				return true
			}
			lost(ErrLost)
			return false
		}))...)
	if err != nil {
		return nil, fmt.Errorf("connecting to the CSI driver at %q: %w", address, err)
	}
	connected.Store(true)
	go keepConnected(ctx, conn)
	d := &Driver{conn: conn, controller: csi.NewControllerClient(conn), timeout: timeout}
	if err := d.introduce(ctx, m); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return d, nil
}

// keepConnected reconnects an idle connection, which gRPC would do only with the next call. It
// returns when ctx ends or the connection is closed.
func keepConnected(ctx context.Context, conn *grpc.ClientConn) {
	for {
		state := conn.GetState()
		if state == connectivity.Shutdown {
			return
		}
		if state == connectivity.Idle {
			conn.Connect()
		}
		if !conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}

// introduce probes the driver and asks who it is and what it can do.
func (d *Driver) introduce(ctx context.Context, m metrics.CSIMetricsManager) error {
	if err := rpc.ProbeForever(ctx, d.conn, d.timeout); err != nil {
		return fmt.Errorf("waiting for the CSI driver to be ready: %w", err)
	}
	var err error
	if d.Name, err = untilAnswered(ctx, d, rpc.GetDriverName); err != nil {
		return fmt.Errorf("asking the CSI driver for its name (GetPluginInfo): %w", err)
	}
	m.SetDriverName(d.Name)
	if d.Plugin, err = untilAnswered(ctx, d, rpc.GetPluginCapabilities); err != nil {
		return fmt.Errorf("asking CSI driver %q for its capabilities (GetPluginCapabilities): %w", d.Name, err)
	}
	if !d.Plugin[csi.PluginCapability_Service_CONTROLLER_SERVICE] {
		return nil // it may not even answer the next question
	}
	if d.Controller, err = untilAnswered(ctx, d, rpc.GetControllerCapabilities); err != nil {
		return fmt.Errorf("asking CSI driver %q for its capabilities (ControllerGetCapabilities): %w", d.Name, err)
	}
	klog.FromContext(ctx).Info("CSI driver is ready", "driver", d.Name, "plugin", names(d.Plugin), "controller", names(d.Controller))
	return nil
}

// names returns what is set, as the CSI specification calls it.
func names[C interface {
	comparable
	fmt.Stringer
}](set map[C]bool) []string {
	var list []string
	for capability, has := range set {
		if has {
			list = append(list, capability.String())
		}
	}
	slices.Sort(list)
	return list
}

func within[T any](ctx context.Context, timeout time.Duration, conn *grpc.ClientConn, ask func(context.Context, *grpc.ClientConn) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return ask(ctx, conn)
}

// untilAnswered repeats a question that is asked at start until the driver answers, with an error or
// not, or ctx ends. A driver that is busy, or not ready, is waited for, as it is with Probe.
func untilAnswered[T any](ctx context.Context, d *Driver, ask func(context.Context, *grpc.ClientConn) (T, error)) (T, error) {
	for {
		answer, err := within(ctx, d.timeout, d.conn, ask)
		if code := status.Code(err); code != codes.DeadlineExceeded && code != codes.Unavailable {
			return answer, err
		}
		klog.FromContext(ctx).Info("The CSI driver does not answer; it is asked again", "timeout", d.timeout, "err", err)
		select {
		case <-ctx.Done():
			return answer, err
		case <-time.After(time.Second):
		}
	}
}

// CanProvision reports whether the driver reports what every volume needs:
// CONTROLLER_SERVICE and CREATE_DELETE_VOLUME. If not, missing names the first
// that is not there.
func (d *Driver) CanProvision() (ok bool, missing string) {
	if !d.Plugin[csi.PluginCapability_Service_CONTROLLER_SERVICE] {
		return false, "CONTROLLER_SERVICE"
	}
	if !d.Controller[csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME] {
		return false, "CREATE_DELETE_VOLUME"
	}
	return true, ""
}

// CanClone reports whether the driver reports CLONE_VOLUME.
func (d *Driver) CanClone() bool {
	return d.Controller[csi.ControllerServiceCapability_RPC_CLONE_VOLUME]
}

// CanRestore reports whether the driver makes volumes of snapshots (CREATE_DELETE_SNAPSHOT).
func (d *Driver) CanRestore() bool {
	return d.Controller[csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT]
}

// HasTopology reports whether volumes may be reachable from some nodes only
// (VOLUME_ACCESSIBILITY_CONSTRAINTS).
func (d *Driver) HasTopology() bool {
	return d.Plugin[csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS]
}

// CanModify reports whether the driver reports MODIFY_VOLUME.
func (d *Driver) CanModify() bool {
	return d.Controller[csi.ControllerServiceCapability_RPC_MODIFY_VOLUME]
}

// CanTellCapacity reports whether the driver reports GET_CAPACITY.
func (d *Driver) CanTellCapacity() bool {
	return d.Controller[csi.ControllerServiceCapability_RPC_GET_CAPACITY]
}

// Migrated returns a context whose calls are counted as those for volumes of the in-tree
// plugin that the driver took over (label migrated).
func Migrated(ctx context.Context) context.Context {
	return context.WithValue(ctx, connection.AdditionalInfoKey, connection.AdditionalInfo{Migrated: "true"})
}

// CreateVolume makes one call with the contents of a Secret, which are not in the
// request: requests are remembered.
func (d *Driver) CreateVolume(ctx context.Context, req *csi.CreateVolumeRequest, secrets map[string]string) (*csi.CreateVolumeResponse, Outcome) {
	resp, err := d.createVolume(ctx, req, secrets)
	outcome := Classify(err)
	outcome.Err = explain(d.Name, "CreateVolume", req.GetName(), err)
	return resp, outcome
}

func (d *Driver) createVolume(ctx context.Context, req *csi.CreateVolumeRequest, secrets map[string]string) (*csi.CreateVolumeResponse, error) {
	if err := d.mayCall(); err != nil {
		return nil, err
	}
	if len(secrets) > 0 {
		with, ok := proto.Clone(req).(*csi.CreateVolumeRequest)
		if !ok {
			return nil, fmt.Errorf("copying a %T", req) // never: a clone is of its type
		}
		with.Secrets, req = secrets, with
	}
	ctx = hush(ctx, secrets)
	call, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	resp, err := d.controller.CreateVolume(call, req)
	return resp, hide(d.inTime(ctx, call, err), secrets)
}

// DeleteVolume makes one call. It is idempotent: it succeeds for a volume that does not exist
// (CSI spec, DeleteVolume). The error's text is for the user.
func (d *Driver) DeleteVolume(ctx context.Context, handle string, secrets map[string]string) error {
	return explain(d.Name, "DeleteVolume", handle, d.deleteVolume(ctx, handle, secrets))
}

func (d *Driver) deleteVolume(ctx context.Context, handle string, secrets map[string]string) error {
	if err := d.mayCall(); err != nil {
		return err
	}
	ctx = hush(ctx, secrets)
	call, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	_, err := d.controller.DeleteVolume(call, &csi.DeleteVolumeRequest{VolumeId: handle, Secrets: secrets})
	return hide(d.inTime(ctx, call, err), secrets)
}

// GetCapacity makes one call. It changes nothing, so it needs no lease.
func (d *Driver) GetCapacity(ctx context.Context, req *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	call, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	resp, err := d.controller.GetCapacity(call, req)
	return resp, d.inTime(ctx, call, err)
}

// inTime returns the error of a call, with one text for each that was not answered in
// time: gRPC has three, depending on which side noticed it first, which would be three events.
func (d *Driver) inTime(ctx, call context.Context, err error) error {
	code := status.Code(err)
	if ctx.Err() != nil || code != codes.DeadlineExceeded && code != codes.Canceled {
		return err
	}
	// The driver's own words for a deadline of its own are kept.
	said, _ := status.FromError(err)
	if call.Err() == nil && !strings.HasPrefix(said.Message(), "context ") && !strings.HasPrefix(said.Message(), "stream terminated ") {
		return err
	}
	return status.Errorf(codes.DeadlineExceeded, "no answer within %s", d.timeout)
}

func (d *Driver) mayCall() error {
	if d.MayCall == nil {
		return nil
	}
	return d.MayCall()
}

// Close ends the connection.
func (d *Driver) Close() error { return d.conn.Close() }
