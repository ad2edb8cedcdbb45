package kit

import (
	"fmt"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

const testManifests = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: x}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: x}
rules:
- {apiGroups: [""], resources: [a, b], verbs: [get, list]}
- {apiGroups: [g], resources: [c], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: x}
rules:
- {apiGroups: [""], resources: [b], verbs: [list, patch]}
`

// plain writes rules as "resource: verb verb", and a bar before those of the Role.
func plain(r rights) string {
	var parts []string
	add := func(rules []rbacv1.PolicyRule) {
		for _, rule := range rules {
			parts = append(parts, fmt.Sprintf("%s: %s", strings.Join(rule.Resources, " "), strings.Join(rule.Verbs, " ")))
		}
	}
	add(r.cluster)
	parts = append(parts, "|")
	add(r.local)
	return strings.Join(parts, "; ")
}

func TestRightsAreTakenAway(t *testing.T) {
	cases := map[string]struct {
		resource string
		verbs    []string
		// want are the rules that are left, or the error.
		want string
	}{
		"one verb, in both roles":      {"b", []string{"list"}, "a: get list; b: get; c: get; |; b: patch"},
		"all verbs":                    {"b", nil, "a: get list; c: get; |"},
		"a verb of one of the roles":   {"b", []string{"patch"}, "a: get list; b: get list; c: get; |; b: list"},
		"the only rule about it":       {"c", []string{"get"}, "a b: get list; |; b: list patch"},
		"a resource without rules":     {"d", nil, "no rule about d to take away"},
		"a verb nobody has":            {"c", []string{"get", "watch"}, "no rule allows watch on c"},
		"no verb of those there are":   {"c", []string{"watch"}, "no rule about c to take away"},
		"several verbs and both roles": {"b", []string{"get", "list", "patch"}, "a: get list; c: get; |"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			granted, err := parseRights([]byte(testManifests))
			if err != nil {
				t.Fatal(err)
			}
			err = granted.take(c.resource, c.verbs)
			got := plain(granted)
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestManifestsWithoutRulesAreAnError(t *testing.T) {
	for _, manifests := range []string{"", "kind: ServiceAccount", "kind: [", "kind: Role\nrules: []"} {
		if granted, err := parseRights([]byte(manifests)); err == nil {
			t.Errorf("%q is read as %s", manifests, plain(granted))
		}
	}
}
