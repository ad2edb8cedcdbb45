package integration

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
)

func TestLooksAtPodsAreShared(t *testing.T) {
	t.Parallel()
	world := kit.StartCluster(t, cluster.Options{AuditLog: true})
	for name, try := range map[string]func(*testing.T, *kit.Env){
		"many clones of a free source":     cloneFreeSource,
		"many clones of a source in use":   cloneBusySource,
		"a provisioner that does not look": cloneWithoutALook,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// With an account of its own a test's requests are told from another's.
			try(t, kit.New(t, kit.On(world), kit.WithRules()))
		})
	}
}

// looks returns how often the provisioner has listed pods, and how many watches of
// pods have ended. One that is not for the pods of a namespace fails the test.
func looks(t *testing.T, env *kit.Env) (lists, watches int) {
	t.Helper()
	for _, line := range requests(t, env) {
		if line.Object.Resource != "pods" {
			continue
		}
		if line.Object.Namespace == "" {
			t.Errorf("%s of all namespaces", line.what())
		}
		switch line.Verb {
		case "list":
			lists++
		case "watch":
			watches++
		default:
			t.Errorf("%s %s", line.what(), line.Object.Name)
		}
	}
	return lists, watches
}

func cloneFreeSource(t *testing.T, env *kit.Env) {
	p := freeSource(t, env)
	begun := time.Now()
	createClones(t, env, manyClones)
	waitAllBound(env)
	lists, watches := looks(t, env)
	t.Logf("%d requests to list pods for %d clones, which were bound %.1f s after the first was created", lists, manyClones, time.Since(begun).Seconds())
	if lists == 0 || lists > manyClones/3 {
		t.Errorf("pods were listed %d times for %d clones at once, want few", lists, manyClones)
	}
	if began := strings.Count(p.Log(), "Watching the pods of a namespace"); watches+began > 0 {
		t.Errorf("pods were watched %d times, although no clone waited", max(watches, began))
	}
	leaveAll(t, env, "src")
}

func cloneBusySource(t *testing.T, env *kit.Env) {
	p := freeSource(t, env)
	env.CreatePod(env.Pod("app", kit.OnNode("a"), kit.Mounts("src")))
	clones := createClones(t, env, manyClones)
	env.Eventually("each clone was told that it waits", func() error {
		list, err := env.Admin.CoreV1().Events(env.Namespace).List(env.Ctx, metav1.ListOptions{FieldSelector: "reason=CloneSourceInUse"})
		if err == nil && len(list.Items) != manyClones {
			err = fmt.Errorf("%d were", len(list.Items))
		}
		return err
	})
	before := requests(t, env)
	env.Steadily("nobody asks the API server for anything", 3*time.Second, func() error {
		for _, line := range requests(t, env)[len(before):] {
			// An API server that is busy closes watches, which are then opened again.
			if line.Verb != "watch" || line.Object.Resource == "pods" {
				return fmt.Errorf("%s %s", line.what(), line.Object.Name)
			}
		}
		return nil
	})
	waited, _ := looks(t, env)
	begun := time.Now()
	env.EndPod("app", v1.PodSucceeded)
	startsAfter(t, env, begun, "the pod was ended", clones...)
	lists, _ := looks(t, env)
	t.Logf("%d requests to list pods when %d clones began to wait, %d when they were woken", waited, manyClones, lists-waited)
	if lists > manyClones/3 {
		t.Errorf("pods were listed %d times, want few", lists)
	}
	for _, warning := range warnings(t, env) {
		t.Error(warning)
	}
	// The watch looks once a minute whether anybody waits.
	env.Eventually("the watch has ended", func() error {
		if !strings.Contains(p.Log(), "Nobody waits for pods of a namespace any more") {
			return fmt.Errorf("the log does not say so")
		}
		if _, watches := looks(t, env); watches == 0 {
			return fmt.Errorf("it goes on")
		}
		return nil
	})
	t.Logf("the watch ended %.0f s after the pod", time.Since(begun).Seconds())
	if _, watches := looks(t, env); watches != 1 {
		t.Errorf("there were %d watches of pods, want one", watches)
	}
	leaveAll(t, env, "src")
}

// cloneWithoutALook: with --clone-policy=compatible nothing is asked.
func cloneWithoutALook(t *testing.T, env *kit.Env) {
	p := freeSource(t, env, "--clone-policy=compatible")
	env.CreatePod(env.Pod("app", kit.OnNode("a"), kit.Mounts("src")))
	attachment := env.Attach(env.PV("src").Name, "a")
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitBound("copy")
	sameContent(t, env, "copy", "src")
	hearAll(env, "copy", made(env, "copy")...)
	env.Detach(attachment)
	leaveAll(t, env, "src")
	if code := p.Stop(); code != 0 { // its watches are in the audit log now
		t.Errorf("exit code is %d, want 0", code)
	}
	watched := 0
	for _, line := range requests(t, env) {
		if line.Verb == "watch" && line.Object.Resource == "persistentvolumeclaims" {
			watched++
		}
		if resource := line.Object.Resource; resource == "pods" || resource == "volumeattachments" {
			t.Errorf("%s, which this policy has no use for", line.what())
		}
	}
	if watched == 0 {
		t.Error("the audit log has no watch at all")
	}
	if strings.Contains(p.Log(), "A rule of RBAC is missing") {
		t.Error("the log says that a rule is missing")
	}
}

// admitted reports the moment at which a claim of the test's namespace is first
// seen on record, by a watch that begins now.
func admitted(t *testing.T, env *kit.Env, name string) <-chan time.Time {
	t.Helper()
	return when(t, env, name, func(claim *v1.PersistentVolumeClaim) bool {
		return claim != nil && (slices.Contains(claim.Finalizers, env.DriverName+"/provisioning") || isBound(claim))
	})
}

func TestAPodIsWaitedForWhateverBecomesOfTheAPIServer(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.On(kit.StartCluster(t, cluster.Options{})))
	env.AllowForbidden() // by an API server that has not read its roles yet
	const soon = "--retry-interval-start=50ms"
	p := freeSource(t, env, alone, soon, "--retry-interval-max=50ms")
	env.CreatePod(env.Pod("app", kit.OnNode("a"), kit.Mounts("src")))
	clones := []string{"copy", "copy-1", "copy-2", "copy-3", "copy-4", "copy-5"}
	for _, clone := range clones {
		env.Create(env.Claim(clone, kit.CloneOf("src")))
	}
	waitsFor(env, p, mounted(env, "src", "app", "a"))
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		for _, clone := range clones {
			touch(env, clone) // is looked at, in vain, until the API server is back
		}
		if err := env.Cluster.RestartAPIServer(env.Ctx, sig); err != nil {
			t.Fatal(err)
		}
		before := judgements(p, env, "copy")
		env.Eventually("the claim is judged again", func() error {
			if err := untouched(env); err != nil {
				t.Fatalf("a clone of a source in use was begun: %v; the events are %v", err, said(env, "copy"))
			}
			touch(env, "copy")
			return judged(p, env, "copy", before+1)
		})
	}
	if code := p.Stop(); code != 0 {
		t.Errorf("exit code is %d, want 0", code)
	}
	env.Delete(clones[1:]...)
	env.WaitGone(clones[1:]...)

	// The pod ends as soon as anybody can say so. What then takes its time are the
	// other watches, of claims for one: the library pauses longer and longer.
	p = env.StartProvisioner(noBackOff, noBackOffMax, alone)
	env.Eventually("the clone is judged", func() error { return judged(p, env, "copy", 1) })
	if err := untouched(env); err != nil {
		t.Fatal(err)
	}
	if err := env.Cluster.StopAPIServer(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended := make(chan time.Time, 1)
	go func() {
		for env.Ctx.Err() == nil {
			err := env.Admin.CoreV1().Pods(env.Namespace).Delete(env.Ctx, "app", metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)})
			if err == nil {
				ended <- time.Now()
				return
			}
		}
	}()
	if err := env.Cluster.StartAPIServer(env.Ctx); err != nil {
		t.Fatal(err)
	}
	seen := admitted(t, env, "copy")
	noticed(t, "the pod was deleted, as soon as the API server was up", await(t, ended, "the pod is deleted"), seen)
	env.WaitBound("copy")
	leaveAll(t, env, "src")
}

// noticed waits until a clone is on record, and logs how long that took.
func noticed(t *testing.T, what string, since time.Time, seen <-chan time.Time) {
	t.Helper()
	delay := await(t, seen, "the clone is on record").Sub(since)
	t.Logf("the clone was on record %s after %s", delay.Round(time.Millisecond), what)
}
