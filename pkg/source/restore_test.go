package source_test

import (
	"reflect"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// fitRestore returns the facts about a claim "back" of 10Gi which is restored from
// snapshot "monday", and which nothing stands in the way of.
func fitRestore() source.Facts {
	facts := fit()
	facts.CanClone, facts.CanRestore, facts.Source, facts.SourcePV = false, true, nil, nil
	facts.Claim.Name = "back"
	facts.Claim.Spec.DataSource = nil
	facts.Claim.Spec.DataSourceRef = &v1.TypedObjectReference{APIGroup: new("snapshot.storage.k8s.io"), Kind: "VolumeSnapshot", Name: "monday"}
	size := resource.MustParse("10Gi")
	facts.Snapshot = &source.VolumeSnapshot{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "monday", UID: "uid-monday"},
		Content:    "content-1", Ready: true, RestoreSize: &size,
	}
	facts.Content = &source.SnapshotContent{
		Name: "content-1", Driver: driver, Handle: "snap-1", Of: v1.ObjectReference{Namespace: "shop", Name: "monday", UID: "uid-monday"},
	}
	return facts
}

// Most of what is asked about snapshots is in test/cases; here is what depends on more
// than the objects.
func TestJudgeRestore(t *testing.T) {
	early, late := metav1.NewTime(time.Unix(100, 0)), metav1.NewTime(time.Unix(200, 0))
	deleting := func(f *source.Facts, created metav1.Time, finalizers ...string) {
		f.Claim.CreationTimestamp, f.Snapshot.DeletionTimestamp, f.Snapshot.Finalizers = created, &late, finalizers
	}
	refused := verdict.Refused(verdict.SnapshotDeleting,
		`cannot restore VolumeSnapshot "monday": it is being deleted; create the claim again with another snapshot`)
	across := func(f *source.Facts) {
		f.Claim.Spec.DataSourceRef.Namespace = new("vault")
		f.Snapshot.Namespace, f.Content.Of.Namespace = "vault", "vault"
	}
	grant := func(group, kind, name string) []source.Grant {
		return []source.Grant{{
			From: []source.GrantFrom{{Kind: "PersistentVolumeClaim", Namespace: "shop"}},
			To:   []source.GrantTo{{Group: group, Kind: kind, Name: name}},
		}}
	}
	notGranted := verdict.Waiting(verdict.CloneNotGranted,
		`restore waits for permission: no ReferenceGrant in namespace "vault" lets PersistentVolumeClaims of namespace "shop" use VolumeSnapshot "monday"; it starts by itself when one does`)
	for _, c := range []struct {
		name   string
		change func(*source.Facts)
		want   verdict.Verdict
	}{
		{"nothing stands in the way", func(*source.Facts) {}, verdict.Verdict{}},
		{"the CRDs are not there", func(f *source.Facts) { f.Snapshot, f.NoSnapshots = nil, true }, verdict.Waiting(verdict.SnapshotNotFound,
			`restore waits for VolumeSnapshot "monday", and this cluster has no VolumeSnapshots at all: the CRDs of snapshot.storage.k8s.io/v1 are not installed; it starts by itself when they are, and the snapshot is there and ready`)},
		{"the snapshot is being deleted", func(f *source.Facts) { deleting(f, early) }, refused},
		{"so it is, and somebody else keeps it", func(f *source.Facts) { deleting(f, early, "example.org/mine") }, refused},
		{"so it is, and the restore was begun before", func(f *source.Facts) { deleting(f, early, wellknown.SnapshotProtection) }, verdict.Verdict{}},
		{"so it is, and the claim is younger", func(f *source.Facts) { deleting(f, late, wellknown.SnapshotProtection) }, refused},
		{"so it is, and the claim, as old as that, has a record", func(f *source.Facts) { deleting(f, late, wellknown.SnapshotProtection); f.Found = true }, verdict.Verdict{}},
		{"so it is, and the claim was let go", func(f *source.Facts) { deleting(f, early, wellknown.SnapshotProtection); f.LetGo = true }, refused},
		{"so it is, while it is being restored", func(f *source.Facts) { deleting(f, late); f.Recorded = true }, verdict.Verdict{}},
		{"it is in another namespace", across, verdict.Refused(verdict.CloneNamespace,
			`VolumeSnapshot "vault/monday" is in another namespace, and this provisioner runs without --feature-gates=CrossNamespaceVolumeDataSource=true; create the claim again with a source in its own namespace`)},
		{"it is in another namespace without a grant", func(f *source.Facts) { across(f); f.OtherNamespaces = true }, notGranted},
		{"the grant is for claims", func(f *source.Facts) {
			across(f)
			f.OtherNamespaces, f.Grants = true, grant("", "PersistentVolumeClaim", "")
		}, notGranted},
		{"the grant is for another snapshot", func(f *source.Facts) {
			across(f)
			f.OtherNamespaces, f.Grants = true, grant("snapshot.storage.k8s.io", "VolumeSnapshot", "tuesday")
		}, notGranted},
		{"it is granted", func(f *source.Facts) {
			across(f)
			f.OtherNamespaces, f.Grants = true, grant("snapshot.storage.k8s.io", "VolumeSnapshot", "")
		}, verdict.Verdict{}},
		{"strict or not, classes and who uses the volume do not matter", func(f *source.Facts) {
			f.Strict, f.Claim.Spec.StorageClassName = true, new("another")
		}, verdict.Verdict{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			facts := fitRestore()
			c.change(&facts)
			volume, v := source.Judge(facts)
			if v != c.want {
				t.Errorf("got %s %s\n%s\nwant %s %s\n%s", v.Kind, v.Reason, v.Message, c.want.Kind, c.want.Reason, c.want.Message)
			}
			var want *source.Volume
			if v.Ready() {
				want = &source.Volume{Handle: "snap-1", Bytes: 10 << 30, Snapshot: true}
			}
			if !reflect.DeepEqual(volume, want) {
				t.Errorf("volume is %+v, want %+v", volume, want)
			}
		})
	}
}

// To repeat a request only what is needed for it is asked for.
func TestVolumeOfASnapshot(t *testing.T) {
	known := &source.Volume{Handle: "snap-1", Bytes: 10 << 30, Snapshot: true}
	for _, c := range []struct {
		name   string
		change func(*source.Facts)
		want   *source.Volume
	}{
		{"it is there", func(*source.Facts) {}, known},
		{"it is not ready any more", func(f *source.Facts) { f.Snapshot.Ready = false }, known},
		{"it is gone", func(f *source.Facts) { f.Snapshot = nil }, nil},
		{"its content is gone", func(f *source.Facts) { f.Content = nil }, nil},
		{"its content is another driver's", func(f *source.Facts) { f.Content.Driver = "other" }, nil},
		{"its content is another snapshot's", func(f *source.Facts) { f.Content.Of.UID = "other" }, nil},
		{"its content has no handle", func(f *source.Facts) { f.Content.Handle = "" }, nil},
		{"nobody says its size", func(f *source.Facts) { f.Snapshot.RestoreSize = nil }, &source.Volume{Handle: "snap-1", Snapshot: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			facts := fitRestore()
			c.change(&facts)
			if got := source.VolumeOf(facts); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// Objects that do not keep to their schema are as if they did not say anything.
func FuzzSnapshot(f *testing.F) {
	f.Add(`{"status":{"boundVolumeSnapshotContentName":"c","readyToUse":true,"restoreSize":"1Gi","error":{"message":"x"}}}`)
	f.Add(`{"status":{"restoreSize":1073741824}}`)
	f.Add(`{"spec":{"driver":"d","sourceVolumeMode":"Block","volumeSnapshotRef":{"uid":"u"}},"status":{"snapshotHandle":"h"}}`)
	f.Add(`{"status":{"readyToUse":"yes"},"spec":[]}`)
	f.Add(`{"metadata":{"annotations":{"snapshot.storage.kubernetes.io/allow-volume-mode-change":"true"}}}`)
	f.Add(`{"metadata":7,"status":null}`)
	f.Fuzz(func(t *testing.T, text string) {
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON([]byte(`{"kind":"x","apiVersion":"v1",` + text[min(1, len(text)):])); err != nil {
			return
		}
		facts := fitRestore()
		facts.Snapshot, facts.Content = source.SnapshotOf(object), source.ContentOf(object)
		facts.KeepMode = true
		if volume, v := source.Judge(facts); v.Ready() != (volume != nil) || v.Ready() && volume.Bytes > 10<<30 {
			t.Errorf("verdict %+v with volume %+v", v, volume)
		}
	})
}
