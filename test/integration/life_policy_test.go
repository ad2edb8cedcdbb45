package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"

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
