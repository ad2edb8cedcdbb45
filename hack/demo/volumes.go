package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// volumes speaks to the driver over its socket, as kubelet would.
type volumes struct {
	socket string
	conn   *grpc.ClientConn
	// dir is where volumes are shown.
	dir string
}

func connectVolumes(socket string) (*volumes, error) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("connecting to the driver: %w", err)
	}
	return &volumes{socket: socket, conn: conn, dir: filepath.Join(filepath.Dir(socket), "published")}, nil
}

func (v *volumes) close() error {
	if err := v.conn.Close(); err != nil {
		return fmt.Errorf("closing the connection to the driver: %w", err)
	}
	return nil
}

// probe returns nil when the driver is ready.
func (v *volumes) probe(ctx context.Context) error {
	// gRPC would wait a second after a first attempt in vain.
	if _, err := os.Stat(v.socket); err != nil {
		return err
	}
	_, err := csi.NewIdentityClient(v.conn).Probe(ctx, &csi.ProbeRequest{})
	return err
}

// with shows a volume at a path (NodePublishVolume), calls use with the path and
// takes the volume away again (NodeUnpublishVolume).
func (v *volumes) with(ctx context.Context, handle string, use func(path string) error) (err error) {
	if err := os.MkdirAll(v.dir, 0o755); err != nil {
		return fmt.Errorf("making the folder for published volumes: %w", err)
	}
	node := csi.NewNodeClient(v.conn)
	target := filepath.Join(v.dir, handle)
	_, err = node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId:   handle,
		TargetPath: target,
		VolumeCapability: &csi.VolumeCapability{
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		},
	})
	if err != nil {
		return fmt.Errorf("publishing volume %q: %w", handle, err)
	}
	defer func() {
		// Also after an interruption: what was published is taken away.
		_, gone := node.NodeUnpublishVolume(context.WithoutCancel(ctx), &csi.NodeUnpublishVolumeRequest{VolumeId: handle, TargetPath: target})
		if gone != nil {
			err = errors.Join(err, fmt.Errorf("unpublishing volume %q: %w", handle, gone))
		}
	}()
	return use(target)
}

// exists asks the driver's list of volumes.
func (v *volumes) exists(ctx context.Context, handle string) (bool, error) {
	list, err := csi.NewControllerClient(v.conn).ListVolumes(ctx, &csi.ListVolumesRequest{})
	if err != nil {
		return false, fmt.Errorf("listing volumes: %w", err)
	}
	for _, entry := range list.GetEntries() {
		if entry.GetVolume().GetVolumeId() == handle {
			return true, nil
		}
	}
	return false, nil
}
