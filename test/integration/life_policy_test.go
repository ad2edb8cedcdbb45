package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// Policies of the cluster that turn our writes down, as webhooks do, and go again.

// saysNo is what the API server answers then.
const saysNo = "the policy of this test says no"

// denial is a ValidatingAdmissionPolicy for the objects of one test.
type denial struct {
	// resource whose creation and change it is about.
	resource string
	// when, in CEL, is a request turned down.
	when string
	// reason of the API server's answer; Invalid if it is empty, as with policies
	// that name none.
	reason metav1.StatusReason
}

// ourWrites are those of the test's provisioners to a claim of the test.
func ourWrites(env *kit.Env, claim, condition string) denial {
	when := fmt.Sprintf("request.userInfo.username == %q && request.namespace == %q && object.metadata.name == %q", env.User(), env.Namespace, claim)
	if condition != "" {
		when += " && (" + condition + ")"
	}
	return denial{resource: "persistentvolumeclaims", when: when}
}

// install makes the policy hold for all requests that come after, and returns what
// removes it.
func (d denial) install(t *testing.T, env *kit.Env) (remove func()) {
	t.Helper()
	group, fail := "", admissionv1.Fail
	name := env.Namespace + "." + d.resource + ".example"
	// The probe tells whether the policy is in force: the API server takes its time.
	probe := env.Namespace + "-probe"
	policy := &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: &fail,
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
				RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
					Rule:       admissionv1.Rule{APIGroups: []string{group}, APIVersions: []string{"v1"}, Resources: []string{d.resource, "configmaps"}},
				},
			}}},
			MatchConditions: []admissionv1.MatchCondition{{
				Name:       "of-this-test",
				Expression: fmt.Sprintf("request.resource.resource == 'configmaps' ? object.metadata.name == %q : (%s)", probe, d.when),
			}},
			Validations: []admissionv1.Validation{{Expression: "false", Message: saysNo, Reason: ptr.To(d.reason)}},
		},
	}
	if d.reason == "" {
		policy.Spec.Validations[0].Reason = nil
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
		},
	}
	admission := env.Admin.AdmissionregistrationV1()
	if _, err := admission.ValidatingAdmissionPolicies().Create(env.Ctx, policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	remove = func() {
		err := errors.Join(
			admission.ValidatingAdmissionPolicyBindings().Delete(env.Ctx, name, metav1.DeleteOptions{}),
			admission.ValidatingAdmissionPolicies().Delete(env.Ctx, name, metav1.DeleteOptions{}))
		if err != nil && !t.Failed() {
			t.Error(err)
		}
	}
	if _, err := admission.ValidatingAdmissionPolicyBindings().Create(env.Ctx, binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	env.Eventually("the policy is in force", func() error {
		_, err := env.Admin.CoreV1().ConfigMaps(env.Namespace).Create(env.Ctx,
			&v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: probe}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil {
			return errors.New("nothing is denied")
		}
		if !strings.Contains(err.Error(), saysNo) {
			return err
		}
		return nil
	})
	return remove
}

// reasonsOfDenial are what policies and webhooks answer with.
var reasonsOfDenial = []metav1.StatusReason{"", metav1.StatusReasonForbidden}

func TestARecordThatIsRefusedIsToldAndWrittenLater(t *testing.T) {
	t.Parallel()
	for _, reason := range reasonsOfDenial {
		for kind, options := range kinds() {
			t.Run(fmt.Sprintf("%s, reason %q", kind, reason), func(t *testing.T) {
				t.Parallel()
				env, _ := withSource(t, "--retry-interval-max=500ms")
				policy := ourWrites(env, "data", "")
				policy.reason = reason
				allow := policy.install(t, env)
				env.Create(env.Claim("data", options...))
				toldOfDenial(t, env, "RecordNotWritten", "the work could not be put on record on this claim, so it was not started (tried again by itself): ")
				if kind == "clone" {
					leave(env, "src") // a clone that could not begin does not hold it
					env.Create(env.Claim("src"))
					env.WaitBound("src")
				}
				allow()
				env.WaitBound("data")
				requestFor(t, env, "data") // one call
				leave(env, "src")
			})
		}
	}
}

func TestAProtectionThatIsRefusedIsToldAndWrittenLater(t *testing.T) {
	t.Parallel()
	for _, reason := range reasonsOfDenial {
		t.Run(fmt.Sprintf("reason %q", reason), func(t *testing.T) {
			t.Parallel()
			env, _ := withSource(t, "--retry-interval-max=500ms")
			env.Eventually("the source is off record", func() error { return unmarked(env, "src") })
			policy := ourWrites(env, "src", "")
			policy.reason = reason
			allow := policy.install(t, env)
			env.Create(env.Claim("data", kit.CloneOf("src")))
			toldOfDenial(t, env, "CloneSourceNotProtected", "the source could not be protected, so the clone was not started (tried again by itself): ")
			allow()
			env.WaitBound("data")
			requestFor(t, env, "data")
			leave(env, "src")
		})
	}
}

// toldOfDenial fails the test unless claim "data" is told once that the policy does
// not let it begin, and nothing is done for it.
func toldOfDenial(t *testing.T, env *kit.Env, reason, words string) {
	t.Helper()
	event := env.WaitEvent("data", reason)
	if !strings.HasPrefix(event.Message, words) || !strings.Contains(event.Message, saysNo) || event.Type != v1.EventTypeWarning {
		t.Errorf("event is %s %q, want a Warning that begins with %q and has %q", event.Type, event.Message, words, saysNo)
	}
	env.Steadily("it is told once, and nothing is done", 1500*time.Millisecond, func() error {
		if n := env.CountEvents("data", reason); n != 1 {
			return fmt.Errorf("it was told %d times", n)
		}
		if calls := callsFor(env, "data"); len(calls) > 0 {
			return fmt.Errorf("the driver was called: %v", calls[0].Request)
		}
		return unmarked(env, "data")
	})
}

func TestAReleaseThatIsRefusedIsTriedAgain(t *testing.T) {
	t.Parallel()
	env, p := withSource(t, "--retry-interval-max=500ms")
	record := env.DriverName + "/provisioning"
	allow := ourWrites(env, "data", fmt.Sprintf(
		"has(oldObject.metadata.finalizers) && %[1]q in oldObject.metadata.finalizers && (!has(object.metadata.finalizers) || !(%[1]q in object.metadata.finalizers))", record)).install(t, env)
	env.Create(env.Claim("data", kit.CloneOf("src")))
	env.WaitBound("data")
	env.Delete("src")
	env.Eventually("the log says why the record stays", func() error {
		if !slices.ContainsFunc(strings.Split(p.Log(), "\n"), func(line string) bool {
			return strings.Contains(line, "taking the record off claim "+env.Namespace+"/data") && strings.Contains(line, saysNo)
		}) {
			return errors.New("it does not")
		}
		return nil
	})
	env.Steadily("the record stays, and with it the source", time.Second, func() error {
		if !slices.Contains(env.Get("src").Finalizers, cloningProtection) {
			return errors.New("the source is free")
		}
		return onRecord(env, "data")
	})
	requestFor(t, env, "data") // the driver is not called again
	allow()
	env.Eventually("nothing is left on the claim", func() error { return unmarked(env, "data") })
	env.WaitGone("src")
}
