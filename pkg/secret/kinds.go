package secret

import (
	"slices"
	"strings"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// kind is a use that a class can name a Secret for, as it stands in the parameters.
type kind string

const (
	provisioner       kind = "provisioner"
	controllerPublish kind = "controller-publish"
	nodeStage         kind = "node-stage"
	nodePublish       kind = "node-publish"
	controllerExpand  kind = "controller-expand"
	nodeExpand        kind = "node-expand"
	controllerModify  kind = "controller-modify"
	// fallback stands for every kind that has no parameters of its own.
	fallback kind = ""
)

// kinds in the order in which they are judged.
func kinds() []kind {
	return []kind{provisioner, controllerPublish, nodeStage, nodePublish, controllerExpand, nodeExpand, controllerModify}
}

// String returns the kind for texts.
func (k kind) String() string {
	if k == fallback {
		return "default"
	}
	return string(k)
}

// key returns the parameter that holds the name, or the namespace.
func (k kind) key(item string) string {
	if k == fallback {
		return wellknown.ParameterPrefix + "secret-" + item
	}
	return wellknown.ParameterPrefix + string(k) + "-secret-" + item
}

// oldKey returns the parameter's spelling from before the prefix was reserved, "" if
// there is none.
func (k kind) oldKey(item string) string {
	old := map[kind]string{
		provisioner: "csiProvisioner", controllerPublish: "csiControllerPublish",
		nodeStage: "csiNodeStage", nodePublish: "csiNodePublish",
	}[k]
	if old == "" {
		return ""
	}
	return old + "Secret" + strings.ToUpper(item[:1]) + item[1:]
}

// The two items that name a Secret.
const (
	name      = "name"
	namespace = "namespace"
)

// Known says whether the parameter names a Secret in a spelling with the reserved
// prefix: such a parameter is not for the driver.
func Known(key string) bool {
	return slices.ContainsFunc(append(kinds(), fallback), func(k kind) bool {
		return key == k.key(name) || key == k.key(namespace)
	})
}

// Deprecated returns those of the parameters that name a Secret in the old spelling,
// sorted. They work, and the driver gets them, too.
func Deprecated(parameters map[string]string) []string {
	var found []string
	for _, k := range kinds() {
		for _, item := range []string{name, namespace} {
			if _, there := parameters[k.oldKey(item)]; there {
				found = append(found, k.oldKey(item))
			}
		}
	}
	slices.Sort(found)
	return found
}
