package kit

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// auditEntry returns a line of an audit log.
func auditEntry(user, verb, group, resource, subresource string, code int) string {
	return fmt.Sprintf(`{"stage":"ResponseComplete","verb":%q,"user":{"username":%q},`+
		`"objectRef":{"apiGroup":%q,"resource":%q,"subresource":%q},"responseStatus":{"code":%d}}`+"\n",
		verb, user, group, resource, subresource, code)
}

func TestRightsThatNobodyUsesAreFound(t *testing.T) {
	t.Parallel()
	const shipped = "system:serviceaccount:default:csi-clone-provisioner"
	log := auditEntry(shipped, "get", "", "persistentvolumes", "", 404) +
		auditEntry(shipped+"-test-1", "watch", "storage.k8s.io", "storageclasses", "", 200) +
		auditEntry(shipped, "patch", "", "pods", "status", 200) +
		auditEntry(shipped, "delete", "", "persistentvolumes", "", 403) +
		auditEntry("system:serviceaccount:default:csi-provisioner", "list", "storage.k8s.io", "storageclasses", "", 200) +
		auditEntry("admin of "+shipped, "create", "", "persistentvolumes", "", 201) +
		`{"verb":"create","user":{"username":"` + shipped + "\"\n" +
		strings.TrimSuffix(auditEntry(shipped, "update", "", "persistentvolumes", "", 200), "\n")
	dir := t.TempDir()
	logPath, manifest := filepath.Join(dir, "audit.log"), filepath.Join(dir, "rbac.yaml")
	rules := `kind: ClusterRole
rules:
- {apiGroups: [""], resources: [persistentvolumes], verbs: [get, create, update, delete]}
- {apiGroups: [storage.k8s.io], resources: [storageclasses], verbs: [list, watch]}
- {apiGroups: [""], resources: [pods], verbs: [patch]}
`
	for path, content := range map[string]string{logPath: log, manifest: rules} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var used rightsUsed
	if err := used.add(logPath); err != nil {
		t.Fatal(err)
	}
	got, err := used.unused([]string{manifest})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"rbac.yaml: create persistentvolumes", "rbac.yaml: update persistentvolumes", "rbac.yaml: delete persistentvolumes",
		"rbac.yaml: list storageclasses.storage.k8s.io", "rbac.yaml: patch pods",
	}
	if !slices.Equal(got, want) {
		t.Errorf("unused are\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}
