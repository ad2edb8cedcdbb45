package csidriver

import (
	"context"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
)

// Segments asks the driver's node service where its node is (NodeGetInfo); none if the
// driver does not say.
func (d *Driver) Segments(ctx context.Context) (map[string]string, error) {
	info, err := untilAnswered(ctx, d, func(ctx context.Context, conn *grpc.ClientConn) (*csi.NodeGetInfoResponse, error) {
		return csi.NewNodeClient(conn).NodeGetInfo(ctx, &csi.NodeGetInfoRequest{})
	})
	if err != nil {
		return nil, fmt.Errorf("asking CSI driver %q for the topology of its node (NodeGetInfo): %w", d.Name, err)
	}
	return info.GetAccessibleTopology().GetSegments(), nil
}
