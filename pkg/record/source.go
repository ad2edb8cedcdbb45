package record

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/topology"
)

// The two kinds of a content source, as the record writes them.
const (
	volumeKind   = "volume:"
	snapshotKind = "snapshot:"
)

// mostSource is how long a content source on record may be: CSI's own limit for a
// handle is 128 bytes, and the API server's for all annotations of a claim 256 KiB.
const mostSource = 4 << 10

// Of returns the pins of a request: what a later process must repeat.
func Of(req *csi.CreateVolumeRequest) Pins {
	return Pins{
		VolumeName:    req.GetName(),
		RequiredBytes: req.GetCapacityRange().GetRequiredBytes(),
		ContentSource: FormatSource(req.GetVolumeContentSource()),
		Topology:      topology.Format(req.GetAccessibilityRequirements()),
	}
}

// FormatSource returns the content source as text: its kind and its handle. "" is a blank
// volume, and a handle that no record can hold: it is too long, has control characters or
// is no text.
func FormatSource(source *csi.VolumeContentSource) string {
	var text string
	switch volume, snapshot := source.GetVolume().GetVolumeId(), source.GetSnapshot().GetSnapshotId(); {
	case volume != "":
		text = volumeKind + volume
	case snapshot != "":
		text = snapshotKind + snapshot
	}
	if len(text) > mostSource || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return ""
	}
	return text
}

// ParseSource is the inverse of FormatSource: nil for what that does not return.
func ParseSource(text string) *csi.VolumeContentSource {
	var source *csi.VolumeContentSource
	if handle, ok := strings.CutPrefix(text, volumeKind); ok {
		source = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
			Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: handle},
		}}
	} else if handle, ok := strings.CutPrefix(text, snapshotKind); ok {
		source = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
			Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: handle},
		}}
	}
	if source == nil || FormatSource(source) != text {
		return nil
	}
	return source
}
