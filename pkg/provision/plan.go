package provision

import (
	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/record"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/request"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/volume"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Plan is how a claim will be provisioned.
type Plan struct {
	// Class of the claim.
	Class *storagev1.StorageClass
	// Source claim of a clone; nil for a blank volume.
	Source *v1.PersistentVolumeClaim
	// Request for the driver.
	Request *csi.CreateVolumeRequest
}

// Plan gathers the facts about a claim from the caches and asks the rules, in
// the order in which a person would mend what is wrong. recorded waives what
// must not stop work in progress. before, if not nil, is called with each
// object before it is read, so that the caller can wait for it.
func (p *Provisioner) Plan(claim *v1.PersistentVolumeClaim, recorded bool, before func(waitlist.Object)) (Plan, verdict.Verdict) {
	if before == nil {
		before = func(waitlist.Object) {}
	}
	class, v := p.classOf(claim, before)
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
	req, v := p.build(claim, class, src, name)
	if !v.Ready() {
		return Plan{}, v
	}
	if delayed(class) && claim.Annotations[wellknown.SelectedNode] == "" {
		return Plan{}, verdict.Ignored("", "waits for its first consumer")
	}
	return Plan{Class: class, Source: facts.Source, Request: req}, verdict.Verdict{}
}

// classOf finds the claim's class and checks that it is, still, of our driver.
func (p *Provisioner) classOf(claim *v1.PersistentVolumeClaim, before func(waitlist.Object)) (*storagev1.StorageClass, verdict.Verdict) {
	name := source.ClassName(claim)
	before(waitlist.Class(name))
	class := p.Caches.Class(name)
	switch {
	case class == nil:
		return nil, verdict.Waiting(verdict.ClassNotFound,
			"the claim waits for StorageClass %q, which does not exist; provisioning starts by itself when it is there", name)
	case class.Provisioner != p.Driver.Name:
		return nil, verdict.Refused(verdict.ClassOfAnotherDriver,
			"StorageClass %q belongs to driver %q, the claim was given to driver %q; create the claim again", name, class.Provisioner, p.Driver.Name)
	}
	if ok, missing := p.Driver.CanProvision(); !ok {
		return nil, verdict.Refused(verdict.DriverLacks,
			"driver %q cannot provision volumes (no %s capability); use a class of another driver", p.Driver.Name, missing)
	}
	return class, verdict.Verdict{}
}

// facts gathers what the rules of package source ask for.
func (p *Provisioner) facts(claim *v1.PersistentVolumeClaim, recorded bool, before func(waitlist.Object)) source.Facts {
	facts := source.Facts{
		Claim: claim, Driver: p.Driver.Name, CanClone: p.Driver.CanClone(), Recorded: recorded,
		Strict: p.Strict(), OtherNamespaces: p.OtherNamespaces,
	}
	ref := source.Of(claim)
	if ref.Kind != source.Claim {
		return facts
	}
	if ref.Namespace != claim.Namespace {
		before(waitlist.GrantsIn(ref.Namespace))
		facts.Grants = p.grantsIn(ref.Namespace)
		facts.Granted = recorded && p.Ledger.Own(claim.UID)
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
// no other claim on record is being given a volume of that name.
func (p *Provisioner) nameFree(claim *v1.PersistentVolumeClaim, name string, before func(waitlist.Object)) verdict.Verdict {
	before(waitlist.PV(name))
	before(waitlist.VolumeName(name))
	pv := p.Caches.PV(name)
	switch {
	case pv == nil:
	case volume.SavedFor(pv, claim, p.Driver.Name):
		return verdict.Ignored("", "its PV exists")
	default:
		return verdict.Refused(verdict.VolumeNameTaken,
			"PV %q has the name of this claim's volume but is not its PV; remove that PV, or use a longer --volume-name-uuid-length", name)
	}
	if record.On(p.Keys, claim) {
		return verdict.Verdict{}
	}
	for _, other := range p.Caches.ClaimsOfVolumeName(name) {
		if other.UID != claim.UID {
			return verdict.Waiting(verdict.VolumeNameInUse,
				"the claim waits until volume %q of claim %s/%s is made, whose name it would share; use a longer --volume-name-uuid-length", name, other.Namespace, other.Name)
		}
	}
	return verdict.Verdict{}
}

func (p *Provisioner) build(claim *v1.PersistentVolumeClaim, class *storagev1.StorageClass, src *source.Volume, name string) (*csi.CreateVolumeRequest, verdict.Verdict) {
	in := request.Input{
		Claim: claim, Class: class, Source: src, Name: name,
		DefaultFSType: p.DefaultFSType, ExtraMetadata: p.ExtraMetadata,
		SingleNodeMultiWriter: p.Driver.Controller[csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER],
	}
	if record.On(p.Keys, claim) {
		in.PinnedBytes = record.Pinned(p.Keys, p.Naming, claim).RequiredBytes
	}
	return request.Build(in)
}

func delayed(class *storagev1.StorageClass) bool {
	return class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}
