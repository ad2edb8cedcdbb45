package informers

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
)

// InTree is the in-tree plugin that a driver took over. The look-ups show its PVs as
// those of the driver; the informers, and so the engine, as they are in the API.
type InTree interface {
	// Is says whether the name of a provisioner is that of the plugin.
	Is(provisioner string) bool
	// Has says whether the PV is one of the plugin.
	Has(pv *v1.PersistentVolume) bool
	// Seen returns the PV as one of the driver, if it is one of the plugin and can be
	// translated; else the PV itself, which is not changed.
	Seen(pv *v1.PersistentVolume) *v1.PersistentVolume
	// Key returns what is left of a volume handle in a PV of the plugin.
	Key(handle string) string
}

// noInTree is that of a driver that took over none.
type noInTree struct{}

func (noInTree) Is(string) bool                                    { return false }
func (noInTree) Has(*v1.PersistentVolume) bool                     { return false }
func (noInTree) Seen(pv *v1.PersistentVolume) *v1.PersistentVolume { return pv }
func (noInTree) Key(handle string) string                          { return handle }

// handles are the indexes by which the driver's PVs are found.
func handles(driver string, inTree InTree) cache.Indexers {
	handleOf := func(pv *v1.PersistentVolume) string {
		if pv = inTree.Seen(pv); pv.Spec.CSI == nil || pv.Spec.CSI.Driver != driver {
			return ""
		}
		return pv.Spec.CSI.VolumeHandle
	}
	indexers := cache.Indexers{byHandle: index(handleOf), byClaim: index(func(pv *v1.PersistentVolume) string {
		if pv.Spec.ClaimRef == nil || handleOf(pv) == "" {
			return ""
		}
		return string(pv.Spec.ClaimRef.UID)
	})}
	if _, none := inTree.(noInTree); !none {
		indexers[byKey] = index(func(pv *v1.PersistentVolume) string {
			if !inTree.Has(pv) {
				return ""
			}
			return inTree.Key(handleOf(pv))
		})
	}
	return indexers
}
