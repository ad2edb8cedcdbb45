package secret

import (
	"fmt"
	"os"
	"slices"
	"strings"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

// Ref names a Secret. The zero value means none.
type Ref struct{ Namespace, Name string }

// IsZero says that there is no Secret.
func (r Ref) IsZero() bool { return r == Ref{} }

// String returns "namespace/name", "" if there is no Secret.
func (r Ref) String() string {
	if r.IsZero() {
		return ""
	}
	return r.Namespace + "/" + r.Name
}

// Parse reads what String has written; anything else is no Secret.
func Parse(text string) Ref {
	ns, n, found := strings.Cut(text, "/")
	if !found || len(validation.IsDNS1123Label(ns)) > 0 || len(validation.IsDNS1123Subdomain(n)) > 0 {
		return Ref{}
	}
	return Ref{Namespace: ns, Name: n}
}

// Refs are the Secrets of one volume. Only Provisioner is read here; the others are
// named on the PV, for whoever attaches, mounts, expands or modifies the volume.
type Refs struct {
	Provisioner, ControllerPublish, NodeStage, NodePublish, ControllerExpand, NodeExpand, ControllerModify Ref
}

func (r *Refs) of(k kind) *Ref {
	return map[kind]*Ref{
		provisioner: &r.Provisioner, controllerPublish: &r.ControllerPublish, nodeStage: &r.NodeStage,
		nodePublish: &r.NodePublish, controllerExpand: &r.ControllerExpand, nodeExpand: &r.NodeExpand,
		controllerModify: &r.ControllerModify,
	}[k]
}

// About is what templates may refer to. Name and annotations of a claim are in its
// user's hands, and therefore not for namespaces.
type About struct {
	PV, Claim, Namespace string
	Annotations          map[string]string
}

// Resolve returns the Secrets that the class names for a volume. The verdict is Refuse
// when the class contradicts itself (InvalidStorageClass), or when its templates make
// no name of a Secret for this claim (SecretNameInvalid).
func Resolve(class *storagev1.StorageClass, about About) (Refs, verdict.Verdict) {
	var refs Refs
	for _, k := range kinds() {
		ref, v := resolve(class, k, about)
		if !v.Ready() {
			return Refs{}, v
		}
		*refs.of(k) = ref
	}
	return refs, verdict.Verdict{}
}

// ResolveProvisioner is Resolve for the Secret of CreateVolume and DeleteVolume alone.
func ResolveProvisioner(class *storagev1.StorageClass, about About) (Ref, verdict.Verdict) {
	return resolve(class, provisioner, about)
}

func resolve(class *storagev1.StorageClass, k kind, about About) (Ref, verdict.Verdict) {
	t, v := templatesOf(class, k)
	if !v.Ready() || t.name.text == "" {
		return Ref{}, v
	}
	ns, v := t.namespace.expand(class, namespaceTokens(about), validation.IsDNS1123Label)
	if !v.Ready() {
		return Ref{}, v
	}
	n, v := t.name.expand(class, nameTokens(about), validation.IsDNS1123Subdomain)
	return Ref{Namespace: ns, Name: n}, v
}

// template is the value of one parameter.
type template struct{ key, text string }

// templates are those of the parameters that hold for one kind.
type templates struct{ name, namespace template }

// templatesOf returns the templates of the kind, else those that hold for all kinds;
// without text if there are none.
func templatesOf(class *storagev1.StorageClass, k kind) (templates, verdict.Verdict) {
	for _, k := range []kind{k, fallback} {
		t, v := ownTemplates(class, k)
		if !v.Ready() || t.name.text != "" {
			return t, v
		}
	}
	return templates{}, verdict.Verdict{}
}

func ownTemplates(class *storagev1.StorageClass, k kind) (templates, verdict.Verdict) {
	n, v := valueOf(class, k, name)
	if !v.Ready() {
		return templates{}, v
	}
	ns, v := valueOf(class, k, namespace)
	switch {
	case !v.Ready():
		return templates{}, v
	case n.key == "" && ns.key == "":
		return templates{}, verdict.Verdict{}
	case n.key == "":
		return templates{}, half(class, k, ns.key, k.key(name))
	case ns.key == "":
		return templates{}, half(class, k, n.key, k.key(namespace))
	}
	for _, t := range []template{n, ns} {
		if t.text == "" {
			return templates{}, verdict.Refused(verdict.InvalidClass,
				"parameter %q of StorageClass %q is empty; give a value, or remove the parameters of the %s secret", t.key, class.Name, k)
		}
	}
	return templates{n, ns}, verdict.Verdict{}
}

func half(class *storagev1.StorageClass, k kind, there, missing string) verdict.Verdict {
	return verdict.Refused(verdict.InvalidClass,
		"StorageClass %q has parameter %q without %q; the %s secret needs both, or none", class.Name, there, missing, k)
}

// valueOf returns the item in either spelling; without key if it is not there.
func valueOf(class *storagev1.StorageClass, k kind, item string) (template, verdict.Verdict) {
	text, isNew := class.Parameters[k.key(item)]
	old, isOld := class.Parameters[k.oldKey(item)]
	switch {
	case k.oldKey(item) != "" && isNew && isOld:
		return template{}, verdict.Refused(verdict.InvalidClass,
			"StorageClass %q has both parameters %q and %q; remove the second, which is the old spelling", class.Name, k.key(item), k.oldKey(item))
	case isNew:
		return template{k.key(item), text}, verdict.Verdict{}
	case k.oldKey(item) != "" && isOld:
		return template{k.oldKey(item), old}, verdict.Verdict{}
	}
	return template{}, verdict.Verdict{}
}

const annotationToken = "pvc.annotations['"

func namespaceTokens(about About) map[string]string {
	return map[string]string{"pv.name": about.PV, "pvc.namespace": about.Namespace}
}

func nameTokens(about About) map[string]string {
	tokens := map[string]string{"pv.name": about.PV, "pvc.name": about.Claim, "pvc.namespace": about.Namespace}
	for key, value := range about.Annotations {
		tokens[annotationToken+key+"']"] = value
	}
	return tokens
}

// expand puts the values in place of the tokens, by the rules of os.Expand, which has
// "$token" beside "${token}"; problems says what is wrong with the result.
func (t template) expand(class *storagev1.StorageClass, tokens map[string]string, problems func(string) []string) (string, verdict.Verdict) {
	var unknown []string
	_, forNames := tokens["pvc.name"]
	lacking := ""
	result := os.Expand(t.text, func(token string) string {
		value, found := tokens[token]
		key, isAnnotation := strings.CutPrefix(token, annotationToken)
		switch {
		case found:
		case forNames && isAnnotation && strings.HasSuffix(key, "']"):
			lacking = strings.TrimSuffix(key, "']")
		case !slices.Contains(unknown, fmt.Sprintf("%q", token)):
			unknown = append(unknown, fmt.Sprintf("%q", token))
		}
		return value
	})
	allowed := "pv.name, pvc.namespace"
	if forNames {
		allowed = "pv.name, pvc.name, pvc.namespace, pvc.annotations['KEY']"
	}
	slices.Sort(unknown)
	switch {
	case len(unknown) > 0:
		return "", verdict.Refused(verdict.InvalidClass,
			"parameter %q of StorageClass %q has the unknown token %s; known there are %s", t.key, class.Name, strings.Join(unknown, ", "), allowed)
	case lacking != "":
		return "", verdict.Refused(verdict.SecretNameInvalid,
			"parameter %q of StorageClass %q names a Secret by annotation %q, which the claim does not have; annotate the claim", t.key, class.Name, lacking)
	}
	wrong := problems(result)
	switch {
	case len(wrong) == 0:
		return result, verdict.Verdict{}
	case result == t.text:
		return "", verdict.Refused(verdict.InvalidClass,
			"parameter %q of StorageClass %q is %q, which no Secret can have: %s", t.key, class.Name, t.text, wrong[0])
	}
	return "", verdict.Refused(verdict.SecretNameInvalid,
		"parameter %q of StorageClass %q, %q, makes %q for this claim, which no Secret can have: %s", t.key, class.Name, t.text, result, wrong[0])
}
