package kit

import "testing"

func TestADenialIsToldFromOtherRefusals(t *testing.T) {
	cases := map[string]struct {
		line string
		want string
	}{
		"RBAC, in a log line with escaped quotes": {
			`E1 reflector.go:1] "Failed to watch" err="failed to list *v1.Node: nodes is forbidden: User \"system:serviceaccount:default:x\" cannot list resource \"nodes\" in API group \"\" at the cluster scope"`,
			`forbidden: User \"system:serviceaccount:default:x\" cannot list resource \"nodes\" in API group \"\" at the cluster scope"`,
		},
		"RBAC, as plain text": {
			`pods is forbidden: User "system:serviceaccount:default:x" cannot get resource "pods"`,
			`forbidden: User "system:serviceaccount:default:x" cannot get resource "pods"`,
		},
		"a quota": {`persistentvolumeclaims "a" is forbidden: exceeded quota: q, requested: 1`, ""},
		"a namespace that is being deleted": {
			`events "a" is forbidden: unable to create new content in namespace ns because it is being terminated`, "",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := denial.FindString(c.line); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

func TestACrashIsFoundAtTheStartOfALine(t *testing.T) {
	if got := crash.FindString("I1 started\npanic: runtime error: index out of range\n"); got != "panic: runtime error: index out of range" {
		t.Errorf("found %q", got)
	}
	if got := crash.FindString(`I1 "no panic: all is well"`); got != "" {
		t.Errorf("found %q in a line that says something else", got)
	}
}

func TestRepeatedLinesAreToldOnce(t *testing.T) {
	if got := distinct([]string{"a", "b", "a"}); len(got) != 2 || got[0] != "a" || got[1] != "b" {
		t.Errorf("got %q", got)
	}
}
