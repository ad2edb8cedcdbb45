package demodriver

import (
	"maps"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver/store"
)

// topology is where volumes of the driver can be reached from; nil without
// topology.
func (d *Driver) topology() *csi.Topology {
	if !d.hasPlugin(csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS) {
		return nil
	}
	return &csi.Topology{Segments: maps.Clone(d.cfg.Segments)}
}

// accessibleFrom is where the volume can be used.
func (d *Driver) accessibleFrom(volume store.Record) []*csi.Topology {
	t := d.topology()
	if t == nil {
		return nil
	}
	if len(d.cfg.Places) > 0 {
		t.Segments = maps.Clone(volume.Place)
	}
	return []*csi.Topology{t}
}

// reachable is true when the node is within a topology: every segment of it is
// the node's.
func (d *Driver) reachable(from *csi.Topology) bool { return within(d.cfg.Segments, from) }

// offers is true when there may be volumes that can be used from the topology.
func (d *Driver) offers(from *csi.Topology) bool {
	return d.topology() == nil || d.reachable(from) ||
		slices.ContainsFunc(d.cfg.Places, func(place map[string]string) bool { return within(place, from) })
}

// within is true when every segment of the topology is one of the place.
func within(place map[string]string, topology *csi.Topology) bool {
	for key, value := range topology.GetSegments() {
		if place[key] != value {
			return false
		}
	}
	return true
}

// usable is true when the volume can be used from where it has to be.
func (d *Driver) usable(volume store.Record, requirement *csi.TopologyRequirement) bool {
	requisite := requirement.GetRequisite()
	place := d.cfg.Segments
	if len(d.cfg.Places) > 0 {
		place = volume.Place
	}
	return d.topology() == nil || len(requisite) == 0 ||
		slices.ContainsFunc(requisite, func(t *csi.Topology) bool { return within(place, t) })
}

// choose returns the place for a new volume, nil where there is nothing to choose; an
// error if it would be one that nobody who needs the volume could reach.
func (d *Driver) choose(requirement *csi.TopologyRequirement, source store.Record) (map[string]string, error) {
	if len(d.cfg.Places) == 0 {
		if d.usable(store.Record{}, requirement) {
			return nil, nil
		}
		return nil, status.Errorf(codes.ResourceExhausted, "no requisite topology contains node %q of driver %q, which has %v", d.cfg.NodeID, d.cfg.Name, d.cfg.Segments)
	}
	places := d.cfg.Places
	if d.cfg.CopiesStay && source.ID != "" {
		places = []map[string]string{source.Place}
	}
	wanted := slices.Concat(requirement.GetPreferred(), requirement.GetRequisite())
	if len(wanted) == 0 {
		return places[0], nil
	}
	for _, t := range wanted {
		for _, place := range places {
			if within(place, t) {
				return place, nil
			}
		}
	}
	if source.ID != "" {
		return nil, status.Errorf(codes.InvalidArgument, "content source %q is at %v, and driver %q copies to nowhere else", source.ID, source.Place, d.cfg.Name)
	}
	return nil, status.Errorf(codes.ResourceExhausted, "driver %q has none of the requisite places", d.cfg.Name)
}
