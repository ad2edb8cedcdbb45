package capacity

import (
	"fmt"
	"hash/fnv"

	"k8s.io/apimachinery/pkg/util/validation"
)

// central is the value of the managed-by label of a provisioner that works for all
// nodes: the incumbent's, so that one takes the other's objects over.
const central = "external-provisioner"

// ManagedBy returns the value of the managed-by label of the provisioner on a node; ""
// stands for the one that works for all. It fits into a label: of a long name a part is
// left out and a hash put in.
//
// Rule: spec of the incumbent, capacity, "Objects": the same name for the same node, so
// that one takes the other's objects over.
func ManagedBy(node string) string {
	if node == "" {
		return central
	}
	whole := central + "-" + node
	if len(whole) <= validation.LabelValueMaxLength {
		return whole
	}
	const hashed = len("-01234567-")
	room := validation.LabelValueMaxLength - hashed - len(node)
	if room <= 0 {
		return central + "-" + hash(whole)
	}
	return central[:room] + "-" + hash(central) + "-" + node
}

func hash(text string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(text)) // never fails
	return fmt.Sprintf("%08x", h.Sum32())
}
