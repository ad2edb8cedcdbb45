package source_test

import (
	"encoding/json"
	"math"
	"math/big"
	"reflect"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/arbitrary"
)

const claimKind = "PersistentVolumeClaim"

// Bytes is the exact number, rounded up, or says that there is none.
func FuzzBytes(f *testing.F) {
	for _, size := range []string{
		"0", "-1Gi", "1.5", "100m", "1500m", "1k", "1Ki", "1G", "1Gi", "1e3", "1E", "8Ei", "7.999Ei", "20E", "1e30", "1e999",
		"9223372036854775807", "9223372036854775808", "9223372036854775807.5", "-9223372036854775809", "20000000000000000000", "0.000000000000000001n",
	} {
		f.Add(size)
	}
	f.Fuzz(func(t *testing.T, size string) {
		sizes := arbitrary.Storage(size)
		quantity := sizes[v1.ResourceStorage]
		want, ok := arbitrary.Bytes(sizes)
		switch {
		case arbitrary.Exact(sizes).Sign() <= 0:
			want, ok = 0, true
		case !ok:
			want = math.MaxInt64
		}
		if got, fits := source.Bytes(quantity); got != want || fits != ok {
			t.Errorf("%q is %d (fits: %t), want %d (fits: %t)", size, got, fits, want, ok)
		}
		if words := source.Written(quantity); words == "" || len(words) > 60 {
			t.Errorf("%q is written as %q", size, words)
		}
	})
}

// A claim has no source, or one; and it is a clone exactly if the source is a
// claim of the core group.
func FuzzOf(f *testing.F) {
	f.Add(uint8(1), "", claimKind, "db", "", "", "", "")
	f.Add(uint8(2), "", "", "", "", claimKind, "db", "vault")
	f.Add(uint8(0xff), "snapshot.storage.k8s.io", "VolumeSnapshot", "monday", "example.org", "Image", "linux", "")
	f.Add(uint8(0), "", "", "", "", "", "", "")
	f.Fuzz(func(t *testing.T, bits uint8, group, kind, name, refGroup, refKind, refName, refNamespace string) {
		claim := fit().Claim
		claim.Spec.DataSource = nil
		wantGroup, wantKind, wantName, wantNamespace := "", "", "", claim.Namespace
		if bits&2 != 0 {
			claim.Spec.DataSourceRef = &v1.TypedObjectReference{Kind: refKind, Name: refName}
			wantKind, wantName = refKind, refName
			if bits&4 != 0 {
				claim.Spec.DataSourceRef.APIGroup, wantGroup = &refGroup, refGroup
			}
			if bits&8 != 0 && refNamespace != "" {
				claim.Spec.DataSourceRef.Namespace, wantNamespace = &refNamespace, refNamespace
			}
		}
		if bits&1 != 0 {
			claim.Spec.DataSource = &v1.TypedLocalObjectReference{Kind: kind, Name: name}
			wantGroup, wantKind, wantName, wantNamespace = "", kind, name, claim.Namespace
			if bits&16 != 0 {
				claim.Spec.DataSource.APIGroup, wantGroup = &group, group
			}
		}
		ref := source.Of(claim)
		if bits&3 == 0 {
			if ref != (source.Ref{}) {
				t.Errorf("a blank claim has the source %+v", ref)
			}
			return
		}
		if ref.Name != wantName || ref.Namespace != wantNamespace {
			t.Errorf("%+v, want %q of namespace %q", ref, wantName, wantNamespace)
		}
		want := source.Populator
		switch {
		case wantGroup == "" && wantKind == claimKind:
			want = source.Claim
		case wantGroup == "snapshot.storage.k8s.io" && wantKind == "VolumeSnapshot":
			want = source.Snapshot
		}
		if ref.Kind != want {
			t.Errorf("kind %q of group %q is taken for %d, want %d", wantKind, wantGroup, ref.Kind, want)
		}
	})
}

// contract returns the rules of volume cloning that facts must keep, each by
// itself, without a thought of order or words.
func contract(f source.Facts) map[string]bool {
	ref := source.Of(f.Claim)
	rules := map[string]bool{
		"rule 1: the driver clones":    f.CanClone,
		"rule 2: there is a source":    f.Source != nil,
		"rule 3: with a PV":            f.SourcePV != nil,
		"rule 9: no selector":          f.Claim.Spec.Selector == nil,
		"a claim is not its own clone": ref.Namespace != f.Claim.Namespace || ref.Name != f.Claim.Name,
	}
	if f.Source == nil || f.SourcePV == nil {
		return rules
	}
	block := func(claim *v1.PersistentVolumeClaim) bool {
		return claim.Spec.VolumeMode != nil && *claim.Spec.VolumeMode == v1.PersistentVolumeBlock
	}
	asked, needed := arbitrary.Exact(f.Claim.Spec.Resources.Requests), arbitrary.Exact(f.Source.Spec.Resources.Requests)
	_, possible := arbitrary.Bytes(f.Claim.Spec.Resources.Requests)
	back, csi := f.SourcePV.Spec.ClaimRef, f.SourcePV.Spec.CSI
	rules["rule 3: bound"] = f.Source.Status.Phase == v1.ClaimBound && f.SourcePV.Status.Phase == v1.VolumeBound
	rules["rule 3: names its PV"] = f.Source.Spec.VolumeName != ""
	rules["rule 3: the PV names it"] = back != nil && back.UID != "" && back.UID == f.Source.UID && back.Name == f.Source.Name && back.Namespace == f.Source.Namespace
	rules["rule 3: of the driver"] = csi != nil && csi.Driver == f.Driver
	protected := slices.Contains(f.Source.Finalizers, "provisioner.storage.kubernetes.io/cloning-protection")
	rules["rule 4: not being deleted, unless the work has begun or may have"] = f.Recorded || f.Source.DeletionTimestamp == nil ||
		!f.LetGo && protected && (f.Claim.CreationTimestamp.Unix() < f.Source.DeletionTimestamp.Unix() ||
			f.Found && f.Claim.CreationTimestamp.Unix() == f.Source.DeletionTimestamp.Unix())
	rules["rule 5: the same class, if the policy is strict and the work has not begun"] = !f.Strict || f.Recorded || source.ClassName(f.Source) == source.ClassName(f.Claim)
	rules["rule 7: the same mode"] = block(f.Source) == block(f.Claim)
	// What no volume can have is refused by package request.
	rules["rule 8: no smaller"] = asked.Cmp(needed) >= 0 || !possible && (asked.Sign() > 0 || needed.Sign() <= 0)
	rules["a capacity that can be asked for"] = most(f).IsInt64()
	return rules
}

// most is the source volume's real capacity, rounded up.
func most(f source.Facts) *big.Int {
	exact := arbitrary.Exact(f.SourcePV.Spec.Capacity)
	if claim := arbitrary.Exact(f.Source.Status.Capacity); claim.Cmp(exact) > 0 {
		exact = claim
	}
	if exact.Sign() <= 0 {
		return new(big.Int)
	}
	whole, rest := new(big.Int).DivMod(exact.Num(), exact.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		whole.Add(whole, big.NewInt(1))
	}
	return whole
}

// Whatever users and drivers write into the objects, a clone is ready only if
// every rule of the contract is kept, and then it is; and there is a volume to
// copy exactly when it is ready.
func FuzzJudge(f *testing.F) {
	f.Add("", claimKind, "db", "10Gi", "10Gi", "10Gi", "10Gi", "Bound", "uid-db", uint32(0))
	f.Add("", claimKind, "copy", "-1", "", "", "", "Lost", "", uint32(1))
	f.Add("snapshot.storage.k8s.io", "VolumeSnapshot", "s", "16Ei", "100m", "1", "1", "Pending", "uid-db", uint32(0x7f))
	f.Add("example.org", "Image", "", "9E", "0", "20E", "1e30", "", "uid-other", uint32(0xffff))
	for bit := range 28 {
		f.Add("", claimKind, "db", "10Gi", "10240Mi", "12Gi", "1G", "Bound", "uid-db", uint32(1)<<bit)
	}
	f.Fuzz(func(t *testing.T, group, kind, name, asked, needed, pv, status, phase, uid string, bits uint32) {
		facts := arrange(bits, kind, name, phase)
		facts.Claim.Spec.Resources.Requests = arbitrary.Storage(asked)
		if facts.Claim.Spec.DataSource != nil && group != "" {
			facts.Claim.Spec.DataSource.APIGroup = &group
		}
		if facts.Source != nil {
			facts.Source.UID = types.UID(uid)
			facts.Source.Spec.Resources.Requests, facts.Source.Status.Capacity = arbitrary.Storage(needed), arbitrary.Storage(status)
		}
		if facts.SourcePV != nil {
			facts.SourcePV.Spec.Capacity = arbitrary.Storage(pv)
		}
		volume, v := source.Judge(facts)
		answered(t, facts, volume, v)
		if ref := source.Of(facts.Claim); ref.Kind != source.Claim || ref.Namespace != facts.Claim.Namespace {
			return
		}
		kept := true
		for rule, holds := range contract(facts) {
			kept = kept && holds
			if v.Ready() && !holds {
				t.Errorf("ready, but does not keep %q", rule)
			}
		}
		if kept && !v.Ready() {
			t.Errorf("keeps every rule, but is told %s %s: %s", v.Kind, v.Reason, v.Message)
		}
		if v.Ready() && (volume.Handle != facts.SourcePV.Spec.CSI.VolumeHandle || big.NewInt(volume.Bytes).Cmp(most(facts)) != 0) {
			t.Errorf("the volume to copy is %+v, want %q with %s bytes", volume, facts.SourcePV.Spec.CSI.VolumeHandle, most(facts))
		}
	})
}

// arrange makes facts that fit, but for what the bits change.
func arrange(bits uint32, kind, name, phase string) source.Facts {
	on := func(bit int) bool { return bits&(1<<bit) != 0 }
	facts := fit()
	facts.Claim.Spec.DataSource.Kind, facts.Claim.Spec.DataSource.Name = kind, name
	facts.CanClone, facts.Recorded = !on(0), on(1)
	facts.Source.Status.Phase = v1.PersistentVolumeClaimPhase(phase)
	modes := []*v1.PersistentVolumeMode{nil, new(v1.PersistentVolumeBlock), new(v1.PersistentVolumeFilesystem), nil}
	facts.Claim.Spec.VolumeMode, facts.Source.Spec.VolumeMode = modes[bits>>2&3], modes[bits>>4&3]
	for i, change := range []func(){
		func() { facts.Claim.Spec.Selector = &metav1.LabelSelector{} },
		func() { facts.Source.DeletionTimestamp = new(metav1.NewTime(time.Unix(1_800_000_000, 0))) },
		func() { facts.Source.Spec.VolumeName = "" },
		func() { facts.SourcePV.Status.Phase = v1.PersistentVolumePhase(phase) },
		func() { facts.SourcePV.Spec.ClaimRef.Name = name },
		func() { facts.SourcePV.Spec.ClaimRef.Namespace = name },
		func() { facts.SourcePV.Spec.ClaimRef.UID = types.UID(name) },
		func() { facts.SourcePV.Spec.CSI.Driver = name },
		func() { facts.SourcePV.Spec.ClaimRef = nil },
		func() { facts.SourcePV.Spec.CSI = nil },
		func() { facts.SourcePV = nil },
		func() { facts.Source, facts.SourcePV = nil, nil },
		func() { facts.Claim.Spec.DataSource = nil },
		func() {
			facts.Claim.Spec.DataSourceRef = &v1.TypedObjectReference{Kind: kind, Name: name, Namespace: &phase}
		},
	} {
		if on(6 + i) {
			change()
		}
	}
	facts.Strict = on(20)
	if on(21) {
		facts.Claim.Spec.StorageClassName = &name
	}
	if on(22) && facts.Source != nil {
		facts.Source.Spec.StorageClassName = &kind
	}
	if on(23) && facts.Source != nil {
		facts.Source.Annotations = map[string]string{"volume.beta.kubernetes.io/storage-class": name}
	}
	if on(24) && facts.Source != nil {
		facts.Source.Finalizers = []string{"provisioner.storage.kubernetes.io/cloning-protection"}
	}
	facts.Claim.CreationTimestamp = metav1.NewTime(time.Unix(1_800_000_000, 0))
	for i, second := range []int64{1_800_000_001, 1_799_999_999} {
		if on(25 + i) {
			facts.Claim.CreationTimestamp = metav1.NewTime(time.Unix(second, 0))
		}
	}
	facts.Found, facts.LetGo = on(27), on(28)
	return facts
}

// answered fails unless the verdict is one that a user can read, with a volume
// exactly when there is one to copy.
func answered(t *testing.T, facts source.Facts, volume *source.Volume, v verdict.Verdict) {
	t.Helper()
	if wanted := v.Ready() && source.Of(facts.Claim).Kind == source.Claim; (volume != nil) != wanted {
		t.Errorf("%s with volume %+v", v.Kind, volume)
	}
	if volume != nil && volume.Bytes < 0 {
		t.Errorf("%d bytes", volume.Bytes)
	}
	if v.Ready() {
		if v != (verdict.Verdict{}) {
			t.Errorf("ready, with the words %s %q", v.Reason, v.Message)
		}
		return
	}
	known := false
	for _, entry := range verdict.Catalogue() {
		known = known || entry.Reason == v.Reason
	}
	if v.Message == "" || !known {
		t.Errorf("%s with reason %q and the words %q", v.Kind, v.Reason, v.Message)
	}
	if again, w := source.Judge(facts); w != v || !reflect.DeepEqual(again, volume) {
		t.Errorf("the second time the verdict is %+v, was %+v", w, v)
	}
}

// Whatever somebody writes into a ReferenceGrant, it grants no more than one of its
// entries says, and nothing to a namespace that it does not name.
func FuzzGranted(f *testing.F) {
	f.Add(`{"from":[{"group":"","kind":"PersistentVolumeClaim","namespace":"shop"}],"to":[{"group":"","kind":"PersistentVolumeClaim"}]}`, "shop", "db")
	f.Add(`{"from":[{"kind":"PersistentVolumeClaim","namespace":"zoo"}],"to":[{"kind":"PersistentVolumeClaim","name":"db"}]}`, "shop", "db")
	f.Add(`{"from":null,"to":[{}]}`, "", "")
	f.Add(`[]`, "shop", "db")
	f.Add(`{"from":{"namespace":"shop"}}`, "shop", "db")
	f.Fuzz(func(t *testing.T, spec, from, name string) {
		var parsed any
		if json.Unmarshal([]byte(spec), &parsed) != nil {
			return
		}
		grant := source.GrantOf(&unstructured.Unstructured{Object: map[string]any{"spec": parsed}})
		ref := source.Ref{Kind: source.Claim, Namespace: "vault", Name: name}
		if !source.Granted([]source.Grant{grant}, from, ref) {
			return
		}
		if !slices.Contains(grant.From, source.GrantFrom{Kind: claimKind, Namespace: from}) {
			t.Errorf("%s grants claims of namespace %q something", spec, from)
		}
		if !slices.Contains(grant.To, source.GrantTo{Kind: claimKind}) && !slices.Contains(grant.To, source.GrantTo{Kind: claimKind, Name: name}) {
			t.Errorf("%s grants claim %q", spec, name)
		}
	})
}
