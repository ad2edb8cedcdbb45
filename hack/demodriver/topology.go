package demodriver

import (
	"maps"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// topology is where volumes of the driver can be reached from; nil without
// topology.
func (d *Driver) topology() *csi.Topology {
	if !d.hasPlugin(csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS) {
		return nil
	}
	return &csi.Topology{Segments: maps.Clone(d.cfg.Segments)}
}

func (d *Driver) accessibleTopology() []*csi.Topology {
	if t := d.topology(); t != nil {
		return []*csi.Topology{t}
	}
	return nil
}

// reachable is true when the node is within a topology: every segment of it is
// the node's.
func (d *Driver) reachable(from *csi.Topology) bool {
	for key, value := range from.GetSegments() {
		if d.cfg.Segments[key] != value {
			return false
		}
	}
	return true
}

// checkTopology refuses a volume that nobody who needs it could reach.
func (d *Driver) checkTopology(requirement *csi.TopologyRequirement) error {
	requisite := requirement.GetRequisite()
	if d.topology() == nil || len(requisite) == 0 || slices.ContainsFunc(requisite, d.reachable) {
		return nil
	}
	return status.Errorf(codes.ResourceExhausted, "no requisite topology contains node %q of driver %q, which has %v", d.cfg.NodeID, d.cfg.Name, d.cfg.Segments)
}
