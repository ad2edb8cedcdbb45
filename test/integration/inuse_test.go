package integration

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// The tests of this file are about rule 6, a source in use. Unless they say
// otherwise their back-off is one that nobody lives to see: what starts was woken.

// mounted is the event of a clone that waits for a pod. source is shown as the
// clone's user would write it.
func mounted(env *kit.Env, source, pod, node string) told {
	return told{"Normal", "CloneSourceInUse", fmt.Sprintf(
		`clone waits until source PVC %q is not in use: pod %q on node %q mounts it; it starts by itself when no pod does any more (--clone-policy=compatible lifts this rule)`,
		source, pod, env.Namespace+"-"+node)}
}

// attached is the event of a clone that waits for an attachment of "src".
func attached(env *kit.Env, attachment, node string) told {
	return told{"Normal", "CloneSourceInUse", fmt.Sprintf(
		`clone waits until source PVC "src" is not in use: its PV %q is attached to node %q (VolumeAttachment %q); it starts by itself when it is detached (--clone-policy=compatible lifts this rule)`,
		env.PV("src").Name, env.Namespace+"-"+node, attachment)}
}

// notSeen is the event of a clone of "src" that was begun although nobody could
// look.
func notSeen() told {
	return told{"Normal", "CloneSourceUseUnknown",
		`nobody could look whether source PVC "src" is in use, because the provisioner may not list pods; the clone is made all the same, and may lack what a running pod has not written yet. To have clones wait for pods, grant the provisioner list and watch on pods`}
}

// made are the events of success.
func made(env *kit.Env, claim string) []told {
	if !strings.Contains(claim, "/") {
		claim = env.Namespace + "/" + claim
	}
	return []told{
		{"Normal", "Provisioning", fmt.Sprintf("External provisioner is provisioning volume for claim %q", claim)},
		{"Normal", "ProvisioningSucceeded", "Successfully provisioned volume pvc-" + string(env.Get(claim).UID)},
	}
}

// heardAll is heard for events whose order nobody can tell, because some of them
// were sent in the same second.
func heardAll(env *kit.Env, claim string, want ...told) error {
	order := func(a, b told) int {
		return cmp.Or(strings.Compare(a.reason, b.reason), strings.Compare(a.message, b.message))
	}
	var got []told
	for _, event := range said(env, claim) {
		if event.Count > 1 {
			return fmt.Errorf("it was told %d times: %s", event.Count, event.Message)
		}
		got = append(got, told{event.Type, event.Reason, event.Message})
	}
	slices.SortFunc(got, order)
	if want = slices.SortedFunc(slices.Values(want), order); !slices.Equal(got, want) {
		return fmt.Errorf("the events of claim %q are %v, want %v", claim, got, want)
	}
	return nil
}

// hearAll waits for that.
func hearAll(env *kit.Env, claim string, want ...told) {
	env.Eventually(fmt.Sprintf("claim %q has its events, and no others", claim), func() error { return heardAll(env, claim, want...) })
}

// freeSource starts a provisioner and makes a source that nobody uses, and of
// which nothing is on record any more.
func freeSource(t *testing.T, env *kit.Env, args ...string) *kit.Provisioner {
	t.Helper()
	p := env.StartProvisioner(append([]string{noBackOff, noBackOffMax}, args...)...)
	bindSource()(t, env)
	env.WriteFile("src", "file", []byte("content of the source"))
	env.Eventually("the source is off record", func() error { return unmarked(env, "src") })
	return p
}

// waitsFor checks that claim "copy" has heard what it waits for and nothing else,
// that it hears nothing more when it is judged again, and that nothing was done.
func waitsFor(env *kit.Env, p *kit.Provisioner, events ...told) {
	env.Eventually("the clone waits", func() error { return heardAll(env, "copy", events...) })
	before := judgements(p, env, "copy")
	touch(env, "copy")
	env.Eventually("the claim is judged again", func() error { return judged(p, env, "copy", before+1) })
	env.Steadily("it was told once, and nothing is done", 300*time.Millisecond, func() error {
		if err := heardAll(env, "copy", events...); err != nil {
			return err
		}
		return untouched(env)
	})
}

// leaveAll is leave for sources in use by pods: even one that is over keeps its
// claims until it is gone.
func leaveAll(t *testing.T, env *kit.Env, sources ...string) {
	t.Helper()
	if err := env.Admin.CoreV1().Pods(env.Namespace).DeleteCollection(env.Ctx, *metav1.NewDeleteOptions(0), metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	leave(env, sources...)
}

// startsAfter waits until clones are bound and logs how long after the moment the driver was
// first called for them. Tests make the back-off longer than that wait.
func startsAfter(t *testing.T, env *kit.Env, since time.Time, what string, clones ...string) {
	t.Helper()
	env.WaitBound(clones...)
	logDelays(t, env, since, what, clones...)
}

func TestACloneWaitsUntilNoPodUsesItsSource(t *testing.T) {
	t.Parallel()
	gone := func(env *kit.Env) { env.DeletePod("app") }
	ended := func(phase v1.PodPhase) func(*kit.Env) { return func(env *kit.Env) { env.EndPod("app", phase) } }
	for name, end := range map[string]func(*kit.Env){
		"a running pod succeeds": ended(v1.PodSucceeded),
		"a running pod fails":    ended(v1.PodFailed),
		"a running pod is gone":  gone,
		"a pending pod is gone":  gone,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := kit.New(t)
			p := freeSource(t, env)
			env.CreatePod(env.Pod("app", kit.OnNode("a"), kit.Mounts("src")))
			if strings.Contains(name, "running") {
				env.EndPod("app", v1.PodRunning)
			}
			env.Create(env.Claim("copy", kit.CloneOf("src")))
			waitsFor(env, p, mounted(env, "src", "app", "a"))
			begun := time.Now()
			end(env)
			startsAfter(t, env, begun, "the pod was ended", "copy")
			sameContent(t, env, "copy", "src")
			hearAll(env, "copy", append(made(env, "copy"), mounted(env, "src", "app", "a"))...)
			leaveAll(t, env, "src")
		})
	}
}

func TestACloneWaitsForTheLastPodOfItsSource(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	p := freeSource(t, env)
	env.CreatePod(
		env.Pod("one", kit.OnNode("a"), kit.Mounts("src")),
		env.Pod("two", kit.OnNode("b"), kit.Mounts("src")))
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	first, second, third := mounted(env, "src", "one", "a"), mounted(env, "src", "three", "b"), mounted(env, "src", "two", "b")
	waitsFor(env, p, first)
	judge := func(what string, act func(), events ...told) {
		before := judgements(p, env, "copy")
		act()
		env.Eventually(what+": the clone is judged again", func() error { return judged(p, env, "copy", before+1) })
		env.Eventually(what, func() error { return heardAll(env, "copy", events...) })
	}
	// One that is not named and ends is not worth a word.
	env.CreatePod(env.Pod("zero", kit.OnNode("a"), kit.Mounts("src")))
	judge("another pod ends", func() { env.EndPod("zero", v1.PodFailed) }, first)
	// One that came while the clone waited is waited for, too.
	env.CreatePod(env.Pod("three", kit.OnNode("b"), kit.Mounts("src")))
	judge("the named pod ends", func() { env.DeletePod("one") }, first, second)
	judge("so does the next one", func() { env.EndPod("three", v1.PodSucceeded) }, first, second, third)
	waitsFor(env, p, first, second, third)
	// One that is being deleted runs until it is gone.
	hold := func(finalizers ...string) {
		pod := podNow(t, env, env.Namespace, "two")
		pod.Finalizers = finalizers
		if _, err := env.Admin.CoreV1().Pods(env.Namespace).Update(env.Ctx, pod, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	hold("example.com/held")
	if err := env.Admin.CoreV1().Pods(env.Namespace).Delete(env.Ctx, "two", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	waitsFor(env, p, first, second, third)
	begun := time.Now()
	hold()
	startsAfter(t, env, begun, "the last of four pods was gone", "copy")
	t.Logf("%d events for a clone that waited for four pods", len(said(env, "copy"))-2)
	hearAll(env, "copy", append(made(env, "copy"), first, second, third)...)
	leaveAll(t, env, "src")
}

func TestPodsThatDoNotUseTheSourceDoNotMatter(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	freeSource(t, env)
	other := env.Namespace + "-other"
	env.AddNamespace(other)
	// This one has the name that the claim of a pod's ephemeral volume would have.
	env.Create(env.Claim("web-data"), env.Claim("free"), env.Claim("src", kit.InNamespace(other)))
	env.WaitBound("web-data", "free", other+"/src")
	env.CreatePod(
		env.Pod("nowhere", kit.Mounts("src")),
		env.Pod("elsewhere", kit.PodInNamespace(other), kit.OnNode("a"), kit.Mounts("src")),
		env.Pod("over", kit.OnNode("a"), kit.Mounts("src")),
		env.Pod("failed", kit.OnNode("b"), kit.Mounts("src")),
		env.Pod("busy", kit.OnNode("a"), kit.Mounts("free")),
		env.Pod("src", kit.OnNode("a")),
		env.Pod("web", kit.OnNode("a"), kit.MountsEphemeral("data", env.Claim("").Spec)))
	env.EndPod("over", v1.PodSucceeded)
	env.EndPod("failed", v1.PodFailed)
	env.Create(env.Claim("copy", kit.CloneOf("src")), env.Claim("copy-of-web", kit.CloneOf("web-data")))
	env.WaitBound("copy", "copy-of-web")
	for _, clone := range []string{"copy", "copy-of-web"} {
		hearAll(env, clone, made(env, clone)...)
	}
	sameContent(t, env, "copy", "src")
	leaveAll(t, env, "src", "web-data")
}

func TestTheClaimOfAnEphemeralVolumeIsInUse(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	p := freeSource(t, env)
	env.CreatePod(env.Pod("web", kit.OnNode("a"), kit.MountsEphemeral("data", env.Claim("").Spec)))
	env.WaitBound("web-data")
	env.Create(env.Claim("copy", kit.CloneOf("web-data")))
	waitsFor(env, p, mounted(env, "web-data", "web", "a"))
	begun := time.Now()
	env.EndPod("web", v1.PodSucceeded)
	startsAfter(t, env, begun, "the pod was ended", "copy")
	env.DeletePod("web")
	env.WaitGone("web-data")
}

func TestASourceInUseCanBeDeletedAndSoCanItsClone(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	p := freeSource(t, env)
	env.CreatePod(env.Pod("app", kit.OnNode("a"), kit.Mounts("src")))
	env.Create(env.Claim("copy", kit.CloneOf("src")), env.Claim("second", kit.CloneOf("src")))
	waiting := mounted(env, "src", "app", "a")
	env.Eventually("the second clone waits", func() error { return heard(env, "second", waiting) })
	waitsFor(env, p, waiting)
	env.Delete("second")
	env.WaitGone("second")
	env.Delete("src")
	refused := told{"Warning", "CloneSourceDeleting",
		`cannot clone source PVC "src": it is being deleted; create the claim again with another source`}
	env.Eventually("the clone is refused", func() error { return heardAll(env, "copy", waiting, refused) })
	// Only the cluster's own finalizer, for the pod, keeps the source.
	if err := unmarked(env, "src"); err != nil {
		t.Error(err)
	}
	env.DeletePod("app")
	begun := time.Now()
	env.WaitGone("src")
	t.Logf("the source was gone %s after its pod", time.Since(begun).Round(time.Millisecond))
	env.Eventually("the clone waits for another source", func() error { return heardAll(env, "copy", waiting, refused, waitingFor("src")) })
	if calls := cloneCalls(env); len(calls) > 0 {
		t.Errorf("the driver was called: %v", calls[0].Request)
	}
}

func TestACloneWaitsUntilItsSourceIsDetached(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	p := freeSource(t, env)
	env.Create(env.Claim("other"))
	env.WaitBound("other")
	env.Attach(env.PV("other").Name, "a") // to the end of the test: it does not matter
	attachment := env.Attach(env.PV("src").Name, "a")
	event := attached(env, attachment, "a")
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	waitsFor(env, p, event)
	begun := time.Now()
	env.Detach(attachment)
	startsAfter(t, env, begun, "the source was detached", "copy")
	hearAll(env, "copy", append(made(env, "copy"), event)...)
	leaveAll(t, env, "src")
}

func TestPodAndAttachmentMustBothGo(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	p := freeSource(t, env)
	env.CreatePod(env.Pod("app", kit.OnNode("a"), kit.Mounts("src")))
	attachment := env.Attach(env.PV("src").Name, "a")
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	pod, volume := mounted(env, "src", "app", "a"), attached(env, attachment, "a")
	waitsFor(env, p, pod)
	env.EndPod("app", v1.PodSucceeded)
	waitsFor(env, p, pod, volume)
	// And the other way round.
	env.CreatePod(env.Pod("later", kit.OnNode("b"), kit.Mounts("src")))
	env.Detach(attachment)
	later := mounted(env, "src", "later", "b")
	waitsFor(env, p, pod, volume, later)
	begun := time.Now()
	env.DeletePod("later")
	startsAfter(t, env, begun, "the second pod was deleted", "copy")
	hearAll(env, "copy", append(made(env, "copy"), pod, volume, later)...)
	leaveAll(t, env, "src")
}

// publishes makes the driver one whose volumes are attached by whoever uses them.
func publishes(env *kit.Env) {
	env.Faults.On("ControllerGetCapabilities").MutateReply(faults.Reply(func(reply *csi.ControllerGetCapabilitiesResponse) {
		reply.Capabilities = append(reply.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{
				Type: csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
			}},
		})
	}))
}

// missingRule is how the log says that a rule about pods is missing.
const missingRule = `"A rule of RBAC is missing" rule="apiGroups: [\"\"], resources: [pods], verbs: [list, watch]"`

func TestWithTheIncumbentsRightsPodsAreNotSeen(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.As(kit.IncumbentRBAC))
	p := freeSource(t, env)
	env.CreatePod(env.Pod("app", kit.OnNode("a"), kit.Mounts("src")))
	// The cluster notes on the source whether a pod names it, a little later.
	noted := func(want v1.ConditionStatus) {
		env.Eventually("the cluster notes whether the source is used", func() error {
			for _, c := range env.Get("src").Status.Conditions {
				if c.Type == v1.PersistentVolumeClaimUnused && c.Status == want {
					return nil
				}
			}
			return fmt.Errorf("Unused is not %s: %v", want, env.Get("src").Status.Conditions)
		})
	}
	noted(v1.ConditionFalse)
	env.Create(env.Claim("unseen", kit.CloneOf("src")))
	env.WaitBound("unseen")
	hearAll(env, "unseen", append(made(env, "unseen"), notSeen())...)

	// What is there to be seen is heeded.
	attachment := env.Attach(env.PV("src").Name, "a")
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	event := attached(env, attachment, "a")
	env.Eventually("the clone waits", func() error { return heard(env, "copy", event) })
	begun := time.Now()
	env.Detach(attachment)
	startsAfter(t, env, begun, "the source was detached", "copy")
	hearAll(env, "copy", append(made(env, "copy"), event, notSeen())...)

	// And so is what the cluster notes on the claim.
	env.EndPod("app", v1.PodSucceeded)
	noted(v1.ConditionTrue)
	env.Create(env.Claim("unused", kit.CloneOf("src")))
	env.WaitBound("unused")
	hearAll(env, "unused", made(env, "unused")...)
	if n := strings.Count(p.Log(), missingRule); n != 1 {
		t.Errorf("the log says %d times that the rule is missing, want once", n)
	}
	leaveAll(t, env, "src")
}

func TestTheAttachmentsOfADriverThatPublishesTellWhoUsesASource(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.As(kit.IncumbentRBAC))
	publishes(env)
	freeSource(t, env)
	env.CreatePod(env.Pod("app", kit.OnNode("a"), kit.Mounts("src")))
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitBound("copy")
	hearAll(env, "copy", made(env, "copy")...)
	leaveAll(t, env, "src")
}

// mayAlso changes the first rules of the ClusterRole of the test's own account.
func mayAlso(t *testing.T, env *kit.Env, rule rbacv1.PolicyRule) {
	t.Helper()
	roles := env.Admin.RbacV1().ClusterRoles()
	role, err := roles.Get(env.Ctx, env.User()[strings.LastIndex(env.User(), ":")+1:], metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	role.Rules = append(role.Rules, rule)
	if _, err := roles.Update(env.Ctx, role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestARuleThatIsGrantedLaterIsUsedWithoutARestart(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.As(kit.IncumbentRBAC), kit.WithRules())
	freeSource(t, env)
	env.CreatePod(env.Pod("app", kit.OnNode("a"), kit.Mounts("src")))
	attachment := env.Attach(env.PV("src").Name, "b")
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	volume, pod := attached(env, attachment, "b"), mounted(env, "src", "app", "a")
	env.Eventually("the clone waits for the attachment", func() error { return heard(env, "copy", volume) })
	mayAlso(t, env, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list", "watch"}})
	granted := time.Now()
	env.Eventually("the pod is seen", func() error {
		touch(env, "copy")
		return heardAll(env, "copy", volume, pod)
	})
	t.Logf("the pod was seen %s after the rule was granted", time.Since(granted).Round(time.Millisecond))
	env.Detach(attachment)
	begun := time.Now()
	env.EndPod("app", v1.PodSucceeded)
	startsAfter(t, env, begun, "the pod was ended", "copy")
	hearAll(env, "copy", append(made(env, "copy"), volume, pod)...)
	leaveAll(t, env, "src")
}

func TestWherePodsMayBeListedButNotWatchedAClonesStartIsTimed(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.WithoutRule("pods", "watch"))
	env.AllowForbidden()
	p := freeSource(t, env)
	env.CreatePod(env.Pod("app", kit.OnNode("a"), kit.Mounts("src")))
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	waitsFor(env, p, mounted(env, "src", "app", "a"))
	begun := time.Now()
	env.EndPod("app", v1.PodSucceeded)
	env.WaitBound("copy")
	logDelays(t, env, begun, "the pod was ended", "copy")
	if n := strings.Count(p.Log(), missingRule+` missing="watch"`); n != 1 {
		t.Errorf("the log says %d times that the rule is missing, want once", n)
	}
	leaveAll(t, env, "src")
}

func TestAPodThatEndsWhileNobodyRunsIsNoticed(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*kit.Provisioner){
		"killed":  (*kit.Provisioner).Kill,
		"stopped": func(p *kit.Provisioner) { p.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := kit.New(t)
			p := freeSource(t, env)
			env.CreatePod(env.Pod("one", kit.OnNode("a"), kit.Mounts("src")), env.Pod("two", kit.OnNode("a"), kit.Mounts("src")))
			env.Create(env.Claim("copy", kit.CloneOf("src")))
			first, second := mounted(env, "src", "one", "a"), mounted(env, "src", "two", "a")
			waitsFor(env, p, first)
			end(p)
			env.EndPod("one", v1.PodSucceeded)
			p = env.StartProvisioner(noBackOff, noBackOffMax)
			env.Eventually("the clone waits for the other pod", func() error { return heardAll(env, "copy", first, second) })
			if err := untouched(env); err != nil {
				t.Error(err)
			}
			end(p)
			env.DeletePod("two")
			begun := time.Now()
			env.StartProvisioner(noBackOff, noBackOffMax)
			startsAfter(t, env, begun, "the provisioner was started", "copy")
			hearAll(env, "copy", append(made(env, "copy"), first, second)...)
			leaveAll(t, env, "src")
		})
	}
}

func TestAPodThatStartsLaterDoesNotStopAClone(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	p := env.StartProvisioner("--timeout=2m", alone)
	bindSource()(t, env)
	env.WriteFile("src", "file", []byte("content of the source"))
	// After a final error nothing exists, and yet the work goes on.
	clones := env.Faults.On("CreateVolume").When(ofClones)
	gate := clones.Nth(3).Gate()
	clones.Next(2).Fail(codes.ResourceExhausted, "no room")
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitEvent("copy", "ProvisioningFailed")
	env.CreatePod(env.Pod("app", kit.OnNode("a"), kit.Mounts("src")))
	env.EndPod("app", v1.PodRunning)
	await(t, gate.Entered(), "the driver is called for the third time")
	// Neither does one stop the clone when another process goes on with it.
	p.Kill()
	gate.Release()
	env.StartProvisioner(alone)
	env.WaitBound("copy")
	sameContent(t, env, "copy", "src")
	if n := env.CountEvents("copy", "CloneSourceInUse"); n != 0 {
		t.Errorf("%d events say that the clone waits", n)
	}
	leaveAll(t, env, "src")
}

// podsThatMount is how many sources TestAPodThatWasThereBeforeIsAlwaysSeen has.
const podsThatMount = 50

// TestAPodThatWasThereBeforeIsAlwaysSeen is the guarantee of --clone-policy=strict.
// The looks at the pods of the namespace are shared, and here they overlap with
// what they must not miss.
func TestAPodThatWasThereBeforeIsAlwaysSeen(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner(noBackOff, noBackOffMax)
	var sources, clones []string
	for i := range podsThatMount {
		sources, clones = append(sources, fmt.Sprintf("src-%d", i)), append(clones, fmt.Sprintf("copy-%d", i))
		env.Create(env.Claim(sources[i]))
	}
	env.CreatePod(env.Pod("none", kit.OnNode("a"))) // makes the node, and waits until pods can be made
	waitAllBound(env)
	done := make(chan error, podsThatMount)
	for i := range podsThatMount {
		pod := env.Pod("app-"+sources[i], kit.OnNode("a"), kit.Mounts(sources[i]))
		clone := env.Claim(clones[i], kit.CloneOf(sources[i]))
		go func() { done <- podThenClone(env, pod, clone) }()
	}
	for range podsThatMount {
		if err := await(t, done, "pods and clones are made"); err != nil {
			t.Fatal(err)
		}
	}
	for i, clone := range clones {
		env.Eventually("the clone waits", func() error {
			return heard(env, clone, mounted(env, sources[i], "app-"+sources[i], "a"))
		})
	}
	if calls := cloneCalls(env); len(calls) > 0 {
		t.Errorf("%d clones of sources in use were begun: %v", len(calls), calls[0].Request)
	}
	begun := time.Now()
	if err := env.Admin.CoreV1().Pods(env.Namespace).DeleteCollection(env.Ctx, *metav1.NewDeleteOptions(0), metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	startsAfter(t, env, begun, "all pods were deleted", clones...)
	leaveAll(t, env, sources...)
}

// podThenClone may be called from any goroutine.
func podThenClone(env *kit.Env, pod *v1.Pod, clone *v1.PersistentVolumeClaim) error {
	ctx, cancel := context.WithTimeout(env.Ctx, longest)
	defer cancel()
	if _, err := env.Admin.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err := env.Admin.CoreV1().PersistentVolumeClaims(clone.Namespace).Create(ctx, clone, metav1.CreateOptions{})
	return err
}
