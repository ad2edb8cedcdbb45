package planner

import (
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/request"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/secret"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/volume"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Plan is how a claim will be provisioned.
type Plan struct {
	// Class of the claim, as it is in the API.
	Class *storagev1.StorageClass
	// Source claim of a clone; nil for everything else.
	Source *v1.PersistentVolumeClaim
	// Snapshot that is restored; nil for everything else.
	Snapshot *source.VolumeSnapshot
	// Request for the driver.
	Request *csi.CreateVolumeRequest
	// Secrets that the class names for this volume. The provisioner's Secret is that of an
	// earlier call as long as that may have created a volume.
	Secrets secret.Refs
	// AttributesClass is the name of the VolumeAttributesClass in the request; empty for none.
	AttributesClass string
	// ReclaimPolicy of the PV; see volume.ReclaimPolicy.
	ReclaimPolicy v1.PersistentVolumeReclaimPolicy
	// Node that the scheduler has selected; empty if there is none, or it does not matter.
	Node string
	// OutOfReach is the verdict if the source of the clone cannot be used on that node.
	OutOfReach verdict.Verdict
	// Stale is true if no volume exists, and the record has other bytes or places, or another
	// source, Secret or reclaim policy than the plan. A process that takes over after a crash
	// would repeat the request with those.
	Stale bool
}

// Pins returns what the claim's record must contain for the plan.
func (p Plan) Pins() record.Pins {
	pins := record.Of(p.Request)
	pins.Secret, pins.ReclaimPolicy = p.Secrets.Provisioner.String(), p.ReclaimPolicy
	return pins
}

// Copies reports whether the volume is filled from a claim or a snapshot.
func (p Plan) Copies() bool { return p.Source != nil || p.Snapshot != nil }

// Plan gathers the facts about a claim from the caches and asks the rules, in the order in which
// a user would fix what is wrong. If recorded, this process has admitted the claim before, and
// rules that only gate the start of work are skipped. before, if not nil, is called with each
// object before it is read, so that the caller can wait for it.
func (p *Planner) Plan(claim *v1.PersistentVolumeClaim, recorded bool, before func(waitlist.Object)) (Plan, verdict.Verdict) {
	if before == nil {
		before = func(waitlist.Object) {}
	}
	class, asked, v := p.classOf(claim, before)
	if !v.Ready() {
		return Plan{}, v
	}
	facts := p.sourceFacts(claim, recorded, before)
	src, v := source.Judge(facts)
	if !v.Ready() {
		return Plan{}, v
	}
	name := p.VolumeName(claim)
	if v := p.checkName(claim, name, before); !v.Ready() {
		return Plan{}, v
	}
	attributes, v := p.attributes(claim, before)
	if !v.Ready() {
		return Plan{}, v
	}
	node := p.nodeOf(claim)
	unconsumed := bindsDelayed(class) && claim.Annotations[wellknown.SelectedNode] == ""
	var where *csi.TopologyRequirement
	if !unconsumed {
		if where, v = p.accessibility(claim, asked, facts.SourcePV, p.mayExistOnRecord(claim), before); !v.Ready() {
			return Plan{}, v
		}
	}
	req, v := p.build(claim, asked, src, attributes, name, where)
	if !v.Ready() {
		return Plan{}, v
	}
	refs, v := secret.Resolve(asked, templateValues(claim, name))
	if !v.Ready() {
		return Plan{}, v
	}
	if begun := p.recordedSecret(claim, asked, name); !begun.IsZero() {
		refs.Provisioner = begun
	}
	if unconsumed {
		return Plan{}, verdict.Ignored("", "waits for its first consumer")
	}
	plan := Plan{Class: class, Source: facts.Source, Snapshot: facts.Snapshot, Request: req, Secrets: refs, ReclaimPolicy: p.reclaimPolicy(claim, class)}
	if bindsDelayed(class) || p.Places != nil {
		plan.Node = node
	}
	plan.OutOfReach = p.sourceOutOfReach(claim, facts.SourcePV)
	if attributes != nil {
		plan.AttributesClass = attributes.Name
	}
	plan.Stale = p.stale(claim, plan.Pins())
	return plan, verdict.Verdict{}
}

// stale returns Plan.Stale. A recorded source that is kept on purpose is not stale.
func (p *Planner) stale(claim *v1.PersistentVolumeClaim, now record.Pins) bool {
	found := record.Asked(p.Keys, claim)
	kept, _ := p.Ledger.Kept(claim.UID)
	if !record.On(p.Keys, claim) || p.mayExist(claim) || kept != "" && kept == found.ContentSource {
		return false
	}
	return found.RequiredBytes != 0 && (found.RequiredBytes != now.RequiredBytes || found.Secret != now.Secret || found.Topology != now.Topology || found.ReclaimPolicy != now.ReclaimPolicy) ||
		found.ContentSource != "" && found.ContentSource != now.ContentSource
}

// classOf returns the claim's class if it belongs to the driver, or to the in-tree plugin that
// the driver replaces. asked is the class in the form that the driver understands.
func (p *Planner) classOf(claim *v1.PersistentVolumeClaim, before func(waitlist.Object)) (class, asked *storagev1.StorageClass, v verdict.Verdict) {
	name := source.ClassName(claim)
	before(waitlist.Class(name))
	class = p.Caches.Class(name)
	switch {
	case class == nil:
		return nil, nil, verdict.Waiting(verdict.ClassNotFound,
			"the claim waits for StorageClass %q, which does not exist; provisioning starts by itself when it is there", name)
	case !p.Provisions(class):
		return nil, nil, verdict.Refused(verdict.ClassOfAnotherDriver,
			"StorageClass %q belongs to driver %q, the claim was given to driver %q; create the claim again", name, class.Provisioner, p.Driver.Name)
	}
	if ok, missing := p.Driver.CanProvision(); !ok {
		return nil, nil, verdict.Refused(verdict.DriverLacks,
			"driver %q cannot provision volumes (no %s capability); use a class of another driver", p.Driver.Name, missing)
	}
	asked, v = p.Migration.Class(class)
	return class, asked, v
}

// Provisions reports whether the class belongs to the driver, or to the in-tree plugin that the
// driver replaces.
func (p *Planner) Provisions(class *storagev1.StorageClass) bool {
	return class.Provisioner == p.Driver.Name || p.Migration.Is(class.Provisioner)
}

// sourceFacts gathers the facts for the rules of package source.
func (p *Planner) sourceFacts(claim *v1.PersistentVolumeClaim, recorded bool, before func(waitlist.Object)) source.Facts {
	state, known := p.Ledger.State(claim.UID)
	facts := source.Facts{
		Claim: claim, Driver: p.Driver.Name, CanClone: p.Driver.CanClone(), Recorded: recorded,
		Found:  record.On(p.Keys, claim),
		LetGo:  known && state == ledger.Closed,
		Strict: p.Strict, OtherNamespaces: p.OtherNamespaces,
	}
	ref := source.Of(claim)
	if ref.Namespace != claim.Namespace && ref.Namespace != "" {
		before(waitlist.GrantsIn(ref.Namespace))
		facts.Grants = p.grantsIn(ref.Namespace)
	}
	switch ref.Kind {
	case source.Snapshot:
		p.snapshotFacts(&facts, ref, before)
		return facts
	case source.None, source.Populator:
		return facts
	case source.Claim:
	}
	before(waitlist.Claim(ref.Namespace, ref.Name))
	facts.Source = p.Caches.Claim(ref.Namespace, ref.Name)
	if facts.Source == nil || facts.Source.Spec.VolumeName == "" {
		return facts
	}
	before(waitlist.PV(facts.Source.Spec.VolumeName))
	facts.SourcePV = p.Caches.PV(facts.Source.Spec.VolumeName)
	return facts
}

func (p *Planner) grantsIn(namespace string) []source.Grant {
	var grants []source.Grant
	for _, object := range p.Caches.GrantsIn(namespace) {
		grants = append(grants, source.GrantOf(object))
	}
	return grants
}

// checkName checks that no PV of another claim has the name that this claim's PV will get, and
// that no other recorded claim has a volume of that name in progress. The older of two recorded
// claims passes.
func (p *Planner) checkName(claim *v1.PersistentVolumeClaim, name string, before func(waitlist.Object)) verdict.Verdict {
	before(waitlist.PV(name))
	before(waitlist.VolumeName(name))
	// Its PV may have another name: an earlier process may have given volumes other names.
	for _, pv := range p.Caches.PVsOfClaim(claim.UID) {
		before(waitlist.PV(pv.Name))
		if volume.SavedFor(pv, claim, p.Driver.Name) {
			return verdict.Ignored("", "its PV exists")
		}
	}
	if pv := p.Caches.PV(name); pv != nil {
		return verdict.Refused(verdict.VolumeNameTaken,
			"PV %q has the name of this claim's volume but is not its PV; remove that PV, or use a longer --volume-name-uuid-length", name)
	}
	recorded := record.On(p.Keys, claim)
	for _, other := range p.Caches.ClaimsOfVolumeName(name) {
		if other.UID == claim.UID || recorded && isOlder(claim, other) {
			continue
		}
		return verdict.Waiting(verdict.VolumeNameInUse,
			"the claim waits until volume %q of claim %s/%s is made, whose name it would share; use a longer --volume-name-uuid-length", name, other.Namespace, other.Name)
	}
	return verdict.Verdict{}
}

// isOlder reports whether a claim was created before another one. The uid decides between two of
// the same second, so that exactly one of them is older.
func isOlder(claim, than *v1.PersistentVolumeClaim) bool {
	if !claim.CreationTimestamp.Equal(&than.CreationTimestamp) {
		return claim.CreationTimestamp.Before(&than.CreationTimestamp)
	}
	return claim.UID < than.UID
}

func (p *Planner) build(claim *v1.PersistentVolumeClaim, class *storagev1.StorageClass, src *source.Volume, attributes *storagev1.VolumeAttributesClass, name string, where *csi.TopologyRequirement) (*csi.CreateVolumeRequest, verdict.Verdict) {
	in := request.Input{
		Claim: claim, Class: class, Source: src, Attributes: attributes, Name: name, Accessibility: where,
		DefaultFSType: p.DefaultFSType, ExtraMetadata: p.ExtraMetadata,
		SingleNodeMultiWriter: p.Driver.Controller[csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER],
	}
	// Bytes are repeated only as long as an earlier request may have created a volume; later
	// the source may have grown beyond them.
	if p.mayExistOnRecord(claim) {
		in.PinnedBytes = record.Pinned(p.Keys, p.Naming, claim).RequiredBytes
	}
	return request.Build(in)
}

// recordedSecret returns the Secret in the claim's record if it is credible and a volume may have
// been created with it; else a zero ref.
func (p *Planner) recordedSecret(claim *v1.PersistentVolumeClaim, class *storagev1.StorageClass, name string) secret.Ref {
	if !p.mayExistOnRecord(claim) {
		return secret.Ref{}
	}
	ref := secret.Parse(record.Pinned(p.Keys, p.Naming, claim).Secret)
	if ref.IsZero() || secret.CouldBe(ref, class, templateValues(claim, name)) || p.provenByPV(ref, class.Name, claim.Namespace) {
		return ref
	}
	return secret.Ref{}
}

// provenByPV reports whether a PV proves that the class, which was recreated since, named the
// Secret for claims of the namespace. It reads all PVs of the driver from the cache; that is rare,
// because it is needed only for the work of an earlier process with a class that was changed.
func (p *Planner) provenByPV(ref secret.Ref, class, namespace string) bool {
	return slices.ContainsFunc(p.Caches.OwnVolumes(), func(pv *v1.PersistentVolume) bool {
		return secret.Vouches(pv, ref, p.Driver.Name, class, namespace)
	})
}

// reclaimPolicy returns the reclaim policy of the claim's volume. class is nil if it does not
// exist. The recorded policy counts as long as an earlier call may have created a volume.
func (p *Planner) reclaimPolicy(claim *v1.PersistentVolumeClaim, class *storagev1.StorageClass) v1.PersistentVolumeReclaimPolicy {
	if !p.mayExist(claim) {
		return volume.ReclaimPolicy("", "", class)
	}
	var recorded v1.PersistentVolumeReclaimPolicy
	if record.On(p.Keys, claim) {
		recorded = record.Asked(p.Keys, claim).ReclaimPolicy
	}
	return volume.ReclaimPolicy(recorded, p.Ledger.Beside(claim.UID).ReclaimPolicy, class)
}

// mayExist reports whether a volume may exist for a claim that has a record.
func (p *Planner) mayExist(claim *v1.PersistentVolumeClaim) bool {
	state, known := p.Ledger.State(claim.UID)
	return !known || state == ledger.Unknown
}

// mayExistOnRecord reports whether the claim has a record and a volume may exist for it.
func (p *Planner) mayExistOnRecord(claim *v1.PersistentVolumeClaim) bool {
	return record.On(p.Keys, claim) && p.mayExist(claim)
}

func bindsDelayed(class *storagev1.StorageClass) bool {
	return class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}
