package provision

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
	// Secrets that the class names for this volume. That of the provisioner is the one
	// that an earlier attempt was begun with, as long as that may have made something.
	Secrets secret.Refs
	// AttributesClass is the claim's VolumeAttributesClass, heeded in the request; empty
	// for none.
	AttributesClass string
	// ReclaimPolicy of the PV; see volume.ReclaimPolicy.
	ReclaimPolicy v1.PersistentVolumeReclaimPolicy
	// Node that the scheduler has chosen; empty if it has not, or if that changes nothing.
	Node string
	// OutOfReach: the source of the clone cannot be used on that node.
	OutOfReach verdict.Verdict
	// Stale: nothing exists, and the record pins other bytes or places, or another source,
	// Secret or reclaim policy than today's. A process that takes over after a crash would
	// repeat the request with those.
	Stale bool
}

// Pins returns what the record must say of the plan.
func (p Plan) Pins() record.Pins {
	pins := record.Of(p.Request)
	pins.Secret, pins.ReclaimPolicy = p.Secrets.Provisioner.String(), p.ReclaimPolicy
	return pins
}

// Plan gathers the facts about a claim from the caches and asks the rules, in
// the order in which a person would mend what is wrong. recorded says that this
// process has admitted the claim before, and waives what must not stop work in
// progress. before, if not nil, is called with each
// object before it is read, so that the caller can wait for it.
func (p *Provisioner) Plan(claim *v1.PersistentVolumeClaim, recorded bool, before func(waitlist.Object)) (Plan, verdict.Verdict) {
	if before == nil {
		before = func(waitlist.Object) {}
	}
	class, asked, v := p.classOf(claim, before)
	if !v.Ready() {
		return Plan{}, v
	}
	facts := p.facts(claim, recorded, before)
	src, v := source.Judge(facts)
	if !v.Ready() {
		return Plan{}, v
	}
	name := p.VolumeName(claim)
	if v := p.nameFree(claim, name, before); !v.Ready() {
		return Plan{}, v
	}
	attributes, v := p.attributes(claim, before)
	if !v.Ready() {
		return Plan{}, v
	}
	node := p.nodeFor(claim)
	unconsumed := delayed(class) && claim.Annotations[wellknown.SelectedNode] == ""
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
	refs, v := secret.Resolve(asked, about(claim, name))
	if !v.Ready() {
		return Plan{}, v
	}
	if begun := p.begunWith(claim, asked, name); !begun.IsZero() {
		refs.Provisioner = begun
	}
	if unconsumed {
		return Plan{}, verdict.Ignored("", "waits for its first consumer")
	}
	plan := Plan{Class: class, Source: facts.Source, Snapshot: facts.Snapshot, Request: req, Secrets: refs, ReclaimPolicy: p.reclaimPolicy(claim, class)}
	if delayed(class) || p.Places != nil {
		plan.Node = node
	}
	plan.OutOfReach = p.outOfReach(claim, facts.SourcePV)
	if attributes != nil {
		plan.AttributesClass = attributes.Name
	}
	plan.Stale = p.stale(claim, plan.Pins())
	return plan, verdict.Verdict{}
}

// stale: see Plan.Stale. What is kept there on purpose is not stale.
func (p *Provisioner) stale(claim *v1.PersistentVolumeClaim, now record.Pins) bool {
	found := record.Asked(p.Keys, claim)
	kept, _ := p.Ledger.Kept(claim.UID)
	if !record.On(p.Keys, claim) || p.mayExist(claim) || kept != "" && kept == found.ContentSource {
		return false
	}
	return found.RequiredBytes != 0 && (found.RequiredBytes != now.RequiredBytes || found.Secret != now.Secret || found.Topology != now.Topology || found.ReclaimPolicy != now.ReclaimPolicy) ||
		found.ContentSource != "" && found.ContentSource != now.ContentSource
}

// classOf finds the claim's class and checks that it is, still, of our driver, or of the
// in-tree plugin that this took over. asked is the same as the driver understands it.
func (p *Provisioner) classOf(claim *v1.PersistentVolumeClaim, before func(waitlist.Object)) (class, asked *storagev1.StorageClass, v verdict.Verdict) {
	name := source.ClassName(claim)
	before(waitlist.Class(name))
	class = p.Caches.Class(name)
	switch {
	case class == nil:
		return nil, nil, verdict.Waiting(verdict.ClassNotFound,
			"the claim waits for StorageClass %q, which does not exist; provisioning starts by itself when it is there", name)
	case !p.provisions(class):
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

// provisions says whether the class is one of the driver's.
func (p *Provisioner) provisions(class *storagev1.StorageClass) bool {
	return class.Provisioner == p.Driver.Name || p.Migration.Is(class.Provisioner)
}

// facts gathers what the rules of package source ask for.
func (p *Provisioner) facts(claim *v1.PersistentVolumeClaim, recorded bool, before func(waitlist.Object)) source.Facts {
	state, known := p.Ledger.State(claim.UID)
	facts := source.Facts{
		Claim: claim, Driver: p.Driver.Name, CanClone: p.Driver.CanClone(), Recorded: recorded,
		Found:  record.On(p.Keys, claim),
		LetGo:  known && state == ledger.Closed,
		Strict: p.Strict(), OtherNamespaces: p.OtherNamespaces,
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

func (p *Provisioner) grantsIn(namespace string) []source.Grant {
	var grants []source.Grant
	for _, object := range p.Caches.GrantsIn(namespace) {
		grants = append(grants, source.GrantOf(object))
	}
	return grants
}

// nameFree: no PV of another claim has the name that this claim's PV will get, and
// no other claim on record is being given a volume of that name; of two that are on
// record the older goes on.
func (p *Provisioner) nameFree(claim *v1.PersistentVolumeClaim, name string, before func(waitlist.Object)) verdict.Verdict {
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
		if other.UID == claim.UID || recorded && older(claim, other) {
			continue
		}
		return verdict.Waiting(verdict.VolumeNameInUse,
			"the claim waits until volume %q of claim %s/%s is made, whose name it would share; use a longer --volume-name-uuid-length", name, other.Namespace, other.Name)
	}
	return verdict.Verdict{}
}

// older decides between two claims on record with one volume name: only one of them
// may go on.
func older(claim, than *v1.PersistentVolumeClaim) bool {
	if !claim.CreationTimestamp.Equal(&than.CreationTimestamp) {
		return claim.CreationTimestamp.Before(&than.CreationTimestamp)
	}
	return claim.UID < than.UID
}

func (p *Provisioner) build(claim *v1.PersistentVolumeClaim, class *storagev1.StorageClass, src *source.Volume, attributes *storagev1.VolumeAttributesClass, name string, where *csi.TopologyRequirement) (*csi.CreateVolumeRequest, verdict.Verdict) {
	in := request.Input{
		Claim: claim, Class: class, Source: src, Attributes: attributes, Name: name, Accessibility: where,
		DefaultFSType: p.DefaultFSType, ExtraMetadata: p.ExtraMetadata,
		SingleNodeMultiWriter: p.Driver.Controller[csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER],
	}
	// Bytes are repeated only as long as an earlier request may have made something:
	// after that the source may have grown beyond them.
	if p.mayExistOnRecord(claim) {
		in.PinnedBytes = record.Pinned(p.Keys, p.Naming, claim).RequiredBytes
	}
	return request.Build(in)
}

// begunWith returns the Secret that the record of an earlier process names, if it can be
// believed and something may have been made with it.
func (p *Provisioner) begunWith(claim *v1.PersistentVolumeClaim, class *storagev1.StorageClass, name string) secret.Ref {
	if !p.mayExistOnRecord(claim) {
		return secret.Ref{}
	}
	ref := secret.Parse(record.Pinned(p.Keys, p.Naming, claim).Secret)
	if ref.IsZero() || secret.CouldBe(ref, class, about(claim, name)) || p.vouchedFor(ref, class.Name, claim.Namespace) {
		return ref
	}
	return secret.Ref{}
}

// vouchedFor looks for a PV that proves that the class, made again since, has named the
// Secret for claims of the namespace. It looks at all PVs of the driver: this is for the
// rest of an earlier process's work only, and for classes that were changed meanwhile.
func (p *Provisioner) vouchedFor(ref secret.Ref, class, namespace string) bool {
	return slices.ContainsFunc(p.Caches.OwnVolumes(), func(pv *v1.PersistentVolume) bool {
		return secret.Vouches(pv, ref, p.Driver.Name, class, namespace)
	})
}

// reclaimPolicy returns the reclaim policy of the claim's volume. class is today's, nil if it
// is gone. What is remembered counts as long as an earlier call may have made something.
func (p *Provisioner) reclaimPolicy(claim *v1.PersistentVolumeClaim, class *storagev1.StorageClass) v1.PersistentVolumeReclaimPolicy {
	if !p.mayExist(claim) {
		return volume.ReclaimPolicy("", "", class)
	}
	var recorded v1.PersistentVolumeReclaimPolicy
	if record.On(p.Keys, claim) {
		recorded = record.Asked(p.Keys, claim).ReclaimPolicy
	}
	return volume.ReclaimPolicy(recorded, p.Ledger.Beside(claim.UID).ReclaimPolicy, class)
}

// mayExist says whether a volume may exist for a claim on record.
func (p *Provisioner) mayExist(claim *v1.PersistentVolumeClaim) bool {
	state, known := p.Ledger.State(claim.UID)
	return !known || state == ledger.Unknown
}

// mayExistOnRecord says whether the claim is on record and a volume may exist for it.
func (p *Provisioner) mayExistOnRecord(claim *v1.PersistentVolumeClaim) bool {
	return record.On(p.Keys, claim) && p.mayExist(claim)
}

func delayed(class *storagev1.StorageClass) bool {
	return class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}
