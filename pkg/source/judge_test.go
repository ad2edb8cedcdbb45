package source_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

const driver = "clone.example.com"

// fit returns the facts about a clone "copy" of 10Gi whose source "db" has 10Gi
// and which nothing stands in the way of.
func fit() source.Facts {
	size := v1.ResourceList{v1.ResourceStorage: resource.MustParse("10Gi")}
	return source.Facts{
		Claim: &v1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "copy", UID: "uid-copy"},
			Spec: v1.PersistentVolumeClaimSpec{
				DataSource: &v1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "db"},
				Resources:  v1.VolumeResourceRequirements{Requests: size.DeepCopy()},
			},
		},
		Driver:   driver,
		CanClone: true,
		Source: &v1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db", UID: "uid-db"},
			Spec: v1.PersistentVolumeClaimSpec{
				VolumeName: "pv-db",
				Resources:  v1.VolumeResourceRequirements{Requests: size.DeepCopy()},
			},
			Status: v1.PersistentVolumeClaimStatus{Phase: v1.ClaimBound, Capacity: size.DeepCopy()},
		},
		SourcePV: &v1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "pv-db", UID: "uid-pv"},
			Spec: v1.PersistentVolumeSpec{
				Capacity: size.DeepCopy(),
				ClaimRef: &v1.ObjectReference{Namespace: "shop", Name: "db", UID: "uid-db"},
				PersistentVolumeSource: v1.PersistentVolumeSource{
					CSI: &v1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: "handle-db"},
				},
			},
			Status: v1.PersistentVolumeStatus{Phase: v1.VolumeBound},
		},
	}
}

func asks(claim *v1.PersistentVolumeClaim, size string) {
	if size == "" {
		claim.Spec.Resources.Requests = nil
		return
	}
	claim.Spec.Resources.Requests = v1.ResourceList{v1.ResourceStorage: resource.MustParse(size)}
}

func ready(bytes int64) *source.Volume { return &source.Volume{Handle: "handle-db", Bytes: bytes} }

// judged is one case: facts that fit but for one change, and what is to come of it.
type judged struct {
	name   string
	change func(*source.Facts)
	volume *source.Volume
	want   verdict.Verdict
}

func run(t *testing.T, cases []judged) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			facts := fit()
			c.change(&facts)
			volume, v := source.Judge(facts)
			if v != c.want {
				t.Errorf("got %s %s\n%s\nwant %s %s\n%s", v.Kind, v.Reason, v.Message, c.want.Kind, c.want.Reason, c.want.Message)
			}
			if !reflect.DeepEqual(volume, c.volume) {
				t.Errorf("volume is %+v, want %+v", volume, c.volume)
			}
		})
	}
}

func TestOtherSources(t *testing.T) {
	run(t, []judged{
		{"a fit clone is ready", func(*source.Facts) {}, ready(10 << 30), verdict.Verdict{}},
		{
			"a blank claim is ready and has no source",
			func(f *source.Facts) {
				f.Claim.Spec.DataSource, f.CanClone, f.Source, f.SourcePV = nil, false, nil, nil
			},
			nil, verdict.Verdict{},
		},
		{
			"what somebody else fills is not ours",
			func(f *source.Facts) {
				f.Claim.Spec.DataSource, f.Claim.Spec.DataSourceRef = nil, &v1.TypedObjectReference{APIGroup: new("example.org"), Kind: "Image", Name: "linux"}
			},
			nil, verdict.Verdict{
				Kind: verdict.Ignore, Reason: verdict.Provisioning,
				Message: "Assuming an external populator will provision the volume",
			},
		},
	})
}

// Rules 1 and 2: the driver clones, the source exists and is in reach.
func TestRules1And2(t *testing.T) {
	unable := verdict.Verdict{
		Kind: verdict.Refuse, Reason: verdict.CloneNotSupported,
		Message: `driver "clone.example.com" cannot clone (no CLONE_VOLUME capability); create the claim again without spec.dataSource and copy the data, or use a driver that clones`,
	}
	missing := verdict.Verdict{
		Kind: verdict.Wait, Reason: verdict.CloneSourceNotFound,
		Message: `clone waits for source PVC "db", which does not exist; it starts by itself when that PVC is there and bound`,
	}
	itself := verdict.Verdict{
		Kind: verdict.Refuse, Reason: verdict.CloneOfItself,
		Message: `claim "copy" names itself as its source; create it again with the name of another PVC in spec.dataSource`,
	}
	run(t, []judged{
		{"rule 1: a driver that cannot clone is named", func(f *source.Facts) { f.CanClone = false }, nil, unable},
		{"rule 1 is judged before the source is looked at", func(f *source.Facts) { f.CanClone, f.Source, f.SourcePV = false, nil, nil }, nil, unable},
		{"rule 2: a missing source is waited for", func(f *source.Facts) { f.Source, f.SourcePV = nil, nil }, nil, missing},
		{
			"rule 2: a source in another namespace is refused without the feature gate",
			func(f *source.Facts) {
				f.Claim.Spec.DataSource, f.Claim.Spec.DataSourceRef = nil, &v1.TypedObjectReference{Kind: "PersistentVolumeClaim", Name: "db", Namespace: new("vault")}
			},
			nil, verdict.Verdict{
				Kind: verdict.Refuse, Reason: verdict.CloneNamespace,
				Message: `source PVC "vault/db" is in another namespace, and this provisioner runs without --feature-gates=CrossNamespaceVolumeDataSource=true; create the claim again with a source in its own namespace`,
			},
		},
		{
			"rule 2: a namespace that is the claim's own is no other",
			func(f *source.Facts) {
				f.Claim.Spec.DataSource, f.Claim.Spec.DataSourceRef = nil, &v1.TypedObjectReference{Kind: "PersistentVolumeClaim", Name: "db", Namespace: new("shop")}
			},
			ready(10 << 30), verdict.Verdict{},
		},
		{
			"a claim that names itself is refused",
			func(f *source.Facts) { f.Claim.Spec.DataSource.Name = "copy"; f.Source = f.Claim; f.SourcePV = nil },
			nil, itself,
		},
	})
}

// across makes the source one of namespace "vault", which grants what is said.
func across(grants ...source.Grant) func(*source.Facts) {
	return func(f *source.Facts) {
		f.Claim.Spec.DataSource, f.Claim.Spec.DataSourceRef = nil, &v1.TypedObjectReference{Kind: "PersistentVolumeClaim", Name: "db", Namespace: new("vault")}
		f.Source.Namespace, f.SourcePV.Spec.ClaimRef.Namespace = "vault", "vault"
		f.OtherNamespaces, f.Grants = true, grants
	}
}

// Rule 2 across namespaces: nothing without the gate, nothing without a grant.
func TestRule2AcrossNamespaces(t *testing.T) {
	from, to := source.GrantFrom{Kind: "PersistentVolumeClaim", Namespace: "shop"}, source.GrantTo{Kind: "PersistentVolumeClaim"}
	grant := func(from source.GrantFrom, to source.GrantTo) source.Grant {
		return source.Grant{From: []source.GrantFrom{from}, To: []source.GrantTo{to}}
	}
	with := func(change func(*source.GrantFrom, *source.GrantTo)) source.Grant {
		f, t := from, to
		change(&f, &t)
		return grant(f, t)
	}
	waits := verdict.Verdict{
		Kind: verdict.Wait, Reason: verdict.CloneNotGranted,
		Message: `clone waits for permission: no ReferenceGrant in namespace "vault" lets PersistentVolumeClaims of namespace "shop" use PVC "db"; it starts by itself when one does`,
	}
	run(t, []judged{
		{"a grant for all claims", across(grant(from, to)), ready(10 << 30), verdict.Verdict{}},
		{"a grant for this claim", across(with(func(_ *source.GrantFrom, to *source.GrantTo) { to.Name = "db" })), ready(10 << 30), verdict.Verdict{}},
		{"one of several grants", across(source.Grant{}, grant(from, to)), ready(10 << 30), verdict.Verdict{}},
		{
			"one of several entries", across(source.Grant{
				From: []source.GrantFrom{{Kind: "PersistentVolumeClaim", Namespace: "zoo"}, from},
				To:   []source.GrantTo{{Kind: "Secret"}, to},
			}), ready(10 << 30), verdict.Verdict{},
		},
		{"no grant", across(), nil, waits},
		{"an empty grant", across(source.Grant{}), nil, waits},
		{"a grant for another claim", across(with(func(_ *source.GrantFrom, to *source.GrantTo) { to.Name = "web" })), nil, waits},
		{"a grant for another namespace", across(with(func(from *source.GrantFrom, _ *source.GrantTo) { from.Namespace = "zoo" })), nil, waits},
		{"a grant from another kind", across(with(func(from *source.GrantFrom, _ *source.GrantTo) { from.Kind = "Pod" })), nil, waits},
		{"a grant from another group", across(with(func(from *source.GrantFrom, _ *source.GrantTo) { from.Group = "example.org" })), nil, waits},
		{"a grant to another kind", across(with(func(_ *source.GrantFrom, to *source.GrantTo) { to.Kind = "Secret" })), nil, waits},
		{"a grant to another group", across(with(func(_ *source.GrantFrom, to *source.GrantTo) { to.Group = "example.org" })), nil, waits},
		{
			"two grants of which each has one half", across(
				with(func(_ *source.GrantFrom, to *source.GrantTo) { to.Kind = "Secret" }),
				with(func(from *source.GrantFrom, _ *source.GrantTo) { from.Namespace = "zoo" })), nil, waits,
		},
		{"who may not clone it does not learn that it does not exist", func(f *source.Facts) { across()(f); f.Source, f.SourcePV = nil, nil }, nil, waits},
		{"a record that nobody vouches for is no grant", func(f *source.Facts) { across()(f); f.Claim.Finalizers = []string{"driver/provisioning"} }, nil, waits},
		{"a grant that goes does not stop what this process has begun", func(f *source.Facts) { across()(f); f.Recorded = true }, ready(10 << 30), verdict.Verdict{}},
		{
			"a claim of the same name in another namespace is not the claim itself",
			func(f *source.Facts) { across(grant(from, to))(f); f.Claim.Name = "db" }, ready(10 << 30), verdict.Verdict{},
		},
		{
			"a missing source is named with its namespace", func(f *source.Facts) { across(grant(from, to))(f); f.Source, f.SourcePV = nil, nil },
			nil, verdict.Verdict{
				Kind: verdict.Wait, Reason: verdict.CloneSourceNotFound,
				Message: `clone waits for source PVC "vault/db", which does not exist; it starts by itself when that PVC is there and bound`,
			},
		},
	})
}

// Rule 5 compares the names of the classes, wherever they are written.
func TestRule5(t *testing.T) {
	class := func(claim *v1.PersistentVolumeClaim, field, annotation *string) {
		claim.Spec.StorageClassName = field
		if annotation != nil {
			claim.Annotations = map[string]string{"volume.beta.kubernetes.io/storage-class": *annotation}
		}
	}
	fields := func(of, wanted *string) func(*source.Facts) {
		return func(f *source.Facts) { f.Strict = true; class(f.Source, of, nil); class(f.Claim, wanted, nil) }
	}
	differs := verdict.Verdict{
		Kind: verdict.Refuse, Reason: verdict.CloneClassMismatch,
		Message: `clone needs StorageClass "gold": source PVC "db" has it, this claim asks for "silver"; create the claim again with spec.storageClassName: gold (--clone-policy=compatible lifts this rule)`,
	}
	none := verdict.Verdict{
		Kind: verdict.Refuse, Reason: verdict.CloneClassMismatch,
		Message: `clone needs the StorageClass of its source: source PVC "db" has none, this claim asks for "silver"; name another source, or start the provisioner with --clone-policy=compatible, which lifts this rule`,
	}
	run(t, []judged{
		{"the same class", fields(new("gold"), new("gold")), ready(10 << 30), verdict.Verdict{}},
		{"another class", fields(new("gold"), new("silver")), nil, differs},
		{"another class under the compatible policy", func(f *source.Facts) { fields(new("gold"), new("silver"))(f); f.Strict = false }, ready(10 << 30), verdict.Verdict{}},
		{"another class on record", func(f *source.Facts) { fields(new("gold"), new("silver"))(f); f.Recorded = true }, ready(10 << 30), verdict.Verdict{}},
		{"a source without a class", fields(new(""), new("silver")), nil, none},
		{"a source that never had one", fields(nil, new("silver")), nil, none},
		{"neither has a class", fields(nil, new("")), ready(10 << 30), verdict.Verdict{}},
		{"both in the annotation of old", func(f *source.Facts) {
			f.Strict = true
			class(f.Source, nil, new("gold"))
			class(f.Claim, nil, new("gold"))
		}, ready(10 << 30), verdict.Verdict{}},
		{"one in the annotation, one in the field", func(f *source.Facts) {
			f.Strict = true
			class(f.Source, nil, new("gold"))
			class(f.Claim, new("gold"), nil)
		}, ready(10 << 30), verdict.Verdict{}},
		{"the annotation beats the field", func(f *source.Facts) {
			f.Strict = true
			class(f.Source, new("gold"), nil)
			class(f.Claim, new("gold"), new("silver"))
		}, nil, differs},
	})
}

// Rule 3: bound, of this driver, and both ends agree.
func TestRule3(t *testing.T) {
	notBound := func(message string) verdict.Verdict {
		return verdict.Verdict{Kind: verdict.Wait, Reason: verdict.CloneSourceNotBound, Message: message}
	}
	unusable := func(message string) verdict.Verdict {
		return verdict.Verdict{Kind: verdict.Refuse, Reason: verdict.CloneSourceUnusable, Message: message}
	}
	run(t, []judged{
		{
			"a pending source is waited for", func(f *source.Facts) { f.Source.Status.Phase = v1.ClaimPending },
			nil, notBound(`clone waits until source PVC "db" is bound (it is Pending); it then starts by itself`),
		},
		{
			"a source without a phase is pending", func(f *source.Facts) { f.Source.Status.Phase = "" },
			nil, notBound(`clone waits until source PVC "db" is bound (it is Pending); it then starts by itself`),
		},
		{
			"a lost source is refused", func(f *source.Facts) { f.Source.Status.Phase, f.SourcePV = v1.ClaimLost, nil },
			nil, unusable(`cannot clone source PVC "db": it is Lost, its PV "pv-db" is gone; create the claim again with another source`),
		},
		{
			"a lost source whose PV went to another claim says so",
			func(f *source.Facts) { f.Source.Status.Phase, f.SourcePV.Spec.ClaimRef.UID = v1.ClaimLost, "uid-old" },
			nil, unusable(`cannot clone source PVC "db": its PV "pv-db" is bound to another claim (shop/db, uid uid-old); create the claim again with another source`),
		},
		{
			"a PV that is not there yet is waited for", func(f *source.Facts) { f.SourcePV = nil },
			nil, notBound(`clone waits for PV "pv-db" of source PVC "db", which does not exist; it starts by itself when that PV is there`),
		},
		{
			"a volume that is not CSI is refused", func(f *source.Facts) { f.SourcePV.Spec.CSI = nil },
			nil, unusable(`cannot clone source PVC "db": its PV "pv-db" is not a CSI volume; create the claim again with a source provisioned by driver "clone.example.com"`),
		},
		{
			"a volume of another driver is refused", func(f *source.Facts) { f.SourcePV.Spec.CSI.Driver = "other.example.com" },
			nil, unusable(`cannot clone source PVC "db": its PV "pv-db" belongs to driver "other.example.com", this claim's class to driver "clone.example.com"; use a class of the source's driver`),
		},
		{
			"a PV without a claim is waited for", func(f *source.Facts) { f.SourcePV.Spec.ClaimRef = nil },
			nil, notBound(`clone waits until PV "pv-db" is bound to source PVC "db"; it then starts by itself`),
		},
		{
			"a PV that is only reserved is waited for", func(f *source.Facts) { f.SourcePV.Spec.ClaimRef.UID = "" },
			nil, notBound(`clone waits until PV "pv-db" is bound to source PVC "db"; it then starts by itself`),
		},
		{
			"a PV of an earlier claim of that name is refused", func(f *source.Facts) { f.SourcePV.Spec.ClaimRef.UID = "uid-old" },
			nil, unusable(`cannot clone source PVC "db": its PV "pv-db" is bound to another claim (shop/db, uid uid-old); create the claim again with another source`),
		},
		{
			"a PV of a claim in another namespace is refused", func(f *source.Facts) { f.SourcePV.Spec.ClaimRef.Namespace = "vault" },
			nil, unusable(`cannot clone source PVC "db": its PV "pv-db" is bound to another claim (vault/db, uid uid-db); create the claim again with another source`),
		},
		{
			"a PV of a claim of another name is refused", func(f *source.Facts) { f.SourcePV.Spec.ClaimRef.Name = "web" },
			nil, unusable(`cannot clone source PVC "db": its PV "pv-db" is bound to another claim (shop/web, uid uid-db); create the claim again with another source`),
		},
		{
			"a PV that is not Bound yet is waited for", func(f *source.Facts) { f.SourcePV.Status.Phase = v1.VolumeAvailable },
			nil, notBound(`clone waits until PV "pv-db" of source PVC "db" is Bound (it is Available); it then starts by itself`),
		},
	})
}

// A source that says Bound and names no PV is not bound; the words must not
// contradict themselves.
func TestRule3SaysNotBoundOfWhatIsBound(t *testing.T) {
	facts := fit()
	facts.Source.Spec.VolumeName, facts.SourcePV = "", nil
	volume, v := source.Judge(facts)
	if volume != nil || v.Kind != verdict.Wait || v.Reason != verdict.CloneSourceNotBound {
		t.Errorf("got %s %s with %v", v.Kind, v.Reason, volume)
	}
	if strings.Contains(v.Message, "is bound (it is Bound)") {
		t.Errorf("the message contradicts itself: %s", v.Message)
	}
}

// Rule 4, and what a record waives: this rule and no other.
func TestRule4(t *testing.T) {
	deleting := func(f *source.Facts) { f.Source.DeletionTimestamp = new(metav1.NewTime(time.Unix(1_800_000_000, 0))) }
	// begun: the source is protected, and the clone came that long after its deletion.
	begun := func(after time.Duration) func(*source.Facts) {
		return func(f *source.Facts) {
			deleting(f)
			f.Source.Finalizers = []string{"kubernetes.io/pvc-protection", "provisioner.storage.kubernetes.io/cloning-protection"}
			f.Claim.CreationTimestamp = metav1.NewTime(f.Source.DeletionTimestamp.Add(after))
		}
	}
	refused := verdict.Verdict{
		Kind: verdict.Refuse, Reason: verdict.CloneSourceDeleting,
		Message: `cannot clone source PVC "db": it is being deleted; create the claim again with another source`,
	}
	run(t, []judged{
		{"a source that is being deleted is refused", deleting, nil, refused},
		{"a pending source that is being deleted is refused", func(f *source.Facts) { deleting(f); f.Source.Status.Phase = v1.ClaimPending }, nil, refused},
		{"a clone on record goes on", func(f *source.Facts) { deleting(f); f.Recorded = true }, ready(10 << 30), verdict.Verdict{}},
		{"one that an earlier process may have begun goes on", begun(-time.Minute), ready(10 << 30), verdict.Verdict{}},
		{"one of the same second is refused", begun(0), nil, refused},
		{"unless it has a record", func(f *source.Facts) { begun(0)(f); f.Found = true }, ready(10 << 30), verdict.Verdict{}},
		{"nor one that this process has let go", func(f *source.Facts) { begun(-time.Second)(f); f.LetGo = true }, nil, refused},
		{"a record does not help one that came later", func(f *source.Facts) { begun(time.Second)(f); f.Found = true }, nil, refused},
		{"one that came after the deletion is refused, although others hold the source", begun(time.Second), nil, refused},
		{"one that came before is refused if nobody protects the source", func(f *source.Facts) {
			begun(-time.Minute)(f)
			f.Source.Finalizers = []string{"kubernetes.io/pvc-protection"}
		}, nil, refused},
	})

	for _, c := range []struct {
		name   string
		change func(*source.Facts)
		want   verdict.Reason
	}{
		{"rule 1", func(f *source.Facts) { f.CanClone = false }, verdict.CloneNotSupported},
		{"rule 2", func(f *source.Facts) { f.Source, f.SourcePV = nil, nil }, verdict.CloneSourceNotFound},
		{"rule 3, bound", func(f *source.Facts) { f.Source.Status.Phase = v1.ClaimPending }, verdict.CloneSourceNotBound},
		{"rule 3, lost", func(f *source.Facts) { f.Source.Status.Phase = v1.ClaimLost }, verdict.CloneSourceUnusable},
		{"rule 3, driver", func(f *source.Facts) { f.SourcePV.Spec.CSI.Driver = "other" }, verdict.CloneSourceUnusable},
		{"rule 3, uid", func(f *source.Facts) { f.SourcePV.Spec.ClaimRef.UID = "other" }, verdict.CloneSourceUnusable},
		{"rule 7", func(f *source.Facts) { f.Claim.Spec.VolumeMode = new(v1.PersistentVolumeBlock) }, verdict.CloneModeMismatch},
		{"rule 8", func(f *source.Facts) { asks(f.Claim, "1Gi") }, verdict.CloneTooSmall},
		{"rule 9", func(f *source.Facts) { f.Claim.Spec.Selector = &metav1.LabelSelector{} }, verdict.SelectorNotSupported},
		{"itself", func(f *source.Facts) { f.Claim.Spec.DataSource.Name = "copy" }, verdict.CloneOfItself},
	} {
		t.Run("a record does not waive "+c.name, func(t *testing.T) {
			facts := fit()
			facts.Recorded = true
			c.change(&facts)
			volume, v := source.Judge(facts)
			if v.Reason != c.want || v.Ready() || volume != nil {
				t.Errorf("got %s %s with %v, want %s", v.Kind, v.Reason, volume, c.want)
			}
		})
	}
}

func TestRule7(t *testing.T) {
	block, file := v1.PersistentVolumeBlock, v1.PersistentVolumeFilesystem
	needsBlock := verdict.Verdict{
		Kind: verdict.Refuse, Reason: verdict.CloneModeMismatch,
		Message: `clone needs volumeMode Block: source PVC "db" is Block, this claim asks for Filesystem; create the claim again with spec.volumeMode: Block`,
	}
	needsFile := verdict.Verdict{
		Kind: verdict.Refuse, Reason: verdict.CloneModeMismatch,
		Message: `clone needs volumeMode Filesystem: source PVC "db" is Filesystem, this claim asks for Block; create the claim again with spec.volumeMode: Filesystem`,
	}
	set := func(of, wanted *v1.PersistentVolumeMode) func(*source.Facts) {
		return func(f *source.Facts) { f.Source.Spec.VolumeMode, f.Claim.Spec.VolumeMode = of, wanted }
	}
	run(t, []judged{
		{"Block of Block is ready", set(&block, &block), ready(10 << 30), verdict.Verdict{}},
		{"Filesystem of Filesystem is ready", set(&file, &file), ready(10 << 30), verdict.Verdict{}},
		{"no mode is Filesystem on the claim", set(&file, nil), ready(10 << 30), verdict.Verdict{}},
		{"no mode is Filesystem on the source", set(nil, &file), ready(10 << 30), verdict.Verdict{}},
		{"Filesystem of Block is refused", set(&block, &file), nil, needsBlock},
		{"no mode of Block is refused", set(&block, nil), nil, needsBlock},
		{"Block of Filesystem is refused", set(&file, &block), nil, needsFile},
		{"Block of no mode is refused", set(nil, &block), nil, needsFile},
	})
}

// Rule 8 compares what was asked for; the capacity is what is to be copied.
func TestRule8(t *testing.T) {
	small := func(needed, asked string) verdict.Verdict {
		return verdict.Verdict{
			Kind: verdict.Refuse, Reason: verdict.CloneTooSmall,
			Message: "clone needs at least " + needed + `: source PVC "db" has ` + needed + ", this claim asks for " + asked + "; create the claim again with spec.resources.requests.storage: " + needed,
		}
	}
	capacity := func(pv, status string) func(*source.Facts) {
		return func(f *source.Facts) {
			f.SourcePV.Spec.Capacity, f.Source.Status.Capacity = nil, nil
			if pv != "" {
				f.SourcePV.Spec.Capacity = v1.ResourceList{v1.ResourceStorage: resource.MustParse(pv)}
			}
			if status != "" {
				f.Source.Status.Capacity = v1.ResourceList{v1.ResourceStorage: resource.MustParse(status)}
			}
		}
	}
	run(t, []judged{
		{"the same in other units is enough", func(f *source.Facts) { asks(f.Claim, "10240Mi") }, ready(10 << 30), verdict.Verdict{}},
		{"more is enough", func(f *source.Facts) { asks(f.Claim, "1Ti") }, ready(10 << 30), verdict.Verdict{}},
		{"half is too small", func(f *source.Facts) { asks(f.Claim, "5Gi") }, nil, small("10Gi", "5Gi")},
		{"decimal is smaller than binary", func(f *source.Facts) { asks(f.Claim, "10G") }, nil, small("10Gi", "10G")},
		{"a fraction of a byte less is too small", func(f *source.Facts) { asks(f.Claim, "10737418239500m") }, nil, small("10Gi", "10737418239500m")},
		{"no size is too small", func(f *source.Facts) { asks(f.Claim, "") }, nil, small("10Gi", "0")},
		{"what the driver rounded up is not asked for", capacity("12Gi", "12Gi"), ready(12 << 30), verdict.Verdict{}},
		{"after an expansion the PV may be ahead", capacity("20Gi", "10Gi"), ready(20 << 30), verdict.Verdict{}},
		{"after an expansion the claim may be ahead", capacity("10Gi", "20Gi"), ready(20 << 30), verdict.Verdict{}},
		{"the PV's capacity counts alone", capacity("20Gi", ""), ready(20 << 30), verdict.Verdict{}},
		{"the claim's capacity counts alone", capacity("", "20Gi"), ready(20 << 30), verdict.Verdict{}},
		{"no capacity at all is zero", capacity("", ""), ready(0), verdict.Verdict{}},
		{"a negative capacity is zero", capacity("-1", "-2"), ready(0), verdict.Verdict{}},
		{"fractions of a byte are rounded up", capacity("1500m", ""), ready(2), verdict.Verdict{}},
	})
}

func TestRule9(t *testing.T) {
	refused := verdict.Verdict{
		Kind: verdict.Refuse, Reason: verdict.SelectorNotSupported,
		Message: "a claim with spec.selector cannot be provisioned; create it again without the selector, or bind it to an existing PV",
	}
	run(t, []judged{
		{"a clone with a selector is refused", func(f *source.Facts) { f.Claim.Spec.Selector = &metav1.LabelSelector{} }, nil, refused},
		{
			"a blank claim with a selector is refused",
			func(f *source.Facts) {
				f.Claim.Spec.DataSource = nil
				f.Claim.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}
			},
			nil, refused,
		},
	})
}

func TestJudgeChangesNothing(t *testing.T) {
	facts, untouched := fit(), fit()
	source.Judge(facts)
	if !reflect.DeepEqual(facts, untouched) {
		t.Error("the facts were changed")
	}
}

func list(size string) v1.ResourceList {
	quantity, err := resource.ParseQuantity(size)
	if err != nil {
		return nil
	}
	return v1.ResourceList{v1.ResourceStorage: quantity}
}
