package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// With these what is driven by a back-off comes too late for any test.
const (
	noBackOff    = "--retry-interval-start=5m"
	noBackOffMax = "--retry-interval-max=5m"
)

const cloningProtection = "provisioner.storage.kubernetes.io/cloning-protection"

// told is an event as its reader sees it.
type told struct{ kind, reason, message string }

// said returns the events of a claim that the provisioner sent.
func said(env *kit.Env, claim string) []v1.Event {
	return slices.DeleteFunc(env.Events(claim), func(event v1.Event) bool {
		return event.Source.Component != env.DriverName+"/csi-clone-provisioner"
	})
}

// heard returns an error unless the provisioner sent exactly these events for a
// claim, in this order and each once.
func heard(env *kit.Env, claim string, want ...told) error {
	events := said(env, claim)
	var got []told
	once := true
	for _, event := range events {
		got = append(got, told{event.Type, event.Reason, event.Message})
		once = once && event.Count <= 1
	}
	if slices.Equal(got, want) && once {
		return nil
	}
	var text strings.Builder
	for _, event := range events {
		fmt.Fprintf(&text, "\n    %d x %s %s: %s", event.Count, event.Type, event.Reason, event.Message)
	}
	text.WriteString("\n  instead of")
	for _, event := range want {
		fmt.Fprintf(&text, "\n    1 x %s %s: %s", event.kind, event.reason, event.message)
	}
	return fmt.Errorf("the events of claim %q are%s", claim, text.String())
}

// heardInAnyOrder is heard for events of which nobody can say which comes first.
func heardInAnyOrder(env *kit.Env, claim string, want ...told) error {
	events, missing := said(env, claim), slices.Clone(want)
	for _, event := range events {
		missing = slices.DeleteFunc(missing, func(w told) bool {
			return event.Count <= 1 && w == told{event.Type, event.Reason, event.Message}
		})
	}
	if len(missing) > 0 || len(events) != len(want) {
		return fmt.Errorf("claim %q has %d events of ours, want %d, and these are missing: %v", claim, len(events), len(want), missing)
	}
	return nil
}

// judgements counts how often the provisioner has found that a claim cannot start.
func judgements(p *kit.Provisioner, env *kit.Env, claim string) int {
	return strings.Count(p.Log(), fmt.Sprintf(`"Claim is not admitted" claim="%s/%s"`, env.Namespace, claim))
}

// judged returns an error unless that has happened so often.
func judged(p *kit.Provisioner, env *kit.Env, claim string, times int) error {
	if n := judgements(p, env, claim); n < times {
		return fmt.Errorf("it was judged %d times, want %d", n, times)
	}
	return nil
}

// touch changes something about a claim that matters to nobody.
func touch(env *kit.Env, claim string) {
	env.Update(claim, kit.Annotation("example.com/touched", time.Now().Format(time.RFC3339Nano)))
}

// policy is one of the two ways to run the provisioner.
type policy struct {
	name    string
	options []kit.Option
	args    []string
	// refer makes a claim name its source.
	refer func(v1.TypedObjectReference) kit.ClaimOption
	// strict: rule 5 holds.
	strict bool
}

// policies are that of a new installation, and that of one where the image of the
// incumbent was replaced, and its rights were kept. In the first claims name their
// source by the older field, in the second by the newer.
func policies() []policy {
	return []policy{
		{name: "strict", refer: dataSource, strict: true},
		{
			name:    "compatible",
			options: []kit.Option{kit.As(kit.IncumbentRBAC)},
			args:    []string{"--clone-policy=compatible"},
			refer:   kit.DataSourceRef,
		},
	}
}

func dataSource(ref v1.TypedObjectReference) kit.ClaimOption {
	return func(claim *v1.PersistentVolumeClaim) {
		claim.Spec.DataSource = &v1.TypedLocalObjectReference{APIGroup: ref.APIGroup, Kind: ref.Kind, Name: ref.Name}
	}
}

// brokenRule is a world in which claim "copy" cannot be provisioned.
type brokenRule struct {
	name string
	// config of the driver; nil for one that can everything.
	config func(*demodriver.Config)
	// prepare makes what the claim refers to; nil for a bound source "src". It
	// may return what mends the rule.
	prepare func(*testing.T, *kit.Env) (mend func())
	// from is what the claim names as its source; a nil one is "src".
	from *v1.TypedObjectReference
	// options of claim "copy", beside that.
	options func(*kit.Env) []kit.ClaimOption
	// event that is sent. {driver}, {class}, {namespace} and {pv} (of the source)
	// are filled in.
	event told
	// strictOnly: under another policy the clone is made.
	strictOnly bool
}

// of is a source of a kind of the core group.
func of(kind, name string) *v1.TypedObjectReference {
	return &v1.TypedObjectReference{Kind: kind, Name: name}
}

// nothing is the source of a blank claim.
var nothing = of("", "")

// copyOf returns claim "copy" of a rule.
func (r brokenRule) copyOf(env *kit.Env, p policy) *v1.PersistentVolumeClaim {
	var options []kit.ClaimOption
	if r.options != nil {
		options = r.options(env)
	}
	switch from := r.from; {
	case from == nil:
		options = append(options, p.refer(*of("PersistentVolumeClaim", "src")))
	case from.Kind != "PersistentVolumeClaim" && from.Kind != "VolumeSnapshot" && from != nothing:
		options = append(options, kit.DataSourceRef(*from)) // the older field takes no others
	case from != nothing:
		options = append(options, p.refer(*from))
	}
	return env.Claim("copy", options...)
}

func bindSource(options ...kit.ClaimOption) func(*testing.T, *kit.Env) func() {
	return func(_ *testing.T, env *kit.Env) func() {
		env.Create(env.Claim("src", options...))
		env.WaitBound("src")
		return nil
	}
}

// noSource prepares nothing.
func noSource(*testing.T, *kit.Env) func() { return nil }

// createAgain makes the source again.
func createAgain(env *kit.Env, options ...kit.ClaimOption) func() {
	return func() {
		env.Delete("src")
		env.WaitGone("src")
		env.Create(env.Claim("src", options...))
	}
}

// mendedBy makes the source again the way it should be.
func mendedBy(wrong, right []kit.ClaimOption) func(*testing.T, *kit.Env) func() {
	return func(t *testing.T, env *kit.Env) func() {
		bindSource(wrong...)(t, env)
		return createAgain(env, right...)
	}
}

// oddClass makes class "{class}-odd" with the parameters; without them it is as
// it should be. The source is of that class, too.
func oddClass(parameters map[string]string) func(*testing.T, *kit.Env) func() {
	return func(t *testing.T, env *kit.Env) func() {
		name := env.Class + "-odd"
		env.CreateClass(name, func(class *storagev1.StorageClass) { class.Parameters = parameters })
		bindStatic(t, env, name, csiVolume(env.DriverName, volumeByHand(t, env)))
		return func() {
			if err := env.Admin.StorageV1().StorageClasses().Delete(env.Ctx, name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			env.CreateClass(name)
		}
	}
}

// always is for options that are the same in every test.
func always(options ...kit.ClaimOption) func(*kit.Env) []kit.ClaimOption {
	return func(*kit.Env) []kit.ClaimOption { return options }
}

func inClass(suffix string) func(*kit.Env) []kit.ClaimOption {
	return func(env *kit.Env) []kit.ClaimOption { return []kit.ClaimOption{kit.Class(env.Class + suffix)} }
}

// given does what the PV controller does when it knows the class.
func given(env *kit.Env) kit.ClaimOption {
	return kit.Annotation("volume.kubernetes.io/storage-provisioner", env.DriverName)
}

func without(capability csi.ControllerServiceCapability_RPC_Type) func(*demodriver.Config) {
	return func(config *demodriver.Config) {
		config.Without = []csi.ControllerServiceCapability_RPC_Type{capability}
	}
}

// bindStatic binds "src" to a PV made by hand, both of a class.
func bindStatic(t *testing.T, env *kit.Env, class string, volume v1.PersistentVolumeSource) {
	t.Helper()
	pv, claim := staticPV(env, "src", volume), staticClaim(env, "src")
	pv.Spec.StorageClassName = class
	kit.Class(class)(claim)
	createPV(t, env, pv)
	env.Create(claim)
	env.WaitBound("src")
}

// staticSource binds "src" to a PV made by hand, and makes it again as it should
// be.
func staticSource(volume v1.PersistentVolumeSource) func(*testing.T, *kit.Env) func() {
	return func(t *testing.T, env *kit.Env) func() {
		bindStatic(t, env, env.Class, volume)
		return createAgain(env)
	}
}

// otherClass makes class "{class}-other", binds a source to which the options are
// given with its name, and makes that again to which others are given.
func otherClass(wrong, right func(env *kit.Env, other string) kit.ClaimOption) func(*testing.T, *kit.Env) func() {
	return func(t *testing.T, env *kit.Env) func() {
		other := env.Class + "-other"
		env.CreateClass(other)
		bindSource(wrong(env, other))(t, env)
		return createAgain(env, right(env, other))
	}
}

func namesOwn(env *kit.Env, _ string) kit.ClaimOption     { return kit.Class(env.Class) }
func namesOther(_ *kit.Env, other string) kit.ClaimOption { return kit.Class(other) }
func marksOther(_ *kit.Env, other string) kit.ClaimOption { return kit.BetaClass(other) }

// namesOwnMarksOther names a class by the field and another by the annotation,
// which wins.
func namesOwnMarksOther(_ *kit.Env, other string) kit.ClaimOption {
	return kit.Annotation(v1.BetaStorageClassAnnotation, other)
}

// driverRules are those about the driver and the class.
func driverRules() []brokenRule {
	return []brokenRule{
		{
			name:   "rule 1: the driver cannot clone",
			config: without(csi.ControllerServiceCapability_RPC_CLONE_VOLUME),
			event: told{"Warning", "CloneNotSupported",
				`driver "{driver}" cannot clone (no CLONE_VOLUME capability); create the claim again without spec.dataSource and copy the data, or use a driver that clones`},
		},
		{
			name:    "rule 1: the driver cannot create volumes",
			config:  without(csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME),
			prepare: noSource,
			event: told{"Warning", "DriverCapabilityMissing",
				`driver "{driver}" cannot provision volumes (no CREATE_DELETE_VOLUME capability); use a class of another driver`},
		},
		{
			name: "rule 1: the driver has no controller service",
			config: func(config *demodriver.Config) {
				config.WithoutPlugin = []csi.PluginCapability_Service_Type{csi.PluginCapability_Service_CONTROLLER_SERVICE}
			},
			prepare: noSource,
			event: told{"Warning", "DriverCapabilityMissing",
				`driver "{driver}" cannot provision volumes (no CONTROLLER_SERVICE capability); use a class of another driver`},
		},
		{
			name:    "the class has a parameter with a typing error",
			prepare: oddClass(map[string]string{"csi.storage.k8s.io/fstyp": "ext4"}),
			options: inClass("-odd"),
			event: told{"Warning", "InvalidStorageClass",
				`StorageClass "{class}-odd" has the unknown parameter "csi.storage.k8s.io/fstyp"; keys that begin with "csi.storage.k8s.io/" are reserved, correct or remove it`},
		},
		{
			name:    "the class names two file systems",
			prepare: oddClass(map[string]string{"csi.storage.k8s.io/fstype": "ext4", "FSType": "xfs"}),
			options: inClass("-odd"),
			event: told{"Warning", "InvalidStorageClass",
				`StorageClass "{class}-odd" names the file system more than once (FSType, csi.storage.k8s.io/fstype); keep "csi.storage.k8s.io/fstype" only`},
		},
		{
			name:    "the class names a secret without its namespace",
			prepare: oddClass(map[string]string{"csi.storage.k8s.io/provisioner-secret-name": "s"}),
			options: inClass("-odd"),
			event: told{"Warning", "InvalidStorageClass",
				`StorageClass "{class}-odd" has parameter "csi.storage.k8s.io/provisioner-secret-name" without "csi.storage.k8s.io/provisioner-secret-namespace"; the provisioner secret needs both, or none`},
		},
		{
			name: "the class names a secret by an annotation that the claim does not have",
			prepare: oddClass(map[string]string{
				"csi.storage.k8s.io/node-stage-secret-name": "${pvc.annotations['team']}", "csi.storage.k8s.io/node-stage-secret-namespace": "n",
			}),
			options: inClass("-odd"),
			event: told{"Warning", "SecretNameInvalid",
				`parameter "csi.storage.k8s.io/node-stage-secret-name" of StorageClass "{class}-odd" names a Secret by annotation "team", which the claim does not have; annotate the claim`},
		},
		{
			name: "the class does not exist",
			prepare: func(t *testing.T, env *kit.Env) func() {
				bindStatic(t, env, env.Class+"-later", csiVolume(env.DriverName, volumeByHand(t, env)))
				return func() { env.CreateClass(env.Class + "-later") }
			},
			options: func(env *kit.Env) []kit.ClaimOption { return append(inClass("-later")(env), given(env)) },
			event: told{"Normal", "StorageClassNotFound",
				`the claim waits for StorageClass "{class}-later", which does not exist; provisioning starts by itself when it is there`},
		},
		{
			name: "the claim has a VolumeAttributesClass, and the driver none",
			options: always(func(claim *v1.PersistentVolumeClaim) {
				name := "gold"
				claim.Spec.VolumeAttributesClassName = &name
			}),
			event: told{"Warning", "DriverCapabilityMissing",
				`the claim asks for VolumeAttributesClass "gold", but driver "{driver}" has no such classes (no MODIFY_VOLUME capability); create the claim again without spec.volumeAttributesClassName`},
		},
	}
}

// sourceRules are those about the source.
func sourceRules() []brokenRule {
	const unusable = "CloneSourceUnusable"
	return []brokenRule{
		{
			name: "rule 2: the source does not exist",
			prepare: func(_ *testing.T, env *kit.Env) func() {
				return func() { env.Create(env.Claim("src")) }
			},
			event: told{"Normal", "CloneSourceNotFound",
				`clone waits for source PVC "src", which does not exist; it starts by itself when that PVC is there and bound`},
		},
		{
			name: "rule 3: the source is being provisioned",
			prepare: func(_ *testing.T, env *kit.Env) func() {
				gate := env.Faults.On("CreateVolume").When(inNamespace(env.Namespace)).Gate()
				env.Create(env.Claim("src"))
				<-gate.Entered()
				return gate.Release
			},
			event: told{"Normal", "CloneSourceNotBound", `clone waits until source PVC "src" is bound (it is Pending); it then starts by itself`},
		},
		{
			name: "rule 3: the source waits for its first consumer",
			prepare: func(_ *testing.T, env *kit.Env) func() {
				env.CreateClass(env.Class+"-delayed", func(class *storagev1.StorageClass) {
					mode := storagev1.VolumeBindingWaitForFirstConsumer
					class.VolumeBindingMode = &mode
				})
				env.Create(env.Claim("src", kit.Class(env.Class+"-delayed")))
				env.WaitEvent("src", "WaitForFirstConsumer")
				return func() { env.Update("src", kit.SelectedNode("node-1")) }
			},
			options: func(env *kit.Env) []kit.ClaimOption {
				return append(inClass("-delayed")(env), kit.SelectedNode("node-1"))
			},
			event: told{"Normal", "CloneSourceNotBound", `clone waits until source PVC "src" is bound (it is Pending); it then starts by itself`},
		},
		{
			name:    "rule 3: the source's volume is of another driver",
			prepare: staticSource(csiVolume("other.example", "volume-1")),
			event: told{"Warning", unusable,
				`cannot clone source PVC "src": its PV "{pv}" belongs to driver "other.example", this claim's class to driver "{driver}"; use a class of the source's driver`},
		},
		{
			name:    "rule 3: the source's volume is not a CSI volume",
			prepare: staticSource(v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/nowhere"}}),
			event: told{"Warning", unusable,
				`cannot clone source PVC "src": its PV "{pv}" is not a CSI volume; create the claim again with a source provisioned by driver "{driver}"`},
		},
		{
			name: "rule 3: the source has lost its PV",
			prepare: func(t *testing.T, env *kit.Env) func() {
				staticSource(csiVolume("other.example", "volume-1"))(t, env)
				dropPV(t, env, env.Namespace+"-static")
				waitLost(env, "src")
				return createAgain(env)
			},
			event: told{"Warning", unusable,
				`cannot clone source PVC "src": it is Lost, its PV "{pv}" is gone; create the claim again with another source`},
		},
		{
			name:    "rule 3: the source's PV points at another claim",
			prepare: pointElsewhere,
			event: told{"Warning", unusable,
				`cannot clone source PVC "src": its PV "{pv}" is bound to another claim ({namespace}/other, uid {other}); create the claim again with another source`},
		},
		{
			name: "rule 4: the source is being deleted",
			prepare: func(t *testing.T, env *kit.Env) func() {
				bindSource(kit.Finalizer("example.com/held"))(t, env)
				env.Delete("src")
				return func() {
					env.Update("src", func(claim *v1.PersistentVolumeClaim) {
						claim.Finalizers = slices.DeleteFunc(claim.Finalizers, func(f string) bool { return f == "example.com/held" })
					})
					env.WaitGone("src")
					env.Create(env.Claim("src"))
				}
			},
			event: told{"Warning", "CloneSourceDeleting", `cannot clone source PVC "src": it is being deleted; create the claim again with another source`},
		},
		{
			name:    "rule 7: a block volume for a file system",
			prepare: mendedBy([]kit.ClaimOption{kit.Block()}, nil),
			event: told{"Warning", "CloneVolumeModeMismatch",
				`clone needs volumeMode Block: source PVC "src" is Block, this claim asks for Filesystem; create the claim again with spec.volumeMode: Block`},
		},
		{
			name:    "rule 7: a file system for a block volume",
			prepare: mendedBy(nil, []kit.ClaimOption{kit.Block()}),
			options: always(kit.Block()),
			event: told{"Warning", "CloneVolumeModeMismatch",
				`clone needs volumeMode Filesystem: source PVC "src" is Filesystem, this claim asks for Block; create the claim again with spec.volumeMode: Filesystem`},
		},
		{
			name:    "rule 8: the claim is smaller than the source",
			prepare: mendedBy([]kit.ClaimOption{kit.Size("10Gi")}, []kit.ClaimOption{kit.Size("5Gi")}),
			options: always(kit.Size("5Gi")),
			event: told{"Warning", "CloneTooSmall",
				`clone needs at least 10Gi: source PVC "src" has 10Gi, this claim asks for 5Gi; create the claim again with spec.resources.requests.storage: 10Gi`},
		},
		{
			name:    "rule 8: the claim is a byte smaller than the source",
			options: always(kit.Size("1073741823")),
			event: told{"Warning", "CloneTooSmall",
				`clone needs at least 1Gi: source PVC "src" has 1Gi, this claim asks for 1073741823; create the claim again with spec.resources.requests.storage: 1Gi`},
		},
	}
}

// classRules are rule 5, which holds under the strict policy only.
func classRules() []brokenRule {
	const mismatch, lifted = "CloneStorageClassMismatch", "(--clone-policy=compatible lifts this rule)"
	otherThanOwn := told{"Warning", mismatch,
		`clone needs StorageClass "{class}-other": source PVC "src" has it, this claim asks for "{class}"; create the claim again with spec.storageClassName: {class}-other ` + lifted}
	return []brokenRule{
		{
			name:       "rule 5: source and clone are of different classes",
			prepare:    otherClass(namesOther, namesOwn),
			event:      otherThanOwn,
			strictOnly: true,
		},
		{
			name:       "rule 5: the source's class is in the annotation",
			prepare:    otherClass(marksOther, namesOwn),
			event:      otherThanOwn,
			strictOnly: true,
		},
		{
			name:       "rule 5: the source's class is in the annotation, and another in the field",
			prepare:    otherClass(namesOwnMarksOther, namesOwn),
			event:      otherThanOwn,
			strictOnly: true,
		},
		{
			name:    "rule 5: the clone's class is in the annotation",
			prepare: otherClass(namesOwn, namesOther),
			options: func(env *kit.Env) []kit.ClaimOption { return []kit.ClaimOption{kit.BetaClass(env.Class + "-other")} },
			event: told{"Warning", mismatch,
				`clone needs StorageClass "{class}": source PVC "src" has it, this claim asks for "{class}-other"; create the claim again with spec.storageClassName: {class} ` + lifted},
			strictOnly: true,
		},
		{
			name: "rule 5: different classes in both annotations",
			prepare: otherClass(marksOther, func(env *kit.Env, _ string) kit.ClaimOption {
				return kit.BetaClass(env.Class)
			}),
			options:    func(env *kit.Env) []kit.ClaimOption { return []kit.ClaimOption{kit.BetaClass(env.Class)} },
			event:      otherThanOwn,
			strictOnly: true,
		},
		{
			name: "rule 5: the source has no class",
			prepare: func(t *testing.T, env *kit.Env) func() {
				bindStatic(t, env, "", csiVolume(env.DriverName, volumeByHand(t, env)))
				return createAgain(env)
			},
			event: told{"Warning", mismatch,
				`clone needs the StorageClass of its source: source PVC "src" has none, this claim asks for "{class}"; name another source, or start the provisioner with --clone-policy=compatible, which lifts this rule`},
			strictOnly: true,
		},
	}
}

// claimRules are those about the claim alone.
func claimRules() []brokenRule {
	example, snapshots := "example.com", "snapshot.storage.k8s.io"
	selector := told{"Warning", "SelectorNotSupported",
		`a claim with spec.selector cannot be provisioned; create it again without the selector, or bind it to an existing PV`}
	return []brokenRule{
		{
			name:    "rule 9: a clone with a selector",
			options: always(kit.Selector(map[string]string{"tier": "fast"})),
			event:   selector,
		},
		{
			name:    "rule 9: a blank claim with a selector",
			prepare: noSource,
			from:    nothing,
			options: always(kit.Selector(map[string]string{"tier": "fast"})),
			event:   selector,
		},
		{
			name:    "the claim names itself",
			prepare: noSource,
			from:    of("PersistentVolumeClaim", "copy"),
			event: told{"Warning", "CloneOfItself",
				`claim "copy" names itself as its source; create it again with the name of another PVC in spec.dataSource`},
		},
		{
			name:    "a snapshot",
			prepare: noSource,
			from:    &v1.TypedObjectReference{APIGroup: &snapshots, Kind: "VolumeSnapshot", Name: "snap"},
			event: told{"Normal", "SnapshotNotFound",
				`restore waits for VolumeSnapshot "snap", and this cluster has no VolumeSnapshots at all: the CRDs of snapshot.storage.k8s.io/v1 are not installed; it starts by itself when they are, and the snapshot is there and ready`},
		},
		{
			name:    "a kind that a populator knows",
			prepare: noSource,
			from:    &v1.TypedObjectReference{APIGroup: &example, Kind: "Filler", Name: "water"},
			event:   told{"Normal", "Provisioning", `Assuming an external populator will provision the volume`},
		},
	}
}

func waitLost(env *kit.Env, claim string) {
	env.Eventually(fmt.Sprintf("claim %q is Lost", claim), func() error {
		if phase := env.Get(claim).Status.Phase; phase != v1.ClaimLost {
			return fmt.Errorf("it is %s", phase)
		}
		return nil
	})
}

// pointElsewhere binds "src" to a PV of the driver and then lets the PV point at
// claim "other", which asks for more than it has. The PV controller calls such a
// source Lost.
func pointElsewhere(t *testing.T, env *kit.Env) func() {
	staticSource(csiVolume(env.DriverName, volumeByHand(t, env)))(t, env)
	env.Create(env.Claim("other", kit.Class(""), kit.Size("2Gi")))
	pvs := env.Admin.CoreV1().PersistentVolumes()
	point := func(claim string) {
		pv := env.PV("src")
		pv.Spec.ClaimRef = &v1.ObjectReference{
			APIVersion: "v1", Kind: "PersistentVolumeClaim",
			Namespace: env.Namespace, Name: claim, UID: env.Get(claim).UID,
		}
		if _, err := pvs.Update(env.Ctx, pv, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	point("other")
	waitLost(env, "src")
	return func() { point("src") }
}

// matrixArgs are for all rules: what is woken by a back-off comes too late, and
// calls tell for whose claim they are.
var matrixArgs = []string{noBackOff, noBackOffMax, "--timeout=2m", "--extra-create-metadata"}

// inNamespace limits a fault to calls for the claims of a namespace.
func inNamespace(namespace string) func(any) bool {
	return faults.Request(func(req *csi.CreateVolumeRequest) bool {
		return req.GetParameters()["csi.storage.k8s.io/pvc/namespace"] == namespace
	})
}

func TestABrokenRuleIsToldOnceAndNothingIsDone(t *testing.T) {
	t.Parallel()
	for _, p := range policies() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			common := kit.New(t, p.options...)
			provisioner := common.StartProvisioner(append(p.args, matrixArgs...)...)
			for _, rule := range slices.Concat(driverRules(), sourceRules(), classRules(), claimRules()) {
				t.Run(rule.name, func(t *testing.T) {
					if rule.config == nil {
						env := common.Beside(t)
						t.Parallel()
						checkRule(t, env, provisioner, rule, p)
						return
					}
					t.Parallel()
					env := kit.New(t, append(p.options, kit.DriverConfig(rule.config))...)
					checkRule(t, env, env.StartProvisioner(append(p.args, matrixArgs...)...), rule, p)
				})
			}
		})
	}
}

func checkRule(t *testing.T, env *kit.Env, provisioner *kit.Provisioner, rule brokenRule, p policy) {
	prepare := rule.prepare
	if prepare == nil {
		prepare = bindSource()
	}
	mend := prepare(t, env)
	env.Create(rule.copyOf(env, p))
	if rule.strictOnly && !p.strict {
		env.WaitBound("copy")
		checkMade(t, env)
		leave(env, "src")
		return
	}

	event := told{rule.event.kind, rule.event.reason, fill(env, rule.event.message)}
	env.Eventually("the rule is told", func() error { return heard(env, "copy", event) })
	touchAll(env, provisioner, rule.event.reason != "StorageClassNotFound")
	env.Steadily("the rule was told once, and nothing is done", 500*time.Millisecond, func() error {
		if err := heard(env, "copy", event); err != nil {
			return err
		}
		return untouched(env)
	})
	if mend != nil {
		checkMended(t, env, mend)
	}
}

// checkMade fails the test unless claim "copy" was made without a word about any
// rule.
func checkMade(t *testing.T, env *kit.Env) {
	t.Helper()
	if got, want := requestFor(t, env, "copy").GetVolumeContentSource().GetVolume().GetVolumeId(), env.PV("src").Spec.CSI.VolumeHandle; got != want {
		t.Errorf("content source is %q, want %q", got, want)
	}
	env.Eventually("the events of success are there, and no others", func() error {
		return heard(env, "copy", success(env, "copy")...)
	})
}

// success is what is said of a bound claim for which nothing went wrong.
func success(env *kit.Env, claim string) []told {
	return []told{
		{"Normal", "Provisioning", fmt.Sprintf("External provisioner is provisioning volume for claim %q", env.Namespace+"/"+claim)},
		{"Normal", "ProvisioningSucceeded", "Successfully provisioned volume " + env.Get(claim).Spec.VolumeName},
	}
}

// checkMended mends the rule and fails the test unless claim "copy" is made at
// once.
func checkMended(t *testing.T, env *kit.Env, mend func()) {
	t.Helper()
	before := ""
	if slices.Contains(claimsOf(env), "src") && isBound(env.Get("src")) {
		before = string(env.Get("src").UID)
	}
	bound := when(t, env, "src", func(src *v1.PersistentVolumeClaim) bool { return isBound(src) && string(src.UID) != before })
	mend()
	since, after := time.Now(), "the last write that mended the rule"
	env.WaitBound("copy")
	if string(env.Get("src").UID) != before {
		since, after = await(t, bound, "the source is bound"), "the source was bound"
	}
	logDelays(t, env, since, after, "copy")
	env.Eventually("the end is told", func() error { return heardOnce(env, "copy", success(env, "copy")[1]) })
	for _, event := range said(env, "copy") {
		if event.Count > 1 {
			t.Errorf("said %d times: %s: %s", event.Count, event.Reason, event.Message)
		}
	}
	leave(env, "src")
}

// fill puts the names of a test into a text.
func fill(env *kit.Env, text string) string {
	replace := []string{"{driver}", env.DriverName, "{class}", env.Class, "{namespace}", env.Namespace}
	if strings.Contains(text, "{pv}") {
		replace = append(replace, "{pv}", env.Get("src").Spec.VolumeName)
	}
	if strings.Contains(text, "{other}") {
		replace = append(replace, "{other}", string(env.Get("other").UID))
	}
	return strings.NewReplacer(replace...).Replace(text)
}

// touchAll changes claim "copy", and its source if there is one and the verdict
// was made with a look at it, and waits until the claim was judged again.
func touchAll(env *kit.Env, p *kit.Provisioner, source bool) {
	for _, name := range claimsOf(env) {
		if name == "copy" || name == "src" && source {
			before := judgements(p, env, "copy")
			touch(env, name)
			env.Eventually("the claim is judged again", func() error { return judged(p, env, "copy", before+1) })
		}
	}
}

// claimsOf returns the names of the test's claims.
func claimsOf(env *kit.Env) []string {
	list, err := env.Admin.CoreV1().PersistentVolumeClaims(env.Namespace).List(env.Ctx, metav1.ListOptions{})
	if err != nil {
		return nil
	}
	var names []string
	for _, claim := range list.Items {
		names = append(names, claim.Name)
	}
	return names
}

// untouched returns an error if anything was done for claim "copy".
func untouched(env *kit.Env) error {
	if calls := callsFor(env, "copy"); len(calls) > 0 {
		return fmt.Errorf("the driver was called: %v", calls[0].Request)
	}
	for _, name := range claimsOf(env) {
		switch claim := env.Get(name); {
		case slices.Contains(claim.Finalizers, cloningProtection):
			return fmt.Errorf("claim %q is protected as a source", name)
		case slices.Contains(claim.Finalizers, strings.ToLower(env.DriverName)+"/provisioning") && name == "copy":
			return fmt.Errorf("claim %q is on record", name)
		}
	}
	return nil
}

func TestAClaimWithAPresetVolumeNameIsNotOurs(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner(noBackOff, noBackOffMax)
	bindSource()(t, env)
	preset := func(claim *v1.PersistentVolumeClaim) { claim.Spec.VolumeName = env.Namespace + "-none" }
	// Given to the driver by hand: the PV controller would not.
	env.Create(env.Claim("copy", preset, given(env), kit.CloneOf("src")))
	env.Create(env.Claim("blank", preset, given(env)))
	env.Create(env.Claim("later")) // when this one is through, the others were looked at
	env.WaitBound("later")
	env.Steadily("nothing is said or done", time.Second, func() error {
		for _, name := range []string{"copy", "blank"} {
			if err := heard(env, name); err != nil {
				return err
			}
			if calls := callsFor(env, name); len(calls) > 0 {
				return fmt.Errorf("the driver was called: %v", calls[0].Request)
			}
		}
		return untouched(env)
	})
}

func TestACloneFromAnotherNamespaceIsRefusedWithoutTheGate(t *testing.T) {
	t.Parallel()
	// Without this gate the API server drops such a reference.
	world := kit.StartCluster(t, cluster.Options{APIServerArgs: []string{"--feature-gates=CrossNamespaceVolumeDataSource=true"}})
	env := kit.New(t, kit.On(world))
	p := env.StartProvisioner(noBackOff, noBackOffMax)
	bindSource()(t, env) // of the same name: it must not be taken for the other
	other := env.Namespace + "-other"
	env.AddNamespace(other)
	env.Create(env.Claim("src", kit.InNamespace(other)))
	env.WaitBound(other + "/src")
	env.Create(env.Claim("copy", kit.CloneOfIn(other, "src")))
	event := told{"Warning", "CloneAcrossNamespacesDisabled", fmt.Sprintf(
		`source PVC "%s/src" is in another namespace, and this provisioner runs without --feature-gates=CrossNamespaceVolumeDataSource=true; create the claim again with a source in its own namespace`, other)}
	env.Eventually("the rule is told", func() error { return heard(env, "copy", event) })
	before := judgements(p, env, "copy")
	touch(env, "copy")
	env.Eventually("the claim is judged again", func() error { return judged(p, env, "copy", before+1) })
	env.Steadily("the rule was told once, and nothing is done", 500*time.Millisecond, func() error {
		if err := heard(env, "copy", event); err != nil {
			return err
		}
		if err := unmarked(env, other+"/src"); err != nil {
			return err
		}
		return untouched(env)
	})
}

func TestARefusedOrWaitingClaimCanBeDeletedAndBlocksNothing(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner(noBackOff, noBackOffMax)
	bindSource(kit.Size("2Gi"))(t, env)
	env.Create(
		env.Claim("too-small", kit.CloneOf("src")),
		env.Claim("waiting", kit.CloneOf("nothing")),
		env.Claim("gated", kit.CloneOf("pending")),
		env.Claim("pending", kit.Class(env.Class+"-none")))
	env.WaitEvent("too-small", "CloneTooSmall")
	env.WaitEvent("waiting", "CloneSourceNotFound")
	env.WaitEvent("gated", "CloneSourceNotBound")
	env.Delete("src", "pending")
	env.WaitGone("src", "pending")
	env.Delete("too-small", "waiting", "gated")
	env.WaitGone("too-small", "waiting", "gated")
	if calls := cloneCalls(env); len(calls) > 0 {
		t.Errorf("the driver was called: %v", calls)
	}
}
