package migration

import (
	"errors"
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	csitranslation "k8s.io/csi-translation-lib"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Plugin is the in-tree plugin that a driver took over. A nil Plugin is that of a
// driver that took over none: it knows no class, claim or PV.
type Plugin struct {
	driver, name string
}

// Of returns the plugin that the driver took over, nil if there is none.
func Of(driver string) *Plugin {
	name, err := csitranslation.New().GetInTreeNameFromCSIName(driver)
	if err != nil {
		return nil
	}
	return &Plugin{driver, name}
}

// Name of the plugin, as StorageClasses have it; "" for none.
func (p *Plugin) Name() string {
	if p == nil {
		return ""
	}
	return p.name
}

// Is says whether the name of a provisioner is that of the plugin.
func (p *Plugin) Is(provisioner string) bool { return p != nil && provisioner == p.name }

// Given says whether the PV controller gave the claim, of a class of the plugin, to
// the driver. The plugin's name alone does not: in a cluster that has not migrated it,
// the PV controller provisions the claim itself.
func (p *Plugin) Given(claim *v1.PersistentVolumeClaim) bool {
	return p.Is(Provisioner(claim)) && claim.Annotations[wellknown.MigratedTo] == p.driver
}

// Provisioner returns the name of the provisioner that the PV controller wrote onto the
// claim, "" if it has written none.
func Provisioner(claim *v1.PersistentVolumeClaim) string {
	if name, found := claim.Annotations[wellknown.StorageProvisioner]; found {
		return name
	}
	return claim.Annotations[wellknown.BetaStorageProvisioner]
}

// Has says whether the PV is one of the plugin.
func (p *Plugin) Has(pv *v1.PersistentVolume) bool {
	if p == nil || pv == nil || pv.Spec.CSI != nil {
		return false
	}
	name, err := csitranslation.New().GetInTreePluginNameFromSpec(pv, nil)
	return err == nil && name == p.name
}

// ToCSI returns the PV as one of the driver if it is one of the plugin, else the PV
// itself. The PV is not changed.
func (p *Plugin) ToCSI(pv *v1.PersistentVolume) (*v1.PersistentVolume, error) {
	if !p.Has(pv) {
		return pv, nil
	}
	translated, err := quietly(csitranslation.New().TranslateInTreePVToCSI, pv)
	if err != nil {
		return nil, fmt.Errorf("PV %q is one of in-tree plugin %q, and cannot be translated for CSI driver %q: %w; correct its volume source, or let it be deleted by hand", pv.Name, p.name, p.driver, err)
	}
	return translated, nil
}

// Seen is ToCSI for those who only look: a PV that cannot be translated is returned as
// it is, and is then no volume of the driver.
func (p *Plugin) Seen(pv *v1.PersistentVolume) *v1.PersistentVolume {
	if translated, err := p.ToCSI(pv); err == nil {
		return translated
	}
	return pv
}

// errNoHandle: there is nothing by which the volume could be found again.
var errNoHandle = errors.New("read back, it names no volume (the driver's reply lacks what the plugin knows a volume by)")

// FromCSI returns the PV of a new volume as one of the plugin. It is an error, too, if
// what comes of it could not be read back: nobody could delete the volume then. The PV
// is not changed.
func (p *Plugin) FromCSI(pv *v1.PersistentVolume) (*v1.PersistentVolume, error) {
	translated, err := csitranslation.New().TranslateCSIPVToInTree(pv)
	if err == nil {
		var back *v1.PersistentVolume
		if back, err = p.ToCSI(translated); err == nil && (back.Spec.CSI == nil || back.Spec.CSI.VolumeHandle == "") {
			err = errNoHandle
		}
	}
	if err != nil {
		return nil, fmt.Errorf("driver %q made volume %q, whose PV cannot be made one of in-tree plugin %q, as its StorageClass asks for: %w; use a StorageClass with provisioner %q, or mend the driver",
			p.driver, pv.Spec.CSI.VolumeHandle, p.name, err, p.driver)
	}
	return translated, nil
}

// Key returns what is left of the handle of a volume in a PV of the plugin: some
// plugins' PVs do not tell the project or the zone, for example. Handles with the same
// key may be of one volume.
func (p *Plugin) Key(handle string) string {
	if p == nil || handle == "" {
		return handle
	}
	bare := &v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{
		PersistentVolumeSource: v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{Driver: p.driver, VolumeHandle: handle}},
		ClaimRef:               &v1.ObjectReference{Namespace: v1.NamespaceDefault},
	}}
	translated, err := csitranslation.New().TranslateCSIPVToInTree(bare)
	if err != nil {
		return handle
	}
	if back := p.Seen(translated); back.Spec.CSI != nil && back.Spec.CSI.VolumeHandle != "" {
		return back.Spec.CSI.VolumeHandle
	}
	return handle
}

// Class returns the class as the driver understands it: one of the plugin translated,
// any other as it is. The verdict is Refuse if that cannot be done. The class is not
// changed.
func (p *Plugin) Class(class *storagev1.StorageClass) (*storagev1.StorageClass, verdict.Verdict) {
	if class == nil || !p.Is(class.Provisioner) {
		return class, verdict.Verdict{}
	}
	translated, err := quietlyNamed(csitranslation.New().TranslateInTreeStorageClassToCSI, p.name, class)
	if err != nil {
		return nil, verdict.Refused(verdict.InvalidClass,
			"StorageClass %q is one of in-tree plugin %q, and cannot be translated for CSI driver %q: %v; correct the class", class.Name, p.name, p.driver, err)
	}
	return trimmed(translated), verdict.Verdict{}
}

// trimmed returns the class without blanks around the values of its topology: the plugins
// took "a, b" for a list of zones, and the library splits it at the comma.
func trimmed(class *storagev1.StorageClass) *storagev1.StorageClass {
	class = class.DeepCopy()
	for _, term := range class.AllowedTopologies {
		for _, expression := range term.MatchLabelExpressions {
			for i, value := range expression.Values {
				expression.Values[i] = strings.TrimSpace(value)
			}
		}
	}
	return class
}

// quietly calls the library without a logger: the zero value logs nothing.
func quietly[L, T any](translate func(L, T) (T, error), object T) (T, error) {
	var none L
	return translate(none, object)
}

func quietlyNamed[L, T any](translate func(L, string, T) (T, error), plugin string, object T) (T, error) {
	var none L
	return translate(none, plugin, object)
}
