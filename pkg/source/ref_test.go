package source_test

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
)

func TestOf(t *testing.T) {
	const snapshots = "snapshot.storage.k8s.io"
	local := func(group *string, kind, name string) *v1.TypedLocalObjectReference {
		return &v1.TypedLocalObjectReference{APIGroup: group, Kind: kind, Name: name}
	}
	ref := func(group *string, kind, name string, namespace *string) *v1.TypedObjectReference {
		return &v1.TypedObjectReference{APIGroup: group, Kind: kind, Name: name, Namespace: namespace}
	}
	const pvc = "PersistentVolumeClaim"
	for _, c := range []struct {
		name string
		ds   *v1.TypedLocalObjectReference
		dsr  *v1.TypedObjectReference
		want source.Ref
	}{
		{"no data source is a blank volume", nil, nil, source.Ref{}},
		{
			"a claim in dataSource is a clone",
			local(nil, pvc, "db"), nil,
			source.Ref{Kind: source.Claim, Namespace: "shop", Name: "db", GroupKind: pvc},
		},
		{
			"an empty group is the core group",
			local(new(""), pvc, "db"), nil,
			source.Ref{Kind: source.Claim, Namespace: "shop", Name: "db", GroupKind: pvc},
		},
		{
			"a claim in dataSourceRef is a clone",
			nil, ref(nil, pvc, "db", nil),
			source.Ref{Kind: source.Claim, Namespace: "shop", Name: "db", GroupKind: pvc},
		},
		{
			"dataSourceRef with an empty group is the core group",
			nil, ref(new(""), pvc, "db", nil),
			source.Ref{Kind: source.Claim, Namespace: "shop", Name: "db", GroupKind: pvc},
		},
		{
			"both, as the API server fills them in, are one clone",
			local(nil, pvc, "db"), ref(nil, pvc, "db", nil),
			source.Ref{Kind: source.Claim, Namespace: "shop", Name: "db", GroupKind: pvc},
		},
		{
			"dataSourceRef can name another namespace",
			nil, ref(nil, pvc, "db", new("vault")),
			source.Ref{Kind: source.Claim, Namespace: "vault", Name: "db", GroupKind: pvc},
		},
		{
			"an empty namespace is the claim's own",
			nil, ref(nil, pvc, "db", new("")),
			source.Ref{Kind: source.Claim, Namespace: "shop", Name: "db", GroupKind: pvc},
		},
		{
			"a snapshot in dataSource is a restore",
			local(new(snapshots), "VolumeSnapshot", "monday"), nil,
			source.Ref{Kind: source.Snapshot, Namespace: "shop", Name: "monday", GroupKind: "VolumeSnapshot"},
		},
		{
			"a snapshot in dataSourceRef is a restore",
			nil, ref(new(snapshots), "VolumeSnapshot", "monday", new("vault")),
			source.Ref{Kind: source.Snapshot, Namespace: "vault", Name: "monday", GroupKind: "VolumeSnapshot"},
		},
		{
			"another kind of the snapshot group is filled by somebody else",
			nil, ref(new(snapshots), "VolumeSnapshotContent", "monday", nil),
			source.Ref{Kind: source.Populator, Namespace: "shop", Name: "monday", GroupKind: "VolumeSnapshotContent.snapshot.storage.k8s.io"},
		},
		{
			"a snapshot of the core group is filled by somebody else",
			nil, ref(nil, "VolumeSnapshot", "monday", nil),
			source.Ref{Kind: source.Populator, Namespace: "shop", Name: "monday", GroupKind: "VolumeSnapshot"},
		},
		{
			"a claim of another group is filled by somebody else",
			nil, ref(new("example.org"), pvc, "db", nil),
			source.Ref{Kind: source.Populator, Namespace: "shop", Name: "db", GroupKind: "PersistentVolumeClaim.example.org"},
		},
		{
			"any other kind is filled by somebody else",
			nil, ref(new("example.org"), "Image", "linux", nil),
			source.Ref{Kind: source.Populator, Namespace: "shop", Name: "linux", GroupKind: "Image.example.org"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			claim := &v1.PersistentVolumeClaim{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "copy"},
				Spec:       v1.PersistentVolumeClaimSpec{DataSource: c.ds, DataSourceRef: c.dsr},
			}
			c.want.Shown = c.want.Name
			if c.want.Namespace == "vault" {
				c.want.Shown = "vault/" + c.want.Name
			}
			if got := source.Of(claim); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}
