package demodriver

import (
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Short names for the capabilities of the controller service.
const (
	canCreateVolumes   = csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME
	canClone           = csi.ControllerServiceCapability_RPC_CLONE_VOLUME
	canCreateSnapshots = csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT
	canListSnapshots   = csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS
	canListVolumes     = csi.ControllerServiceCapability_RPC_LIST_VOLUMES
	canGetCapacity     = csi.ControllerServiceCapability_RPC_GET_CAPACITY
	canMultiWriter     = csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER
	canModify          = csi.ControllerServiceCapability_RPC_MODIFY_VOLUME
)

// controllerCapabilities are those offered when none is switched off.
func controllerCapabilities() []csi.ControllerServiceCapability_RPC_Type {
	return []csi.ControllerServiceCapability_RPC_Type{
		canCreateVolumes, canClone, canCreateSnapshots, canListSnapshots,
		canListVolumes, canGetCapacity, canMultiWriter, canModify,
	}
}

func pluginCapabilities() []csi.PluginCapability_Service_Type {
	return []csi.PluginCapability_Service_Type{
		csi.PluginCapability_Service_CONTROLLER_SERVICE,
		csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS,
	}
}

// can is true when a controller capability is offered.
func (d *Driver) can(rpc csi.ControllerServiceCapability_RPC_Type) bool {
	if rpc == canModify && !d.cfg.Modifies {
		return false
	}
	return slices.Contains(controllerCapabilities(), rpc) && !slices.Contains(d.cfg.Without, rpc)
}

// hasPlugin is true when a plugin capability is offered.
func (d *Driver) hasPlugin(service csi.PluginCapability_Service_Type) bool {
	if service == csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS && len(d.cfg.Segments)+len(d.cfg.Places) == 0 {
		return false
	}
	return !slices.Contains(d.cfg.WithoutPlugin, service)
}

// demand answers a call whose capability is switched off.
func (d *Driver) demand(rpc csi.ControllerServiceCapability_RPC_Type) error {
	if d.can(rpc) {
		return nil
	}
	return status.Errorf(codes.Unimplemented, "driver %q does not offer %s", d.cfg.Name, rpc)
}

// authenticate answers a call that does not carry the secrets which the driver wants.
func (d *Driver) authenticate(secrets map[string]string) error {
	for key, value := range d.cfg.Secrets {
		if secrets[key] != value {
			return status.Errorf(codes.Unauthenticated, "driver %q wants another secret under key %q", d.cfg.Name, key)
		}
	}
	return nil
}

// checkCapabilities returns why the driver cannot make a volume that has all of
// the capabilities, or whether that volume is a block volume.
func (d *Driver) checkCapabilities(capabilities []*csi.VolumeCapability) (block bool, err error) {
	if len(capabilities) == 0 {
		return false, status.Error(codes.InvalidArgument, "volume_capabilities is empty")
	}
	for i, capability := range capabilities {
		if err := d.checkCapability(capability); err != nil {
			return false, err
		}
		if i > 0 && block != (capability.GetBlock() != nil) {
			return false, status.Error(codes.InvalidArgument, "volume_capabilities ask for both block and mount access; a volume has one of them")
		}
		block = capability.GetBlock() != nil
	}
	return block, nil
}

func (d *Driver) checkCapability(capability *csi.VolumeCapability) error {
	if capability.GetBlock() == nil && capability.GetMount() == nil {
		return status.Error(codes.InvalidArgument, "volume_capability has no access_type")
	}
	mode := capability.GetAccessMode().GetMode()
	if !d.offersMode(mode) {
		return status.Errorf(codes.InvalidArgument, "driver %q does not offer access mode %s", d.cfg.Name, mode)
	}
	return nil
}

// offersMode: one directory is one node's when it has a topology, unless that is said to be
// a place of several, else everybody's.
func (d *Driver) offersMode(mode csi.VolumeCapability_AccessMode_Mode) bool {
	switch mode {
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY:
		return true
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:
		return d.can(canMultiWriter)
	case csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY,
		csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER,
		csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:
		return len(d.cfg.Segments) == 0 || d.cfg.Shared
	default:
		return false
	}
}
