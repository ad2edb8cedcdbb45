package demodriver

import (
	"context"
	"fmt"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver/replica"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver/store"
)

// Driver is a CSI driver. End its life with Close.
type Driver struct {
	cfg   Config
	store *store.Store
	locks locks
	quota quota
	copy  replica.Options

	mu       sync.Mutex
	closed   bool
	closing  context.Context // ended by Close
	cancel   context.CancelFunc
	inFlight sync.WaitGroup
}

// Volume is what tests may want to know of a volume.
type Volume struct {
	ID               string
	Name             string
	Bytes            int64
	Block            bool
	SourceVolumeID   string
	SourceSnapshotID string
	// MutableParameters are those that the volume has now.
	MutableParameters map[string]string
	// Path is the volume's directory, or its file if Block.
	Path string
}

// Snapshot is what tests may want to know of a snapshot.
type Snapshot struct {
	ID             string
	Name           string
	Bytes          int64
	SourceVolumeID string
	Path           string
}

// New opens the volumes in cfg.Dir and returns a driver for them. What an
// earlier driver left half done is removed.
func New(cfg Config) (*Driver, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	st, err := store.Open(cfg.Dir, !cfg.NoSync)
	if err != nil {
		return nil, err
	}
	d := &Driver{
		cfg:   cfg,
		store: st,
		copy:  replica.Options{NoSync: cfg.NoSync},
		quota: quota{limit: cfg.Capacity, used: st.Volumes.Bytes() + st.Snapshots.Bytes()},
	}
	d.closing, d.cancel = context.WithCancel(context.Background())
	return d, nil
}

// Register makes a server serve the driver: the identity and node services, and
// the controller service unless it is switched off.
func (d *Driver) Register(server *grpc.Server) {
	csi.RegisterIdentityServer(server, &identity{driver: d})
	csi.RegisterNodeServer(server, &node{driver: d})
	if d.hasPlugin(csi.PluginCapability_Service_CONTROLLER_SERVICE) {
		csi.RegisterControllerServer(server, &controller{driver: d})
	}
}

// Close ends the driver as a kill would: work in progress is given up, leaving
// nothing, and later calls are answered UNAVAILABLE. When it returns nothing
// changes in Dir any more and another driver may be made for it.
func (d *Driver) Close() error {
	d.mu.Lock()
	already := d.closed
	d.closed = true
	d.mu.Unlock()
	d.cancel()
	d.inFlight.Wait()
	if already {
		return nil
	}
	return d.store.Close()
}

// Volumes returns all volumes, oldest first.
func (d *Driver) Volumes() []Volume {
	var out []Volume
	for _, r := range d.store.Volumes.List() {
		out = append(out, Volume{
			ID: r.ID, Name: r.Name, Bytes: r.Bytes, Block: r.Block,
			SourceVolumeID: r.SourceVolumeID, SourceSnapshotID: r.SourceSnapshotID,
			MutableParameters: r.MutableParameters,
			Path:              d.store.Volumes.Path(r.ID),
		})
	}
	return out
}

// Snapshots returns all snapshots, oldest first.
func (d *Driver) Snapshots() []Snapshot {
	var out []Snapshot
	for _, r := range d.store.Snapshots.List() {
		out = append(out, Snapshot{
			ID: r.ID, Name: r.Name, Bytes: r.Bytes,
			SourceVolumeID: r.SourceVolumeID, Path: d.store.Snapshots.Path(r.ID),
		})
	}
	return out
}

// VolumePath returns where a volume's data are, or "" when there is no such
// volume.
func (d *Driver) VolumePath(id string) string {
	if _, ok := d.store.Volumes.Get(id); !ok {
		return ""
	}
	return d.store.Volumes.Path(id)
}

// begin admits a call that touches the store. The context it returns also ends
// with Close, which waits for done.
func (d *Driver) begin(ctx context.Context) (_ context.Context, done func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, nil, status.Errorf(codes.Unavailable, "driver %q has stopped; call again when it is back", d.cfg.Name)
	}
	d.inFlight.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(d.closing, cancel)
	return ctx, func() {
		stop()
		cancel()
		d.inFlight.Done()
	}, nil
}

// internal turns an error of the store or of copying into the answer to a call.
func (d *Driver) internal(ctx context.Context, what string, err error) error {
	switch {
	case d.closing.Err() != nil:
		return status.Errorf(codes.Unavailable, "%s: driver %q was stopped; call again when it is back", what, d.cfg.Name)
	case ctx.Err() != nil:
		return status.FromContextError(fmt.Errorf("%s: %w", what, ctx.Err())).Err()
	default:
		return status.Errorf(codes.Internal, "%s: %v", what, err)
	}
}
