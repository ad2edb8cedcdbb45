package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// What the start log says of each rule that is missing.
const (
	noPatch = "patch persistentvolumeclaims: claims are updated whole instead, which costs one request more for each write"
	// where update is missing, too
	noWrites = "patch persistentvolumeclaims: nothing can be put on record, so nothing is provisioned before it is granted"
	noPods   = "list pods: whether the source of a clone is in use is told by VolumeAttachments and by the condition Unused of the source alone; where neither tells, the clone is made all the same, and an event on it says so"
	noVAs    = "list volumeattachments: a clone does not wait until its source is detached"
	// of a driver whose volumes are attached to be used
	noVAsYet = "list volumeattachments: nothing is provisioned or deleted before it is granted: the driver's volumes are attached to be used (PUBLISH_UNPUBLISH_VOLUME), and one that is attached must not be deleted"
)

var missingLine = regexp.MustCompile(`"A rule of RBAC is missing" rule="apiGroups: \[[^]]*\], resources: \[(\w+)\], verbs: \[[^]]*\]" missing="(\w+)" meaning="(.*)"`)

// checkStartLog fails the test unless the provisioner has told exactly these
// missing rules, each once.
func checkStartLog(t *testing.T, p *kit.Provisioner, want ...string) {
	t.Helper()
	log := p.Log()
	var got []string
	for _, match := range missingLine.FindAllStringSubmatch(log, -1) {
		got = append(got, match[2]+" "+match[1]+": "+match[3])
	}
	if !slices.Equal(got, want) || strings.Count(log, "A rule of RBAC is missing") != len(want) {
		t.Errorf("the start log misses these rules:\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// denied counts the requests of the provisioner that RBAC did not allow.
func denied(t *testing.T, env *kit.Env) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, line := range requests(t, env) {
		if line.Response.Code == http.StatusForbidden {
			counts[line.what()]++
		}
	}
	return counts
}

// useUnknown is the event on a clone whose source may be in use for all we know.
func useUnknown(source string) told {
	return told{"Normal", "CloneSourceUseUnknown", fmt.Sprintf(
		"nobody could look whether source PVC %q is in use, because the provisioner may not list pods; the clone is made all the same, and may lack what a running pod has not written yet. To have clones wait for pods, grant the provisioner list and watch on pods", source)}
}

// attachable makes the driver one whose volumes are attached to be used.
func attachable(env *kit.Env) {
	env.Faults.On("ControllerGetCapabilities").MutateReply(faults.Reply(func(reply *csi.ControllerGetCapabilitiesResponse) {
		reply.Capabilities = append(reply.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{
				Type: csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
			}},
		})
	}))
}

// clonesIn limits a fault to calls that copy a volume for a claim of the test's
// namespace; the provisioner must run with --extra-create-metadata.
func clonesIn(env *kit.Env) faults.Selector {
	return env.Faults.On("CreateVolume").When(ofClones).When(inNamespace(env.Namespace))
}

// withoutCondition starts a cluster with an audit log that does not tell on claims
// whether they are in use, as older ones do not.
func withoutCondition(t *testing.T) *kit.World {
	t.Helper()
	return kit.StartCluster(t, cluster.Options{
		AuditLog:              true,
		ControllerManagerArgs: []string{"--feature-gates=PersistentVolumeClaimUnusedSinceTime=false"},
	})
}

func TestRBAC(t *testing.T) {
	t.Parallel()
	world := withoutCondition(t)
	t.Run("the incumbent's rights are enough", func(t *testing.T) {
		t.Parallel()
		theIncumbentsRightsAreEnough(t, world)
	})
	t.Run("a missing rule is told and lived with", func(t *testing.T) {
		t.Parallel()
		aMissingRuleIsToldAndLivedWith(t, world)
	})
}

func theIncumbentsRightsAreEnough(t *testing.T, world *kit.World) {
	// An account of its own tells whose requests are in the log.
	incumbent := func(t *testing.T) *kit.Env {
		return kit.New(t, kit.On(world), kit.As(kit.IncumbentRBAC), kit.WithRules())
	}
	t.Run("one provisioner", func(t *testing.T) {
		t.Parallel()
		env := incumbent(t)
		env.AllowForbidden() // to list pods; see below
		p := env.StartProvisioner("--extra-create-metadata", longRemovalDelay)
		t.Cleanup(func() {
			checkStartLog(t, p, noPatch, noPods)
			counts := denied(t, env)
			pods := counts["list pods"]
			delete(counts, "list pods")
			// Once a minute for each namespace that has a source.
			if namespaces := len(incumbentTests()); pods == 0 || pods > 3*namespaces || len(counts) > 0 {
				t.Errorf("these requests were denied: %d times list pods for %d namespaces, and %v", pods, namespaces, counts)
			}
		})
		for name, test := range incumbentTests() {
			t.Run(name, func(t *testing.T) {
				env := env.Beside(t)
				t.Parallel()
				test(t, env)
			})
		}
	})
	t.Run("many clones at once", func(t *testing.T) {
		t.Parallel()
		incumbentClonesMany(t, incumbent(t))
	})
	t.Run("a restart during calls", func(t *testing.T) {
		t.Parallel()
		incumbentRestarts(t, incumbent(t))
	})
}

func incumbentTests() map[string]func(*testing.T, *kit.Env) {
	return map[string]func(*testing.T, *kit.Env){
		"a blank claim, a clone, and their end":     incumbentMakesAndDeletes,
		"a claim deleted while its call hangs":      incumbentCleansUp,
		"a source deleted while its clone is made":  incumbentHoldsSource,
		"somebody else who writes to all claims":    incumbentLosesNoWrites,
		"a source that the cluster knows is unused": incumbentBelievesCondition,
	}
}

func incumbentMakesAndDeletes(t *testing.T, env *kit.Env) {
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	env.WriteFile("src", "file", []byte("content of the source"))
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitBound("copy")
	sameContent(t, env, "copy", "src")
	env.Eventually("the events are these", func() error {
		return errors.Join(heard(env, "src", success(env, "src")...),
			heardInAnyOrder(env, "copy", append(success(env, "copy"), useUnknown("src"))...))
	})
	names := []string{env.PV("src").Name, env.PV("copy").Name}
	env.Eventually("the clone is off record", func() error { return unmarked(env, "copy") })
	leave(env, "src", "copy")
	for _, name := range names {
		env.WaitPVGone(name)
	}
}

// incumbentBelievesCondition: with the condition nobody needs to look at pods.
func incumbentBelievesCondition(t *testing.T, env *kit.Env) {
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	env.UpdateStatus("src", func(claim *v1.PersistentVolumeClaim) {
		claim.Status.Conditions = []v1.PersistentVolumeClaimCondition{{
			Type: v1.PersistentVolumeClaimUnused, Status: v1.ConditionTrue, LastTransitionTime: metav1.Now(),
		}}
	})
	if conditions := env.Get("src").Status.Conditions; len(conditions) != 1 {
		t.Fatalf("the conditions of the source are %v", conditions)
	}
	// It may take the provisioner a moment to see it; other claims' clones tell when.
	env.Eventually("a clone is made without a word about pods", func() error {
		name := fmt.Sprintf("copy-%d", time.Now().UnixNano())
		env.Create(env.Claim(name, kit.CloneOf("src")))
		env.WaitBound(name)
		env.Eventually("the end is told", func() error { return heardOnce(env, name, success(env, name)[1]) })
		return heard(env, name, success(env, name)...)
	})
	leave(env, "src")
}

func incumbentCleansUp(t *testing.T, env *kit.Env) {
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	gate := clonesIn(env).Next(1).HangUntilReleased()
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	await(t, gate.Entered(), "the driver is called")
	volume := "pvc-" + string(env.Get("copy").UID)
	env.Delete("copy")
	gate.Release()
	env.WaitGone("copy")
	env.Eventually("its volume is gone", func() error {
		for _, v := range env.Driver.Driver.Volumes() {
			if v.Name == volume {
				return fmt.Errorf("there is volume %q of name %q", v.ID, v.Name)
			}
		}
		return nil
	})
	leave(env, "src")
}

func incumbentHoldsSource(t *testing.T, env *kit.Env) {
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	env.WriteFile("src", "file", []byte("content of the source"))
	content := env.Checksum("src")
	gate := clonesIn(env).Next(1).HangUntilReleased()
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	await(t, gate.Entered(), "the driver is called")
	gone := when(t, env, "src", isGone)
	env.Delete("src")
	held := told{"Normal", "CloneSourceHeld", `deletion of source PVC "src" waits for clones being made of it (first: "copy"); nothing to do`}
	env.Eventually("the source tells why it stays", func() error {
		return heardInAnyOrder(env, "src", append(success(env, "src"), held)...)
	})
	if src := env.Get("src"); src.DeletionTimestamp == nil || !slices.Contains(src.Finalizers, cloningProtection) {
		t.Errorf("the source is not held: %v", src.Finalizers)
	}
	bound := when(t, env, "copy", isBound)
	gate.Release() // the call times out all the same, and the next one finds the volume
	env.WaitBound("copy")
	delay := await(t, gone, "the source is gone").Sub(await(t, bound, "the clone is bound"))
	t.Logf("the source was gone %s after its clone was bound", delay.Round(time.Millisecond))
	if got := env.Checksum("copy"); got != content {
		t.Errorf("checksum of the clone is %s, of the source it was %s", got, content)
	}
}

// otherWriter writes to claims while the provisioner does. Each write adds a label
// and an annotation, and what the API server has accepted is noted.
type otherWriter struct {
	env  *kit.Env
	stop chan struct{}
	done chan error

	mu       sync.Mutex
	accepted map[string][]string // claim -> keys
}

const otherManager = "other-writer"

// writeBeside begins to write to claims, one after the other, for as long as it is
// not stopped. Claims that do not exist are left out.
func writeBeside(env *kit.Env, claims []string) *otherWriter {
	w := &otherWriter{env: env, stop: make(chan struct{}), done: make(chan error, 1), accepted: map[string][]string{}}
	go func() { w.done <- w.write(claims) }()
	return w
}

func (w *otherWriter) write(claims []string) error {
	client := w.env.Admin.CoreV1().PersistentVolumeClaims(w.env.Namespace)
	for i := 0; ; i++ {
		for _, claim := range claims {
			select {
			case <-w.stop:
				return nil
			default:
			}
			key := fmt.Sprintf("other.example/n%d", i)
			patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:"x"},"annotations":{%q:"x"}}}`, key, key)
			_, err := client.Patch(w.env.Ctx, claim, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: otherManager})
			switch {
			case apierrors.IsNotFound(err):
			case err != nil:
				return err
			default:
				w.mu.Lock()
				w.accepted[claim] = append(w.accepted[claim], key)
				w.mu.Unlock()
			}
		}
	}
}

// end stops writing and returns what was written.
func (w *otherWriter) end(t *testing.T) map[string][]string {
	t.Helper()
	close(w.stop)
	if err := await(t, w.done, "the other writer has stopped"); err != nil {
		t.Fatalf("the other writer: %v", err)
	}
	return w.accepted
}

// owned returns the keys of labels that a manager owns by the claim's managed
// fields.
func owned(t *testing.T, claim *v1.PersistentVolumeClaim, manager string) map[string]bool {
	t.Helper()
	keys := map[string]bool{}
	for _, entry := range claim.ManagedFields {
		if entry.Manager != manager || entry.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Metadata struct {
				Labels map[string]any `json:"f:labels"`
			} `json:"f:metadata"`
		}
		if err := json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields); err != nil {
			t.Fatal(err)
		}
		for key := range fields.Metadata.Labels {
			keys[strings.TrimPrefix(key, "f:")] = true
		}
	}
	return keys
}

// incumbentLosesNoWrites: claims are updated whole, and still nobody's write is
// overwritten.
func incumbentLosesNoWrites(t *testing.T, env *kit.Env) {
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	keeper, err := env.Admin.CoreV1().ConfigMaps(env.Namespace).Create(env.Ctx, &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "keeper"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "keeper", UID: keeper.UID}
	const finalizer = "other.example/finalizer"
	env.Update("src", func(claim *v1.PersistentVolumeClaim) {
		claim.OwnerReferences = []metav1.OwnerReference{owner}
		claim.Finalizers = append(claim.Finalizers, finalizer)
	})

	var clones []string
	for i := range 5 {
		clones = append(clones, fmt.Sprintf("copy-%d", i))
	}
	// The source is protected when the first begins, and free when the last is
	// through and it is deleted: its finalizer is the other writer's.
	writer := writeBeside(env, append([]string{"src"}, clones...))
	for _, clone := range clones {
		env.Create(env.Claim(clone, kit.CloneOf("src"), kit.Finalizer(finalizer), func(claim *v1.PersistentVolumeClaim) {
			claim.OwnerReferences = []metav1.OwnerReference{owner}
		}))
	}
	env.WaitBound(clones...)
	record := env.DriverName + "/provisioning"
	for _, clone := range clones {
		env.Eventually("the clone is off record", func() error {
			claim := env.Get(clone)
			for key := range claim.Annotations {
				if strings.HasPrefix(key, env.DriverName+"/") {
					return fmt.Errorf("it has annotation %s", key)
				}
			}
			if slices.Contains(claim.Finalizers, record) {
				return fmt.Errorf("its finalizers are %v", claim.Finalizers)
			}
			return nil
		})
	}
	env.Delete("src")
	env.Eventually("the source is free", func() error {
		if finalizers := env.Get("src").Finalizers; slices.Contains(finalizers, cloningProtection) {
			return fmt.Errorf("its finalizers are %v", finalizers)
		}
		return nil
	})

	writes := writer.end(t)
	for _, name := range append([]string{"src"}, clones...) {
		claim, keys := env.Get(name), writes[name]
		t.Logf("%d writes of somebody else to claim %q", len(keys), name)
		if len(keys) == 0 {
			t.Errorf("nobody else has written to claim %q: this proves nothing", name)
		}
		mine := owned(t, claim, otherManager)
		for _, key := range keys {
			if claim.Labels[key] != "x" || claim.Annotations[key] != "x" || !mine[key] {
				t.Errorf("of claim %q label %q is %q, the annotation %q, and its owner is right: %t",
					name, key, claim.Labels[key], claim.Annotations[key], mine[key])
			}
		}
		if !slices.Contains(claim.Finalizers, finalizer) || !slices.Equal(claim.OwnerReferences, []metav1.OwnerReference{owner}) {
			t.Errorf("of claim %q the finalizers are %v and the owners %v", name, claim.Finalizers, claim.OwnerReferences)
		}
	}
	for _, name := range append([]string{"src"}, clones...) {
		env.Update(name, func(claim *v1.PersistentVolumeClaim) {
			claim.Finalizers = slices.DeleteFunc(claim.Finalizers, func(f string) bool { return f == finalizer })
		})
	}
	for _, name := range clones {
		env.Eventually("nothing but success and what nobody knows is told", func() error {
			return heardInAnyOrder(env, name, append(success(env, name), useUnknown("src"))...)
		})
	}
	env.WaitGone("src")
}

// manyForOthers is enough for writes to meet one another.
const manyForOthers = 50

func incumbentClonesMany(t *testing.T, env *kit.Env) {
	p := env.StartProvisioner("--clone-policy=compatible", longRemovalDelay)
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	env.WriteFile("src", "file", []byte("golden"))
	env.Eventually("the source is off record", func() error { return unmarked(env, "src") })
	before := len(requests(t, env))

	begun := time.Now()
	clones := createClones(t, env, manyForOthers)
	waitAllBound(env)
	t.Logf("%d clones were bound %.1f s after the first was created", manyForOthers, time.Since(begun).Seconds())
	p.WaitMetric(0, "csi_clone_provisioner_claims_recorded")
	lines := requests(t, env)[before:]
	logRequests(t, lines, manyForOthers)
	checkConflicts(t, lines)
	if counts := denied(t, env); len(counts) > 0 {
		t.Errorf("these requests were denied: %v", counts)
	}
	checkStartLog(t, p, noPatch)
	if n := strings.Count(p.Log(), "protected=true"); n != 1 {
		t.Errorf("the source was protected %d times, want once", n)
	}
	if n := len(cloneCalls(env)); n != manyForOthers {
		t.Errorf("there are %d CreateVolume calls for %d clones", n, manyForOthers)
	}
	for _, warning := range warnings(t, env) {
		t.Error(warning)
	}
	for _, name := range clones {
		if err := unmarked(env, name); err != nil {
			t.Error(err)
		}
	}
	sameContent(t, env, clones[0], "src")
	leave(env, "src")
}

func incumbentRestarts(t *testing.T, env *kit.Env) {
	p := env.StartProvisioner("--clone-policy=compatible", "--timeout=2m")
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	env.WriteFile("src", "file", []byte("content of the source"))
	gate := env.Faults.On("CreateVolume").GateReply()
	env.Create(env.Claim("copy", kit.CloneOf("src")), env.Claim("blank"), env.Claim("unwanted", kit.CloneOf("src")))
	await(t, gate.EnteredBy(3), "the driver is called for all")
	p.Kill()
	env.Delete("unwanted", "src")
	gate.Release()
	p = env.StartProvisioner("--clone-policy=compatible", "--timeout=2m")
	gone := when(t, env, "src", isGone)
	env.WaitBound("copy", "blank")
	env.WaitGone("unwanted")
	await(t, gone, "the source is gone")
	if got := string(env.ReadFile("copy", "file")); got != "content of the source" {
		t.Errorf("the clone has content %q", got)
	}
	env.Eventually("there are the volumes of the two claims that are left", func() error { return volumes(env, 2) })
	for _, name := range []string{"copy", "blank"} {
		env.Eventually("nothing is left on the claim", func() error { return unmarked(env, name) })
	}
	checkStartLog(t, p, noPatch)
	if counts := denied(t, env); len(counts) > 0 {
		t.Errorf("these requests were denied: %v", counts)
	}
	for _, warning := range warnings(t, env) {
		t.Error(warning)
	}
}

func claimRule(verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"persistentvolumeclaims"}, Verbs: verbs}
}

func aMissingRuleIsToldAndLivedWith(t *testing.T, world *kit.World) {
	cases := []struct {
		name    string
		options []kit.Option
		args    []string
		// attachable: the driver's volumes are attached to be used.
		attachable bool
		// told at start.
		told []string
		// unknown: clones tell that nobody could look.
		unknown bool
		// denied are the requests that may be denied, and how often.
		denied map[string]int
	}{
		{
			name:    "update instead of patch on claims",
			options: []kit.Option{kit.WithoutRule("persistentvolumeclaims", "patch"), kit.WithRules(claimRule("update"))},
			told:    []string{noPatch},
		},
		{
			name:    "pods",
			options: []kit.Option{kit.WithoutRule("pods")},
			told:    []string{noPods},
			unknown: true,
			denied:  map[string]int{"list pods": 2},
		},
		{
			name:       "pods, and volumes are attached",
			options:    []kit.Option{kit.WithoutRule("pods")},
			attachable: true,
			told:       []string{noPods},
			denied:     map[string]int{"list pods": 2},
		},
		{
			name:    "pods, and nobody asks",
			options: []kit.Option{kit.WithoutRule("pods")},
			args:    []string{"--clone-policy=compatible"},
		},
		{
			name:    "attachments",
			options: []kit.Option{kit.WithoutRule("volumeattachments")},
			told:    []string{noVAs},
		},
		{
			name:    "attachments, and nobody asks",
			options: []kit.Option{kit.WithoutRule("volumeattachments")},
			args:    []string{"--clone-policy=compatible"},
		},
		{
			name: "all of them",
			options: []kit.Option{
				kit.WithoutRule("persistentvolumeclaims", "patch"), kit.WithRules(claimRule("update")),
				kit.WithoutRule("pods"), kit.WithoutRule("volumeattachments"),
			},
			told:    []string{noPatch, noPods, noVAs},
			unknown: true,
			denied:  map[string]int{"list pods": 2},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			env := kit.New(t, append(c.options, kit.On(world))...)
			env.AllowForbidden() // the audit log is looked at instead
			if c.attachable {
				attachable(env)
			}
			p := env.StartProvisioner(append([]string{noBackOff, noBackOffMax}, c.args...)...)
			env.Create(env.Claim("src"))
			env.WaitBound("src")
			clones := createClones(t, env, 5)
			env.WaitBound(clones...)
			for _, clone := range clones {
				want := success(env, clone)
				if c.unknown {
					want = append(want, useUnknown("src"))
				}
				env.Eventually("the events are these", func() error { return heardInAnyOrder(env, clone, want...) })
			}
			leave(env, "src")
			checkStartLog(t, p, c.told...)
			for what, count := range denied(t, env) {
				if count > c.denied[what] {
					t.Errorf("%s was denied %d times, want at most %d", what, count, c.denied[what])
				}
			}
		})
	}
}

// grant adds a rule to the test's own account, as somebody who mends RBAC.
func grant(t *testing.T, env *kit.Env, rule rbacv1.PolicyRule) {
	t.Helper()
	roles := env.Admin.RbacV1().ClusterRoles()
	name := env.User()[strings.LastIndex(env.User(), ":")+1:]
	role, err := roles.Get(env.Ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	role.Rules = append(role.Rules, rule)
	if _, err := roles.Update(env.Ctx, role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestWithoutAnyRightToWriteClaimsNothingBegins(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.WithoutRule("persistentvolumeclaims", "patch"))
	env.AllowForbidden()
	p := env.StartProvisioner("--clone-policy=compatible")
	bindStatic(t, env, env.Class, csiVolume(env.DriverName, volumeByHand(t, env)))
	env.Create(env.Claim("blank"), env.Claim("copy", kit.CloneOf("src")))
	forbidden := func(name string) string {
		return fmt.Sprintf(`persistentvolumeclaims %q is forbidden: User %q cannot patch resource "persistentvolumeclaims" in API group "" in the namespace %q`,
			name, env.User(), env.Namespace)
	}
	events := map[string]told{
		"blank": {"Warning", "RecordNotWritten", fmt.Sprintf(
			"the work could not be put on record on this claim, so it was not started (tried again by itself): writing the record of claim %s/blank: %s",
			env.Namespace, forbidden("blank"))},
		"copy": {"Warning", "CloneSourceNotProtected", fmt.Sprintf(
			`the source could not be protected, so the clone was not started (tried again by itself): putting the cloning protection on source PVC "src": %s`,
			forbidden("src"))},
	}
	for claim, event := range events {
		env.Eventually("the claim is told", func() error { return heard(env, claim, event) })
	}
	env.Steadily("it was told once, and nothing is done", 2*time.Second, func() error {
		for claim, event := range events {
			if err := heard(env, claim, event); err != nil {
				return err
			}
			if calls := callsFor(env, claim); len(calls) > 0 {
				return fmt.Errorf("the driver was called: %v", calls[0].Request)
			}
		}
		return nil
	})
	checkStartLog(t, p, noWrites)
	grant(t, env, claimRule("patch"))
	env.WaitBound("blank", "copy")
	leave(env, "src")
}

func TestADriverThatAttachesWaitsForTheRightToSeeAttachments(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"strict", "compatible"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			env := kit.New(t, kit.WithoutRule("volumeattachments"))
			env.AllowForbidden()
			attachable(env)
			p := env.StartProvisioner("--clone-policy=" + policy)
			checkStartLog(t, p, noVAsYet)
			env.Create(env.Claim("data"))
			env.Steadily("nothing is done", 2*time.Second, func() error {
				if calls := env.Faults.Calls("CreateVolume"); len(calls) > 0 {
					return fmt.Errorf("the driver was called: %v", calls[0].Request)
				}
				return unmarked(env, "data")
			})
			grant(t, env, rbacv1.PolicyRule{APIGroups: []string{"storage.k8s.io"}, Resources: []string{"volumeattachments"}, Verbs: []string{"list", "watch"}})
			env.WaitBound("data")
			checkStartLog(t, p, noVAsYet)
		})
	}
}
