package nodelocal

import (
	"context"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/csidriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Delays bound the waits before a claim is taken.
type Delays struct{ Base, Max time.Duration }

// After returns how long to wait after that many tries: Base, doubled with each of them up
// to Max, less a part of Base that is left to chance. Without a try it is anything between
// nothing and Base.
//
// Rule: spec of the incumbent, node deployment, trying to own.
func (d Delays) After(tries int, random func(time.Duration) time.Duration) time.Duration {
	wait := d.Base
	for ; tries > 0 && wait < d.Max; tries-- {
		wait *= 2
	}
	return max(0, min(wait, d.Max)-random(d.Base))
}

// Asks returns what the driver is to be asked, one after the other, to find out whether there
// is room for a volume: once for each place where that may be, and without a place if none is
// required. The names of claim and PV, which may be among the parameters, say nothing about
// room.
func Asks(volume *csi.CreateVolumeRequest) []*csi.GetCapacityRequest {
	parameters := map[string]string{}
	for key, value := range volume.GetParameters() {
		if !strings.HasPrefix(key, wellknown.ParameterPrefix) {
			parameters[key] = value
		}
	}
	places := volume.GetAccessibilityRequirements().GetRequisite()
	if len(places) == 0 {
		places = []*csi.Topology{nil}
	}
	asks := make([]*csi.GetCapacityRequest, 0, len(places))
	for _, place := range places {
		asks = append(asks, &csi.GetCapacityRequest{VolumeCapabilities: volume.GetVolumeCapabilities(), Parameters: parameters, AccessibleTopology: place})
	}
	return asks
}

// Fits says whether a volume of that many bytes can be made where so many are free, and most
// of them for one volume; 0 for no such limit.
func Fits(bytes, free, most int64) bool {
	return bytes == 0 || bytes <= free && (most == 0 || bytes <= most)
}

// enough says whether the driver has room for the volume here. A driver that does not tell
// it, or says that the question is wrong, is to be asked for the volume: then the user learns
// what it says. An error means that it did not answer.
func (c *Controller) enough(ctx context.Context, volume *csi.CreateVolumeRequest) (bool, error) {
	bytes := volume.GetCapacityRange().GetRequiredBytes()
	if c.Room == nil || bytes == 0 {
		return true, nil
	}
	for _, ask := range Asks(volume) {
		free, most, err := c.Room(ctx, ask)
		switch {
		case err != nil && csidriver.Classify(err).Proof == ledger.Indeterminate:
			return false, err
		case err != nil, Fits(bytes, free, most):
			return true, nil //nolint:nilerr // see above
		}
	}
	return false, nil
}
