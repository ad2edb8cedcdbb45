package demodriver

import (
	"fmt"
	"math"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

const (
	// DefaultName is the driver name when Config has none.
	DefaultName = "demo.csi-clone-provisioner.example"
	// minGranularity is 1 MiB: the unit in which disk tools count.
	minGranularity = 1 << 20
)

// PublishMode is how NodePublishVolume shows a volume at its target path.
type PublishMode string

const (
	// PublishAuto mounts as root if that is allowed and links otherwise.
	PublishAuto PublishMode = "auto"
	// PublishMount always bind-mounts.
	PublishMount PublishMode = "mount"
	// PublishSymlink always makes a symbolic link.
	PublishSymlink PublishMode = "symlink"
)

// Config says what driver to make. Only Dir is required.
type Config struct {
	// Name is the driver's name; empty means DefaultName.
	Name string
	// Version is the version it reports; empty means "dev".
	Version string
	// Dir is where volumes are kept. It is made if missing and belongs to one
	// driver at a time.
	Dir string
	// NodeID is what NodeGetInfo reports; empty means "node-1".
	NodeID string
	// Segments is the topology of the node; empty means no topology at all.
	Segments map[string]string
	// Shared: the place that Segments tell is one of several nodes, all of which can use its
	// volumes at once.
	Shared bool
	// Places are where volumes can be put, for a driver whose storage is not that of its
	// node: each volume is at one of them, the first that is preferred. Empty means that
	// all are where the node is.
	Places []map[string]string
	// CopiesStay: a copy can only be made at the place of its source.
	CopiesStay bool
	// Capacity is how many bytes of volumes and snapshots there may be; 0 means
	// no limit, GetCapacity then reports what the file system has free.
	Capacity int64
	// Granularity is what sizes are rounded up to; 0 means 1 MiB, the least.
	Granularity int64
	// PublishMode is how volumes are shown on the node; empty means PublishAuto.
	PublishMode PublishMode
	// LoopDevices makes block volumes real block devices on the node: NodeStageVolume
	// attaches a loop device, for which it takes root. Else a block volume is shown as the
	// file that it is, and there is nothing to stage.
	LoopDevices bool
	// Without lists controller capabilities to leave out. The calls behind them
	// are refused.
	Without []csi.ControllerServiceCapability_RPC_Type
	// WithoutPlugin lists plugin capabilities to leave out. Without
	// CONTROLLER_SERVICE there is no controller service.
	WithoutPlugin []csi.PluginCapability_Service_Type
	// Secrets are what calls that create or delete a volume must carry, else they are
	// answered UNAUTHENTICATED; empty means that anybody may.
	Secrets map[string]string
	// Modifies offers MODIFY_VOLUME: volumes have mutable parameters, any at all.
	Modifies bool
	// NoSync leaves it to the operating system when data reach the disk: faster,
	// and safe against a crash of the driver but not of the machine.
	NoSync bool
}

// withDefaults fills in what is empty.
func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = DefaultName
	}
	if c.Version == "" {
		c.Version = "dev"
	}
	if c.NodeID == "" {
		c.NodeID = "node-1"
	}
	if c.Granularity == 0 {
		c.Granularity = minGranularity
	}
	if c.PublishMode == "" {
		c.PublishMode = PublishAuto
	}
	return c
}

func (c Config) validate() error {
	if c.Dir == "" {
		return fmt.Errorf("demo driver %q has no directory; set Dir", c.Name)
	}
	if c.Granularity < minGranularity || c.Granularity > math.MaxInt64/2 {
		return fmt.Errorf("granularity of demo driver %q is %d bytes; use %d or more", c.Name, c.Granularity, int64(minGranularity))
	}
	if c.Capacity < 0 {
		return fmt.Errorf("capacity of demo driver %q is %d bytes; use 0 (no limit) or more", c.Name, c.Capacity)
	}
	if c.LoopDevices && c.PublishMode != PublishMount {
		return fmt.Errorf("demo driver %q is to have loop devices but publishes by %q; use mount, a link is no device", c.Name, c.PublishMode)
	}
	switch c.PublishMode {
	case PublishAuto, PublishMount, PublishSymlink:
		return nil
	default:
		return fmt.Errorf("publish mode of demo driver %q is %q; use auto, mount or symlink", c.Name, c.PublishMode)
	}
}
