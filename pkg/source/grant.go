package source

import (
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// Grant is what a ReferenceGrant says (Gateway API,
// gateway.networking.k8s.io/v1beta1): objects of From may refer to objects of To
// in the grant's own namespace.
type Grant struct {
	// From lists who may refer, To what may be referred to. Both must match.
	From []GrantFrom `json:"from"`
	To   []GrantTo   `json:"to"`
}

// GrantFrom names a kind of objects in a namespace.
type GrantFrom struct {
	Group     string `json:"group"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
}

// GrantTo names a kind of objects, or one of them if Name is not empty.
type GrantTo struct {
	Group string `json:"group"`
	Kind  string `json:"kind"`
	Name  string `json:"name"`
}

// GrantOf reads a ReferenceGrant. What cannot be read grants nothing.
func GrantOf(object *unstructured.Unstructured) Grant {
	var grant Grant
	spec, found, err := unstructured.NestedMap(object.Object, "spec")
	if err != nil || !found {
		return Grant{}
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(spec, &grant); err != nil {
		return Grant{}
	}
	return grant
}

// Granted says whether one of the grants, all of the source's namespace, lets
// claims of the namespace use the source.
func Granted(grants []Grant, from string, ref Ref) bool {
	group, kind := "", claimKind
	if ref.Kind == Snapshot {
		group, kind = snapshotGroup, snapshotKind
	}
	return slices.ContainsFunc(grants, func(g Grant) bool {
		return slices.Contains(g.From, GrantFrom{Kind: claimKind, Namespace: from}) &&
			slices.ContainsFunc(g.To, func(to GrantTo) bool {
				return to.Group == group && to.Kind == kind && (to.Name == "" || to.Name == ref.Name)
			})
	})
}
