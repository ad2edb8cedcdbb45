package journal

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Labels of the Leases, by which entries are found and left out of backups.
const (
	keyPrefix = "csi-clone-provisioner/"
	// LabelDriver is the name of the CSI driver. Every entry has it.
	LabelDriver = keyPrefix + "driver"
	// LabelClaim is the uid of the claim.
	LabelClaim = keyPrefix + "claim-uid"
	// LabelSource is the uid of the source of a clone or restore.
	LabelSource = keyPrefix + "source-uid"
	// LabelNode is the node of a provisioner that works for one node.
	LabelNode = keyPrefix + "node"
)

// Annotations of the Leases.
const (
	annotationFormat     = keyPrefix + "format"
	annotationClaim      = keyPrefix + "claim"
	annotationClass      = keyPrefix + "storage-class"
	annotationVolume     = keyPrefix + "volume-name"
	annotationPolicy     = keyPrefix + "reclaim-policy"
	annotationSince      = keyPrefix + "since"
	annotationLastAnswer = keyPrefix + "last-answer"
	annotationDoubt      = keyPrefix + "doubt"
	// annotationRequest is JSON, the other annotations are for people to read, too.
	annotationRequest = keyPrefix + "request"
)

const (
	format = "1"
	// maxSize of all labels and annotations in bytes. API servers keep many revisions and
	// watch events of every Lease in memory.
	maxSize = 16 << 10
	// maxAnswer is how many bytes of the driver's last answer are kept.
	maxAnswer = 512
	// maxLabel is the longest value of a label (Kubernetes, "Labels and Selectors").
	maxLabel = validation.LabelValueMaxLength
)

var (
	// ErrFormat is returned for a Lease in a format of another version.
	ErrFormat = errors.New("the entry has the format of another version")
	// ErrMalformed is returned for a Lease that is not what a provisioner writes.
	ErrMalformed = errors.New("the entry cannot be read")
	// ErrTooLarge is returned for an entry that exceeds the size limit even when abridged.
	ErrTooLarge = errors.New("the journal entry would be too large")
)

// request is the part of an entry that is stored as JSON.
type request struct {
	ClaimUID        types.UID                       `json:"claimUID"`
	ClaimCreated    metav1.Time                     `json:"claimCreated"`
	Class           Class                           `json:"class"`
	RequiredBytes   int64                           `json:"requiredBytes,omitempty"`
	LimitBytes      int64                           `json:"limitBytes,omitempty"`
	Source          *Source                         `json:"source,omitempty"`
	Places          string                          `json:"places,omitempty"`
	Secret          string                          `json:"secret,omitempty"`
	PVSecrets       map[string]string               `json:"pvSecrets,omitempty"`
	MountOptions    []string                        `json:"mountOptions,omitempty"`
	AccessModes     []v1.PersistentVolumeAccessMode `json:"accessModes,omitempty"`
	VolumeMode      v1.PersistentVolumeMode         `json:"volumeMode,omitempty"`
	AttributesClass string                          `json:"attributesClass,omitempty"`
	Abridged        Abridged                        `json:"abridged,omitzero"`
}

// Name returns the name of the Lease of a claim's volume. node is "" unless the provisioner
// works for one node.
func Name(driver string, claim types.UID, node string) string {
	sum := sha256.Sum256([]byte(driver + "\x00" + string(claim) + "\x00" + node))
	return "csi-volume-" + hex.EncodeToString(sum[:16])
}

// HashParameters returns a short hash of a StorageClass's parameters.
func HashParameters(parameters map[string]string) string {
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		_, _ = fmt.Fprintf(h, "%d %s %d %s ", len(key), key, len(parameters[key]), parameters[key])
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// labelValue returns the text if it may be a label's value, else a hash of it.
func labelValue(text string) string {
	if len(text) <= maxLabel && len(validation.IsValidLabelValue(text)) == 0 {
		return text
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

// encode returns the Lease of an entry, without holder and times. If the Lease would be too
// large the parameters are left out of it, then the mount options, then the places.
func encode(e Entry, driver, namespace, node string) (*coordinationv1.Lease, error) {
	for _, abridge := range []func(*Entry){
		func(*Entry) {},
		func(e *Entry) { e.Class.Parameters, e.Abridged.Parameters = nil, true },
		func(e *Entry) { e.MountOptions, e.Abridged.MountOptions = nil, true },
		func(e *Entry) { e.Places, e.Abridged.Places = "", true },
	} {
		abridge(&e)
		lease, err := encodeWhole(e, driver, namespace, node)
		if err != nil || size(lease) <= maxSize {
			return lease, err
		}
	}
	return nil, fmt.Errorf("%w for claim %s/%s: it has more than %d bytes without StorageClass parameters, mount options and topology", ErrTooLarge, e.Claim.Namespace, e.Claim.Name, maxSize)
}

func encodeWhole(e Entry, driver, namespace, node string) (*coordinationv1.Lease, error) {
	data, err := json.Marshal(request{
		ClaimUID: e.Claim.UID, ClaimCreated: metav1.NewTime(e.Claim.Created), Class: e.Class,
		RequiredBytes: e.RequiredBytes, LimitBytes: e.LimitBytes, Source: e.Source, Places: e.Places,
		Secret: e.Secret, PVSecrets: e.PVSecrets, MountOptions: e.MountOptions, AccessModes: e.AccessModes,
		VolumeMode: e.VolumeMode, AttributesClass: e.AttributesClass, Abridged: e.Abridged,
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the journal entry of claim %s/%s: %w", e.Claim.Namespace, e.Claim.Name, err)
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: Name(driver, e.Claim.UID, node),
		Labels: map[string]string{LabelDriver: labelValue(driver), LabelClaim: labelValue(string(e.Claim.UID))},
		Annotations: map[string]string{
			annotationFormat: format,
			annotationClaim:  e.Claim.Namespace + "/" + e.Claim.Name,
			annotationClass:  e.Class.Name,
			annotationVolume: e.VolumeName,
			annotationPolicy: string(e.ReclaimPolicy),
			annotationSince:  e.Since.UTC().Format(time.RFC3339),

			annotationRequest: string(data),
		},
	}}
	if e.Source != nil {
		lease.Labels[LabelSource] = labelValue(string(e.Source.UID))
	}
	if node != "" {
		lease.Labels[LabelNode] = labelValue(node)
	}
	if e.LastAnswer != "" {
		lease.Annotations[annotationLastAnswer] = cut(e.LastAnswer, maxAnswer)
	}
	if e.Doubt != "" {
		lease.Annotations[annotationDoubt] = cut(e.Doubt, maxAnswer)
	}
	return lease, nil
}

// cut returns the beginning of the text, of at most limit bytes and valid UTF-8.
func cut(text string, limit int) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

func size(lease *coordinationv1.Lease) int {
	total := 0
	for key, value := range lease.Labels {
		total += len(key) + len(value)
	}
	for key, value := range lease.Annotations {
		total += len(key) + len(value)
	}
	return total
}

// decode returns the entry of a Lease. The error wraps ErrFormat or ErrMalformed; the entry
// then has only what could be read.
func decode(lease *coordinationv1.Lease, driver, node string) (Entry, error) {
	a := lease.Annotations
	namespace, name, named := strings.Cut(a[annotationClaim], "/")
	e := Entry{
		Claim:         Claim{Namespace: namespace, Name: name},
		VolumeName:    a[annotationVolume],
		ReclaimPolicy: v1.PersistentVolumeReclaimPolicy(a[annotationPolicy]),
		LastAnswer:    a[annotationLastAnswer],
		Doubt:         a[annotationDoubt],
	}
	e.Class.Name = a[annotationClass]
	if f := a[annotationFormat]; f != format {
		return e, fmt.Errorf("%w (%q, this one reads %q)", ErrFormat, f, format)
	}
	var err error
	if e.Since, err = time.Parse(time.RFC3339, a[annotationSince]); err != nil {
		return e, fmt.Errorf("%w: annotation %s: %w", ErrMalformed, annotationSince, err)
	}
	var r request
	if err := json.Unmarshal([]byte(a[annotationRequest]), &r); err != nil {
		return e, fmt.Errorf("%w: annotation %s: %w", ErrMalformed, annotationRequest, err)
	}
	r.Class.Name = e.Class.Name
	e.Claim.UID, e.Claim.Created, e.Class = r.ClaimUID, r.ClaimCreated.Time, r.Class
	e.RequiredBytes, e.LimitBytes, e.Source, e.Places = r.RequiredBytes, r.LimitBytes, r.Source, r.Places
	e.Secret, e.PVSecrets, e.MountOptions, e.AccessModes = r.Secret, r.PVSecrets, r.MountOptions, r.AccessModes
	e.VolumeMode, e.AttributesClass, e.Abridged = r.VolumeMode, r.AttributesClass, r.Abridged
	switch {
	case !named || namespace == "" || name == "" || r.ClaimUID == "":
		return e, fmt.Errorf("%w: it names no claim", ErrMalformed)
	case e.VolumeName == "":
		return e, fmt.Errorf("%w: it names no volume", ErrMalformed)
	case r.RequiredBytes < 0 || r.LimitBytes < 0:
		return e, fmt.Errorf("%w: its size is negative", ErrMalformed)
	case lease.Name != Name(driver, r.ClaimUID, node):
		return e, fmt.Errorf("%w: its name is not that of driver %q, claim uid %q and node %q", ErrMalformed, driver, r.ClaimUID, node)
	}
	return e, nil
}

const (
	// maxLag is how much later than its entry a Lease may have been created: the clocks of
	// the provisioner and the API server may differ. A later one is a copy.
	maxLag = time.Hour
	// maxIdle is how long an entry may go without a renewal before it counts as very old.
	// Holders renew their entries every few hours; see renewAfter.
	maxIdle = 24 * time.Hour
)

// doubt returns why the Lease may be a copy of an entry, may come from a backup, or may be very
// old, in addition to what the entry says itself; "" for none of these. now is the time by this
// process's wall clock.
func doubt(lease *coordinationv1.Lease, e Entry, now time.Time) string {
	created := lease.CreationTimestamp.Time
	switch {
	case e.Doubt != "":
		return e.Doubt
	case !created.IsZero() && created.Sub(e.Since) > maxLag:
		return fmt.Sprintf("its Lease was created at %s, long after the entry was made at %s: it may be a copy or come from a backup",
			created.UTC().Format(time.RFC3339), e.Since.UTC().Format(time.RFC3339))
	case lease.Spec.RenewTime == nil:
		return "its Lease has no renewTime"
	case now.Sub(lease.Spec.RenewTime.Time) > maxIdle:
		return fmt.Sprintf("no provisioner has renewed it since %s", lease.Spec.RenewTime.UTC().Format(time.RFC3339))
	}
	return ""
}
