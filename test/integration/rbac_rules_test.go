package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
)

// shownElsewhere has the rights of rbac.yaml that the provisioner can do without in some
// way, or needs in rare moments only, with the test that shows what they are for.
func shownElsewhere() map[string]string {
	return map[string]string{
		"get persistentvolumes":         "TestAPVWhoseCreationWasNotAnsweredIsSavedOnce",
		"list volumeattributesclasses":  "TestVolumeAttributesClassesWithLessRights",
		"watch volumeattributesclasses": "TestVolumeAttributesClassesWithLessRights",
		"get volumesnapshots":           "TestSnapshots",
		"list volumesnapshots":          "TestSnapshots",
		"watch volumesnapshots":         "TestSnapshots",
		"update volumesnapshots":        "TestSnapshots",
		"get volumesnapshotcontents":    "TestSnapshots",
		"list volumeattachments":        "TestADriverThatAttachesWaitsForTheRightToSeeAttachments",
		"watch volumeattachments":       "TestADriverThatAttachesWaitsForTheRightToSeeAttachments",
		"list pods":                     "TestRBAC",
		"watch pods":                    "TestWithoutTheRightToWatchATimerWakes",
	}
}

// need is a right without which something cannot be done, and what that is.
type need struct {
	verb, resource string
	// work makes the provisioner try.
	work func(t *testing.T, env *kit.Env, p *kit.Provisioner)
}

func (n need) String() string { return n.verb + " " + n.resource }

func needs() []need {
	nothing := func(*testing.T, *kit.Env, *kit.Provisioner) {}
	claim := func(_ *testing.T, env *kit.Env, _ *kit.Provisioner) { env.Create(env.Claim("data")) }
	deletion := func(_ *testing.T, env *kit.Env, _ *kit.Provisioner) {
		env.Create(env.Claim("data"))
		env.WaitBound("data")
		env.Delete("data")
	}
	// The next process tells what an earlier one has told.
	again := func(_ *testing.T, env *kit.Env, p *kit.Provisioner) {
		env.Create(env.Claim("copy", kit.CloneOf("nothing")))
		env.WaitEvent("copy", "CloneSourceNotFound")
		p.Kill()
		env.LaunchProvisioner()
	}
	// The next process finds the record of another one.
	takeover := func(t *testing.T, env *kit.Env, p *kit.Provisioner) {
		gate := env.Faults.On("CreateVolume").Next(1).HangUntilReleased()
		env.Create(env.Claim("data"))
		await(t, gate.Entered(), "the driver is called")
		p.Kill()
		gate.Release()
		env.LaunchProvisioner()
	}
	return []need{
		{verb: "list", resource: "persistentvolumes", work: nothing},
		{verb: "watch", resource: "persistentvolumes", work: nothing},
		{verb: "create", resource: "persistentvolumes", work: claim},
		{verb: "patch", resource: "persistentvolumes", work: deletion},
		{verb: "delete", resource: "persistentvolumes", work: deletion},
		{verb: "get", resource: "persistentvolumeclaims", work: takeover},
		{verb: "list", resource: "persistentvolumeclaims", work: nothing},
		{verb: "watch", resource: "persistentvolumeclaims", work: nothing},
		{verb: "patch", resource: "persistentvolumeclaims", work: claim},
		{verb: "create", resource: "events", work: claim},
		{verb: "patch", resource: "events", work: again},
		{verb: "list", resource: "storageclasses", work: nothing},
		{verb: "watch", resource: "storageclasses", work: nothing},
		{verb: "get", resource: "leases", work: nothing},
		{verb: "create", resource: "leases", work: nothing},
		{verb: "update", resource: "leases", work: nothing},
	}
}

// TestEveryRuleIsNeeded takes each right of rbac.yaml away, and sees the API server
// refuse what it was for. That nothing is granted beyond what is used is looked at when
// all tests have run (TestMain).
func TestEveryRuleIsNeeded(t *testing.T) {
	t.Parallel()
	checkAllAreShown(t)
	// An API server that streams lists needs no right to list for that; older ones do.
	world := kit.StartCluster(t, cluster.Options{AuditAccounts: true, APIServerArgs: []string{"--feature-gates=WatchList=false"}})
	world.InstallSnapshotCRDs(t)
	t.Run("nothing is lacking", func(t *testing.T) {
		t.Parallel()
		listsAreUsed(t, world)
	})
	for _, n := range needs() {
		t.Run(n.String(), func(t *testing.T) {
			t.Parallel()
			env := kit.New(t, kit.On(world), kit.WithoutRule(n.resource, n.verb))
			env.AllowForbidden()
			env.SkipBooks("the provisioner may not do its work")
			p := env.LaunchProvisioner()
			n.work(t, env, p)
			env.Eventually("the API server refuses it", func() error { return answered(env, n, http.StatusForbidden) })
			if p.Running() {
				p.Stop()
			}
		})
	}
}

// listsAreUsed: without streams all that is watched is listed first.
func listsAreUsed(t *testing.T, world *kit.World) {
	env := kit.New(t, kit.On(world), kit.WithPlaces(zone("a")), kit.DriverConfig(modifies), kit.WithManifest("rbac-capacity.yaml"))
	env.PutNode("a", zone("a"))
	env.Setenv("NAMESPACE", "default")
	env.StartProvisioner("--enable-capacity", "--capacity-ownerref-level=-1")
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitBound("copy")
	for _, resource := range []string{
		"persistentvolumes", "persistentvolumeclaims", "storageclasses", "volumeattributesclasses",
		"volumesnapshots", "volumeattachments", "nodes", "csinodes", "csistoragecapacities",
	} {
		n := need{verb: "list", resource: resource}
		env.Eventually(resource+" are listed", func() error { return answered(env, n, http.StatusOK) })
	}
	leave(env, "src", "copy")
}

// checkAllAreShown fails the test unless every right of rbac.yaml is shown to be needed,
// and none that is not in there.
func checkAllAreShown(t *testing.T) {
	t.Helper()
	manifests, err := os.ReadFile(filepath.Join("..", "..", "deploy", "kubernetes", "rbac.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var granted, shown []string
	for _, kind := range []string{"ClusterRole", "Role"} {
		for _, role := range objectsOf[rbacv1.ClusterRole](t, manifests, kind) {
			for _, rule := range role.Rules {
				for _, verb := range rule.Verbs {
					granted = append(granted, verb+" "+rule.Resources[0])
				}
				compare(t, []field{{"number of resources of a rule", len(rule.Resources), 1}})
			}
		}
	}
	for _, n := range needs() {
		shown = append(shown, n.String())
	}
	for right := range shownElsewhere() {
		shown = append(shown, right)
	}
	slices.Sort(granted)
	slices.Sort(shown)
	if !slices.Equal(granted, shown) {
		t.Errorf("granted is %v, shown to be needed is %v", granted, shown)
	}
}

// answered returns nil if the API server has given the provisioner this answer to just
// that request.
func answered(env *kit.Env, n need, code int) error {
	file, err := os.Open(env.Cluster.AuditLogPath())
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s of %s was never answered with %d", n, env.User(), code)
		}
		if err != nil {
			return err
		}
		if !bytes.Contains(line, []byte(env.User())) {
			continue
		}
		var entry auditLine
		if err := json.Unmarshal(line, &entry); err != nil {
			return err
		}
		if entry.Verb == n.verb && entry.Object.Resource == n.resource && entry.Response.Code == code {
			return nil
		}
	}
}
