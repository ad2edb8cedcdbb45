package secret_test

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/secret"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

// Whatever an administrator writes into a class, and a user into a claim: there is a
// Secret that can exist, or the user is told why not. What users write has no influence on
// the namespace, and what was named once is recognised whatever the annotations are later.
func FuzzResolve(f *testing.F) {
	f.Add("${pvc.annotations['team']}-x", "${pvc.namespace}", "blue", "red", "data")
	f.Add("${pv.name}", "vault", "", "", "a.b")
	f.Add("$pvc.name${}${", "$$", "x", "y", "z")
	f.Add("${pvc.annotations['team']}${pvc.annotations['team']}", "${pvc.name}", "a", ".", "data")
	f.Add("${pvc.annotations['']}", "${pvc.annotations['team']}", "a", "b", "data")
	f.Add("a\x00b${pvc.name}", "ns", "a", "b", "data")
	f.Fuzz(func(t *testing.T, nameTemplate, namespaceTemplate, annotation, later, claim string) {
		class := classOf()
		class.Parameters[prefix+"provisioner-secret-name"] = nameTemplate
		class.Parameters[prefix+"provisioner-secret-namespace"] = namespaceTemplate
		about := secret.About{PV: "pvc-1", Claim: claim, Namespace: "shop", Annotations: map[string]string{"team": annotation}}
		refs, v := secret.Resolve(class, about)
		if !v.Ready() {
			if refs != (secret.Refs{}) || v.Kind != verdict.Refuse || v.Message == "" || v.Reason != verdict.InvalidClass && v.Reason != verdict.SecretNameInvalid {
				t.Errorf("refused with %+v: %s %s %q", refs, v.Kind, v.Reason, v.Message)
			}
			return
		}
		ref := refs.Provisioner
		if len(validation.IsDNS1123Label(ref.Namespace)) > 0 || len(validation.IsDNS1123Subdomain(ref.Name)) > 0 {
			t.Errorf("no Secret can be called %q", ref)
		}
		if secret.Parse(ref.String()) != ref {
			t.Errorf("%q is read as %q", ref, secret.Parse(ref.String()))
		}
		one, v := secret.ResolveProvisioner(class, about)
		if one != ref || !v.Ready() {
			t.Errorf("alone it is %q", one)
		}
		about.Annotations["team"] = later
		if !secret.CouldBe(ref, class, about) {
			t.Errorf("%q is not recognised", ref)
		}
		if elsewhere := (secret.Ref{Namespace: ref.Namespace + "x", Name: ref.Name}); secret.CouldBe(elsewhere, class, about) {
			t.Errorf("%q is believed", elsewhere)
		}
		about.Claim = "other"
		if after, v := secret.ResolveProvisioner(class, about); v.Ready() && after.Namespace != ref.Namespace {
			t.Errorf("another claim has another namespace: %q, not %q", after, ref)
		}
		if usesNothing := !strings.Contains(nameTemplate, "$"); usesNothing && secret.CouldBe(secret.Ref{Namespace: ref.Namespace, Name: ref.Name + "x"}, class, about) {
			t.Error("another name than the one that is written there is believed")
		}
	})
}

// A user can write anything into a record. What is believed is in the namespace that the
// class alone decides about.
func FuzzCouldBe(f *testing.F) {
	f.Add("kube-system/root", "${pvc.annotations['team']}", "${pvc.namespace}")
	f.Add("shop/x.y", "x.${pvc.annotations['team']}", "shop")
	f.Add("a/b/c", "b", "a")
	f.Fuzz(func(t *testing.T, pinned, nameTemplate, namespaceTemplate string) {
		class := classOf()
		class.Parameters[prefix+"secret-name"], class.Parameters[prefix+"secret-namespace"] = nameTemplate, namespaceTemplate
		about := shopData()
		ref := secret.Parse(pinned)
		if !secret.CouldBe(ref, class, about) {
			return
		}
		if ref.IsZero() {
			t.Errorf("%q is believed", pinned)
		}
		// A PV says where the class puts Secrets, without anything of the claim's user.
		pv := &v1.PersistentVolume{}
		pv.Name = about.PV
		pv.Spec.ClaimRef = &v1.ObjectReference{Namespace: about.Namespace, Name: about.Claim}
		class.Parameters[prefix+"secret-name"] = "fixed"
		where, v := secret.OfClass(pv, class, nil)
		if !v.Ready() || where.Namespace != ref.Namespace {
			t.Errorf("%q is believed, the class names Secrets of namespace %q, %s", ref, where.Namespace, v.Message)
		}
	})
}
