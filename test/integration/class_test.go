package integration

import (
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
)

// Rule 5 where it is kept; where it is broken it is in rules_test.go.

func TestClonesInTheClassOfTheirSourceHoweverItIsNamed(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner()
	names := map[string]kit.ClaimOption{
		"field":      kit.Class(env.Class),
		"annotation": kit.BetaClass(env.Class),
		"both":       kit.Annotation(v1.BetaStorageClassAnnotation, env.Class),
		"annotation-before-field": func(claim *v1.PersistentVolumeClaim) {
			kit.Class(env.Class + "-none")(claim)
			kit.Annotation(v1.BetaStorageClassAnnotation, env.Class)(claim)
		},
	}
	for source, option := range names {
		env.Create(env.Claim(source, option))
	}
	for source := range names {
		env.WaitBound(source)
		for clone, option := range names {
			env.Create(env.Claim(clone+"-of-"+source, option, kit.CloneOf(source)))
		}
	}
	for source := range names {
		for clone := range names {
			name := clone + "-of-" + source
			env.WaitBound(name)
			env.Eventually("nothing but success is told", func() error { return heard(env, name, success(env, name)...) })
		}
	}
	leave(env, "field", "annotation", "both", "annotation-before-field")
}

// setDefault makes a class the default, or takes that away.
func setDefault(t *testing.T, env *kit.Env, class string, on bool) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"storageclass.kubernetes.io/is-default-class":"%t"}}}`, on)
	if _, err := env.Admin.StorageV1().StorageClasses().Patch(env.Ctx, class, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// waitDefault waits until claims without a class get this one.
func waitDefault(env *kit.Env, class string) {
	env.Eventually("the class is the default", func() error {
		claim := env.Claim("probe", kit.NoClass())
		made, err := env.Admin.CoreV1().PersistentVolumeClaims(env.Namespace).Create(env.Ctx, claim, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			return err
		}
		if name := made.Spec.StorageClassName; name == nil || *name != class {
			return fmt.Errorf("a claim gets %v", name)
		}
		return nil
	})
}

func TestClonesInTheDefaultClass(t *testing.T) {
	t.Parallel()
	world := kit.StartCluster(t, cluster.Options{}) // a default class is one for all tests
	env := kit.New(t, kit.On(world))
	env.StartProvisioner(noBackOff, noBackOffMax)
	env.Create(env.Claim("named"))
	env.WaitBound("named")

	// Without a default class a claim without a class is nobody's, until there is one.
	env.Create(env.Claim("early", kit.NoClass(), kit.CloneOf("named")))
	env.Steadily("nothing is said or done", time.Second, func() error {
		if calls := callsFor(env, "early"); len(calls) > 0 {
			return fmt.Errorf("the driver was called: %v", calls[0].Request)
		}
		if err := heard(env, "early"); err != nil {
			return err
		}
		return unmarked(env, "early")
	})
	env.DefaultClass(env.Class)
	waitDefault(env, env.Class)
	env.Create(env.Claim("omitted", kit.NoClass()))
	env.WaitBound("omitted")
	env.Create(
		env.Claim("named-of-named", kit.CloneOf("named")),
		env.Claim("named-of-omitted", kit.CloneOf("omitted")),
		env.Claim("omitted-of-named", kit.NoClass(), kit.CloneOf("named")),
		env.Claim("omitted-of-omitted", kit.NoClass(), kit.CloneOf("omitted")))
	for _, name := range []string{"named-of-named", "named-of-omitted", "omitted-of-named", "omitted-of-omitted", "early"} {
		env.WaitBound(name)
		if got := env.PV(name).Spec.StorageClassName; got != env.Class {
			t.Errorf("PV of %q is of class %q, want %q", name, got, env.Class)
		}
		env.Eventually("nothing but success is told", func() error { return heard(env, name, success(env, name)...) })
	}

	// What was filled in stays when the default changes: a source keeps its class,
	// and clones that leave it out get the new one.
	other := env.Class + "-other"
	env.CreateClass(other)
	setDefault(t, env, env.Class, false)
	env.DefaultClass(other)
	waitDefault(env, other)
	env.Create(
		env.Claim("late-of-named", kit.NoClass(), kit.CloneOf("named")),
		env.Claim("late-of-omitted", kit.NoClass(), kit.CloneOf("omitted")))
	for clone, source := range map[string]string{"late-of-named": "named", "late-of-omitted": "omitted"} {
		env.Eventually("the rule is told", func() error {
			return heard(env, clone, told{"Warning", "CloneStorageClassMismatch", fmt.Sprintf(
				"clone needs StorageClass %q: source PVC %q has it, this claim asks for %q; create the claim again with spec.storageClassName: %s (--clone-policy=compatible lifts this rule)",
				env.Class, source, other, env.Class)})
		})
		if err := unmarked(env, clone); err != nil {
			t.Error(err)
		}
	}
	leave(env, "named")
	bound := when(t, env, "named", isBound)
	env.Create(env.Claim("named", kit.NoClass()))
	env.WaitBound("late-of-named")
	logDelays(t, env, await(t, bound, "the source is bound"), "the source was bound", "late-of-named")
	if calls := callsFor(env, "late-of-omitted"); len(calls) > 0 {
		t.Errorf("the driver was called: %v", calls[0].Request)
	}
	leave(env, "named", "omitted")
}
