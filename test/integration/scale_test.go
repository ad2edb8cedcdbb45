package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
)

// auditLine is what the API server notes about one request.
type auditLine struct {
	Stage string `json:"stage"`
	Verb  string `json:"verb"`
	User  struct {
		Username string `json:"username"`
	} `json:"user"`
	Object struct {
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	Response struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// isWatch: one that is going on, not a change of anything.
func (l auditLine) isWatch() bool { return l.Verb == "watch" || l.Verb == "list" }

func (l auditLine) what() string {
	what := l.Verb + " " + l.Object.Resource
	if l.Object.Subresource != "" {
		what += "/" + l.Object.Subresource
	}
	return what
}

// requests returns the provisioner's finished requests so far, without those for
// its lease.
func requests(t *testing.T, env *kit.Env) []auditLine {
	t.Helper()
	file, err := os.Open(env.Cluster.AuditLogPath())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var lines []auditLine
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var line auditLine
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			continue // the last line may be in the writing
		}
		if line.Stage == "ResponseComplete" && line.User.Username == env.User() && line.Object.Resource != "leases" {
			lines = append(lines, line)
		}
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// logRequests logs how many requests of which kind there were for each claim.
func logRequests(t *testing.T, lines []auditLine, claims int) {
	t.Helper()
	counts := map[string]int{}
	for _, line := range lines {
		counts[fmt.Sprintf("%s -> %d", line.what(), line.Response.Code)]++
	}
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%5d requests, %5.2f for each claim: %s", counts[what], float64(counts[what])/float64(claims), what)
	}
}

// checkConflicts fails the test for a write to the source that met another write.
// On a clone that may happen: the PV controller writes to it, too.
func checkConflicts(t *testing.T, lines []auditLine) {
	t.Helper()
	clones := 0
	for _, line := range lines {
		switch {
		case line.Response.Code != http.StatusConflict:
		case line.Object.Name == "src":
			t.Errorf("write conflict on the source: %s", line.what())
		default:
			clones++
		}
	}
	t.Logf("%d write conflicts on clones", clones)
}

// audited starts a cluster of the test's own that notes every request.
func audited(t *testing.T) *kit.Env {
	t.Helper()
	return kit.New(t, kit.On(kit.StartCluster(t, cluster.Options{AuditLog: true})))
}

// createClones creates so many clones of "src" side by side.
func createClones(t *testing.T, env *kit.Env, count int) []string {
	t.Helper()
	var names []string
	done := make(chan error, count)
	for i := range count {
		name := fmt.Sprintf("copy-%03d", i)
		names = append(names, name)
		claim := env.Claim(name, kit.CloneOf("src"))
		go func() {
			_, err := env.Admin.CoreV1().PersistentVolumeClaims(env.Namespace).Create(env.Ctx, claim, metav1.CreateOptions{})
			done <- err
		}()
	}
	for range count {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// waitAllBound waits until no claim is unbound, with one request for each look.
func waitAllBound(env *kit.Env) {
	env.Eventually("all claims are bound", func() error {
		list, err := env.Admin.CoreV1().PersistentVolumeClaims(env.Namespace).List(env.Ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		unbound := slices.DeleteFunc(list.Items, func(claim v1.PersistentVolumeClaim) bool { return claim.Status.Phase == v1.ClaimBound })
		if len(unbound) > 0 {
			return fmt.Errorf("%d of %d are not, %q for one", len(unbound), len(list.Items), unbound[0].Name)
		}
		return nil
	})
}

// warnings returns the Warning events of the test's namespace, whoever sent them.
func warnings(t *testing.T, env *kit.Env) []string {
	t.Helper()
	list, err := env.Admin.CoreV1().Events(env.Namespace).List(env.Ctx, metav1.ListOptions{FieldSelector: "type=Warning"})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, event := range list.Items {
		found = append(found, fmt.Sprintf("%s %s: %d x %s: %s", event.InvolvedObject.Kind, event.InvolvedObject.Name, event.Count, event.Reason, event.Message))
	}
	return found
}

const manyClones = 100

func TestManyClonesOfOneSourceAtOnce(t *testing.T) {
	t.Parallel()
	env := audited(t)
	p := env.StartProvisioner("--source-protection-removal-delay=30s") // so that it is taken off once
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	env.WriteFile("src", "file", []byte("golden"))
	env.Eventually("the source is off record", func() error { return unmarked(env, "src") })
	before := len(requests(t, env))

	begun := time.Now()
	createClones(t, env, manyClones)
	created := time.Since(begun)
	waitAllBound(env)
	t.Logf("%d clones were created in %.1f s and bound %.1f s after the first", manyClones, created.Seconds(), time.Since(begun).Seconds())
	p.WaitMetric(0, "csi_clone_provisioner_claims_recorded")
	env.Eventually("the source is swept", func() error { return unmarked(env, "src") })

	lines := requests(t, env)[before:]
	logRequests(t, lines, manyClones)
	checkConflicts(t, lines)
	source, repeats := map[string]int{}, 0
	for _, line := range lines {
		if line.what() == "patch events" {
			repeats++
		}
		if line.Object.Resource == "persistentvolumeclaims" && line.Object.Name == "src" {
			source[line.Verb]++
		}
	}
	if repeats > 0 {
		t.Errorf("%d events were sent again; each thing is said once", repeats)
	}
	// One that protects it, one that sweeps the protection off.
	if !maps.Equal(source, map[string]int{"patch": 2}) {
		t.Errorf("requests for the source are %v, want 2 patches", source)
	}
	if n := strings.Count(p.Log(), "protected=true"); n != 1 {
		t.Errorf("the source was protected %d times, want once", n)
	}
	if n := len(cloneCalls(env)); n != manyClones {
		t.Errorf("there are %d CreateVolume calls for %d clones", n, manyClones)
	}
	for _, warning := range warnings(t, env) {
		t.Error(warning)
	}
	sum := env.Checksum("src")
	for _, name := range []string{"copy-000", "copy-050", "copy-099"} {
		if got := env.Checksum(name); got != sum {
			t.Errorf("checksum of %s is %s, of the source %s", name, got, sum)
		}
	}
}

func TestWaitingClonesCostNothingAndStartTogether(t *testing.T) {
	t.Parallel()
	env := audited(t)
	env.StartProvisioner(noBackOff, noBackOffMax)
	clones := createClones(t, env, manyClones)
	events := func() int {
		n := 0
		for _, line := range requests(t, env) {
			if line.what() == "create events" {
				n++
			}
		}
		return n
	}
	env.Eventually("each clone was told that it waits", func() error {
		if n := events(); n < manyClones {
			return fmt.Errorf("%d events were sent", n)
		}
		return nil
	})
	before := requests(t, env)
	env.Steadily("nobody asks the API server for anything", 5*time.Second, func() error {
		for _, line := range requests(t, env)[len(before):] {
			if !line.isWatch() {
				return fmt.Errorf("%s %s", line.what(), line.Object.Name)
			}
		}
		return nil
	})
	t.Log("requests for clones that wait:")
	logRequests(t, before, manyClones)

	bound := when(t, env, "src", isBound)
	env.Create(env.Claim("src"))
	waitAllBound(env)
	since := await(t, bound, "the source is bound")
	t.Logf("%d clones that waited were bound %.1f s after their source", manyClones, time.Since(since).Seconds())
	logDelays(t, env, since, "the source was bound", clones...)
	checkConflicts(t, requests(t, env))
	for _, warning := range warnings(t, env) {
		t.Error(warning)
	}
	leave(env, "src")
}
