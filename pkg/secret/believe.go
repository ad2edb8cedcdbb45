package secret

import (
	"os"
	"regexp"
	"strings"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// CouldBe says whether the class could have named the Secret for CreateVolume of this
// volume, whatever annotations the claim had then: only such a Secret is believed when
// the claim says, in its record, that it was begun with it. A user who writes a record
// thereby gains no Secret that an annotation would not have got him.
func CouldBe(ref Ref, class *storagev1.StorageClass, about About) bool {
	t, v := templatesOf(class, provisioner)
	if !v.Ready() || t.name.text == "" || ref.IsZero() {
		return false
	}
	ns, v := t.namespace.expand(class, namespaceTokens(about), validation.IsDNS1123Label)
	if !v.Ready() || ns != ref.Namespace {
		return false
	}
	about.Annotations = nil
	tokens := nameTokens(about)
	// No name of a Secret, and no name or namespace that goes in, has these characters.
	const anything, nothing = "\x00", "\x01"
	text := os.Expand(t.name.text, func(token string) string {
		value, found := tokens[token]
		switch {
		case found:
			return value
		case strings.HasPrefix(token, annotationToken) && strings.HasSuffix(token, "']"):
			return anything
		}
		return nothing
	})
	pattern := strings.ReplaceAll(regexp.QuoteMeta(text), anything, ".*")
	fits, err := regexp.MatchString("^"+pattern+"$", ref.Name)
	return err == nil && fits
}

// Vouches says whether a PV proves that the class has named the Secret before, for claims of
// that namespace: it may have been another then. Users do not write PVs.
func Vouches(pv *v1.PersistentVolume, ref Ref, driver, class, namespace string) bool {
	stands, told := OnPV(pv)
	return told && stands == ref && !ref.IsZero() &&
		pv.Spec.CSI != nil && pv.Spec.CSI.Driver == driver && ClassOf(pv) == class &&
		pv.Spec.ClaimRef != nil && pv.Spec.ClaimRef.Namespace == namespace
}
