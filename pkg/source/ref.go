package source

import (
	v1 "k8s.io/api/core/v1"
)

// Kind of a data source.
type Kind int

const (
	// None: the claim asks for a blank volume.
	None Kind = iota
	// Claim: the claim is a clone of another claim.
	Claim
	// Snapshot: the claim is restored from a VolumeSnapshot.
	Snapshot
	// Populator: something else fills the volume.
	Populator
)

const (
	snapshotGroup = "snapshot.storage.k8s.io"
	claimKind     = "PersistentVolumeClaim"
	snapshotKind  = "VolumeSnapshot"
)

// Ref names a data source.
type Ref struct {
	Kind      Kind
	Namespace string
	Name      string
	// GroupKind is "kind" or "kind.group" as the user wrote it, for messages.
	GroupKind string
	// Shown is the name for messages: with the namespace if that is not the claim's.
	Shown string
}

// what is a word for the source: of the one given for a claim, or VolumeSnapshot.
func (r Ref) what(claim string) string {
	if r.Kind == Snapshot {
		return snapshotKind
	}
	return claim
}

// work is a word for what is to be done with the source.
func (r Ref) work() string {
	if r.Kind == Snapshot {
		return "restore"
	}
	return "clone"
}

// Of returns the data source that the claim names: spec.dataSource, else
// spec.dataSourceRef, which alone can name another namespace.
func Of(claim *v1.PersistentVolumeClaim) Ref {
	var group *string
	ref := Ref{Namespace: claim.Namespace}
	switch ds, dsr := claim.Spec.DataSource, claim.Spec.DataSourceRef; {
	case ds != nil:
		group, ref.GroupKind, ref.Name = ds.APIGroup, ds.Kind, ds.Name
	case dsr != nil:
		group, ref.GroupKind, ref.Name = dsr.APIGroup, dsr.Kind, dsr.Name
		if dsr.Namespace != nil && *dsr.Namespace != "" {
			ref.Namespace = *dsr.Namespace
		}
	default:
		return Ref{}
	}
	ref.Shown = ref.Name
	if ref.Namespace != claim.Namespace {
		ref.Shown = ref.Namespace + "/" + ref.Name
	}
	switch {
	case group == nil || *group == "":
		ref.Kind = Populator
		if ref.GroupKind == claimKind {
			ref.Kind = Claim
		}
	case *group == snapshotGroup && ref.GroupKind == snapshotKind:
		ref.Kind = Snapshot
	default:
		ref.Kind = Populator
		ref.GroupKind += "." + *group
	}
	return ref
}
