package kit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// rights are the rules of an account's roles.
type rights struct {
	// cluster are those of the ClusterRole, local those of the Role in the
	// account's namespace.
	cluster, local []rbacv1.PolicyRule
}

// readRights returns the rules in a file of manifests.
func readRights(path string) (rights, error) {
	manifests, err := os.ReadFile(path)
	if err != nil {
		return rights{}, fmt.Errorf("reading rights: %w", err)
	}
	granted, err := parseRights(manifests)
	if err != nil {
		return rights{}, fmt.Errorf("reading rights from %s: %w", path, err)
	}
	return granted, nil
}

func parseRights(manifests []byte) (rights, error) {
	var granted rights
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	for {
		var object struct {
			Kind  string              `json:"kind"`
			Rules []rbacv1.PolicyRule `json:"rules"`
		}
		err := decoder.Decode(&object)
		switch {
		case errors.Is(err, io.EOF) && len(granted.cluster)+len(granted.local) == 0:
			return rights{}, errors.New("there are no rules")
		case errors.Is(err, io.EOF):
			return granted, nil
		case err != nil:
			return rights{}, err
		}
		switch object.Kind {
		case "ClusterRole":
			granted.cluster = append(granted.cluster, object.Rules...)
		case "Role":
			granted.local = append(granted.local, object.Rules...)
		}
	}
}

// take takes verbs on a resource away, all if none is named. It is an error if
// there is nothing to take: the test would prove nothing.
func (r *rights) take(resource string, verbs []string) error {
	taken := map[string]bool{}
	r.cluster = takeFrom(r.cluster, resource, verbs, taken)
	r.local = takeFrom(r.local, resource, verbs, taken)
	if len(taken) == 0 {
		return fmt.Errorf("no rule about %s to take away", resource)
	}
	for _, verb := range verbs {
		if !taken[verb] {
			return fmt.Errorf("no rule allows %s on %s", verb, resource)
		}
	}
	return nil
}

// takeFrom returns the rules without the verbs on the resource, and notes what
// was taken. Other resources of the same rule keep theirs.
func takeFrom(rules []rbacv1.PolicyRule, resource string, verbs []string, taken map[string]bool) []rbacv1.PolicyRule {
	var left []rbacv1.PolicyRule
	for _, rule := range rules {
		if !slices.Contains(rule.Resources, resource) {
			left = append(left, rule)
			continue
		}
		if len(rule.Resources) > 1 {
			others := *rule.DeepCopy()
			others.Resources = slices.DeleteFunc(others.Resources, func(name string) bool { return name == resource })
			left = append(left, others)
		}
		kept := *rule.DeepCopy()
		kept.Resources, kept.Verbs = []string{resource}, nil
		for _, verb := range rule.Verbs {
			if len(verbs) == 0 || slices.Contains(verbs, verb) {
				taken[verb] = true
			} else {
				kept.Verbs = append(kept.Verbs, verb)
			}
		}
		if len(kept.Verbs) > 0 {
			left = append(left, kept)
		}
	}
	return left
}
