package record

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Pins is what the record fixes for all attempts to come.
type Pins struct {
	// VolumeName is the name in CreateVolume, and the name of the PV.
	VolumeName string
	// RequiredBytes is the capacity that CreateVolume asks for, in bytes.
	RequiredBytes int64
	// ContentSource is what CreateVolume is to copy, as FormatSource writes it; "" for a
	// blank volume.
	ContentSource string
	// Secret with which the driver is called, as namespace/name; "" for none.
	Secret string
	// Topology is how the places begin that CreateVolume is asked to prefer, as
	// topology.Format writes it; "" for none.
	Topology string
	// ReclaimPolicy that the StorageClass had, Retain or Delete; "" if it is not known.
	ReclaimPolicy v1.PersistentVolumeReclaimPolicy
}

// annotations are the pins as they stand on a claim, by key; "" stands for none.
func annotations(keys wellknown.Record, pins Pins) map[string]string {
	return map[string]string{
		keys.VolumeName:    pins.VolumeName,
		keys.RequiredBytes: strconv.FormatInt(pins.RequiredBytes, 10),
		keys.ContentSource: pins.ContentSource,
		keys.Secret:        pins.Secret,
		keys.Topology:      pins.Topology,
		keys.ReclaimPolicy: string(pins.ReclaimPolicy),
	}
}

// none takes all pins off, in a patch.
func none(keys wellknown.Record) map[string]any {
	off := map[string]any{}
	for key := range annotations(keys, Pins{}) {
		off[key] = nil
	}
	return off
}

// Naming says how volumes are named: --volume-name-prefix and
// --volume-name-uuid-length.
type Naming struct {
	// Prefix of the name, not empty.
	Prefix string
	// UUIDLength is how much of the claim's uid, without dashes, goes into the
	// name; -1 is all of it, with dashes.
	UUIDLength int
}

// VolumeName returns the name of the volume and the PV of the claim.
func (n Naming) VolumeName(claim types.UID) string {
	uid := string(claim)
	if n.UUIDLength >= 0 {
		uid = strings.ReplaceAll(uid, "-", "")
		uid = uid[:min(n.UUIDLength, len(uid))]
	}
	return n.Prefix + "-" + uid
}

// On says whether the claim carries the record.
func On(keys wellknown.Record, claim *v1.PersistentVolumeClaim) bool {
	return slices.Contains(claim.Finalizers, keys.Finalizer)
}

// Anybodys says whether the claim carries the record, or that of the driver's provisioner
// on another node.
func Anybodys(keys wellknown.Record, claim *v1.PersistentVolumeClaim) bool {
	return slices.ContainsFunc(claim.Finalizers, keys.Is)
}

// Makes reports whether the claim has a record, of whichever node, by which a process would
// ask the driver for the volume of the PV again. name is that of the claim's volume. A
// claimRef without a uid is that of a retained PV whose claim was bound to another one
// (Kubernetes, PersistentVolumes, "Reserving a PersistentVolume").
func Makes(keys wellknown.Record, claim *v1.PersistentVolumeClaim, name string, pv *v1.PersistentVolume) bool {
	ref := pv.Spec.ClaimRef
	if claim == nil || ref == nil || ref.Namespace != claim.Namespace || ref.Name != claim.Name || !Anybodys(keys, claim) {
		return false
	}
	return ref.UID == claim.UID || ref.UID == "" && name == pv.Name
}

// Left says whether the claim carries pins without the record they belong to: somebody
// else took that off.
func Left(keys wellknown.Record, claim *v1.PersistentVolumeClaim) bool {
	for key := range none(keys) {
		if _, found := claim.Annotations[key]; found {
			return !On(keys, claim)
		}
	}
	return false
}

// Says says whether the claim carries a record that says exactly this.
func Says(keys wellknown.Record, claim *v1.PersistentVolumeClaim, pins Pins) bool {
	for key, value := range annotations(keys, pins) {
		if claim.Annotations[key] != value {
			return false
		}
	}
	return On(keys, claim)
}

// enough is how much of the uid a name must hold to be believed with a prefix that is not
// ours: with less it could be made to name somebody else's volume.
const enough = 8

// Pinned returns what the record on the claim fixes. The name is believed if it
// ends in this claim's whole uid or a good part of its beginning, whatever prefix it was
// given; or if it is our prefix and any beginning of the uid. What is missing or not
// believed is zero; for the rest see Asked.
func Pinned(keys wellknown.Record, naming Naming, claim *v1.PersistentVolumeClaim) Pins {
	p := Asked(keys, claim)
	if name := claim.Annotations[keys.VolumeName]; nameCouldBeOurs(name, naming.Prefix, claim.UID) {
		p.VolumeName = name
	}
	return p
}

// Asked is Pinned without the name. The bytes are believed if they are no less than the
// claim asks for. The content source is believed if it can be read; nothing tells whether
// it was ours, so nothing may be copied for its sake alone. The Secret is returned as it
// stands: whether it can be believed is for the class to say (secret.CouldBe), and so is
// the topology. Whether the reclaim policy is believed is decided by volume.ReclaimPolicy.
func Asked(keys wellknown.Record, claim *v1.PersistentVolumeClaim) Pins {
	p := Pins{
		ContentSource: FormatSource(ParseSource(claim.Annotations[keys.ContentSource])),
		Secret:        claim.Annotations[keys.Secret],
		Topology:      claim.Annotations[keys.Topology],
		ReclaimPolicy: v1.PersistentVolumeReclaimPolicy(claim.Annotations[keys.ReclaimPolicy]),
	}
	request := claim.Spec.Resources.Requests[v1.ResourceStorage]
	bytes, err := strconv.ParseInt(claim.Annotations[keys.RequiredBytes], 10, 64)
	if err != nil || bytes <= 0 || request.AsApproximateFloat64() >= 1<<64 {
		return p // an exact comparison with 1e100000000 would take minutes
	}
	if request.CmpInt64(bytes) <= 0 {
		p.RequiredBytes = bytes
	}
	return p
}

// nameCouldBeOurs: "<any prefix>-<uid>" or "<prefix>-<start of the uid without dashes>",
// of eight characters at least if the prefix is not ours, and fit to be a PV's name.
func nameCouldBeOurs(name, ourPrefix string, claim types.UID) bool {
	if claim == "" || len(validation.IsDNS1123Subdomain(name)) > 0 {
		return false
	}
	if prefix, ok := strings.CutSuffix(name, "-"+string(claim)); ok {
		return prefix != ""
	}
	hex := strings.ReplaceAll(string(claim), "-", "")
	if start, ok := strings.CutPrefix(name, ourPrefix+"-"); ok && start != "" && strings.HasPrefix(hex, start) {
		return true
	}
	last := strings.LastIndexByte(name, '-')
	return last > 0 && len(name)-last > enough && strings.HasPrefix(hex, name[last+1:]) && !endsInUID(name)
}

// endsInUID: the name ends like that of a claim whose whole uid is in it, which is then
// another claim's, whatever its last part may be the beginning of.
func endsInUID(name string) bool {
	const length = len("00000000-0000-0000-0000-000000000000")
	if len(name) < length {
		return false
	}
	end := name[len(name)-length:]
	return end[8] == '-' && end[13] == '-' && end[18] == '-' && end[23] == '-'
}

// Write returns the strategic merge patch that puts the record on the claim. It
// carries uid and resourceVersion, so that it lands on the very version that was
// judged or not at all (the API server answers Conflict).
func Write(keys wellknown.Record, claim *v1.PersistentVolumeClaim, pins Pins) ([]byte, error) {
	written := none(keys)
	for key, value := range annotations(keys, pins) {
		if value != "" {
			written[key] = value
		}
	}
	return encode(claim, map[string]any{
		"uid":             claim.UID,
		"resourceVersion": claim.ResourceVersion,
		"finalizers":      []string{keys.Finalizer},
		"annotations":     written,
	})
}

// Erase returns the strategic merge patch that takes the record off the claim.
// Unlike Write it holds for whatever version it meets, so that it never runs
// into a conflict: what makes a claim through cannot come undone. It carries the
// uid, so that it never meets another claim of the same name.
func Erase(keys wellknown.Record, claim *v1.PersistentVolumeClaim) ([]byte, error) {
	return encode(claim, map[string]any{
		"uid":                                 claim.UID,
		"$deleteFromPrimitiveList/finalizers": []string{keys.Finalizer},
		"annotations":                         none(keys),
	})
}

// GiveBack is Erase that takes the selected node off, too: the scheduler then chooses
// again (Kubernetes, "WaitForFirstConsumer").
func GiveBack(keys wellknown.Record, claim *v1.PersistentVolumeClaim) ([]byte, error) {
	off := none(keys)
	off[wellknown.SelectedNode] = nil
	return encode(claim, map[string]any{
		"uid":                                 claim.UID,
		"$deleteFromPrimitiveList/finalizers": []string{keys.Finalizer},
		"annotations":                         off,
	})
}

// Select returns the strategic merge patch by which a node's provisioner takes a claim for
// which no node is chosen. Like Write it lands on the very version that was judged: of
// several nodes one is the first.
func Select(claim *v1.PersistentVolumeClaim, node string) ([]byte, error) {
	return choose(claim, node)
}

// Unselect is the opposite of Select: the claim is anybody's again.
func Unselect(claim *v1.PersistentVolumeClaim) ([]byte, error) { return choose(claim, nil) }

func choose(claim *v1.PersistentVolumeClaim, node any) ([]byte, error) {
	return encode(claim, map[string]any{
		"uid":             claim.UID,
		"resourceVersion": claim.ResourceVersion,
		"annotations":     map[string]any{wellknown.SelectedNode: node},
	})
}

// Protect returns the strategic merge patch that puts a finalizer on the claim
// or takes it off, with the same properties as Erase.
func Protect(claim metav1.Object, finalizer string, on bool) ([]byte, error) {
	field := "$deleteFromPrimitiveList/finalizers"
	if on {
		field = "finalizers"
	}
	return encode(claim, map[string]any{"uid": claim.GetUID(), field: []string{finalizer}})
}

func encode(claim metav1.Object, metadata map[string]any) ([]byte, error) {
	data, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return nil, fmt.Errorf("encoding a patch of claim %s/%s: %w", claim.GetNamespace(), claim.GetName(), err)
	}
	return data, nil
}
