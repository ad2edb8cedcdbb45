package kit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"
)

// right is one verb on one kind of object.
type right struct {
	// resource may name a subresource, "persistentvolumes/status".
	group, resource, verb string
}

func (r right) String() string {
	if r.group == "" {
		return r.verb + " " + r.resource
	}
	return r.verb + " " + r.resource + "." + r.group
}

// rightsUsed are those that provisioners have made use of, on all clusters of a run.
type rightsUsed struct {
	mu   sync.Mutex
	used map[right]bool
}

// add notes what an audit log says of the accounts with the shipped rights.
func (u *rightsUsed) add(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading the audit log: %w", err)
	}
	defer file.Close()
	used, err := usedRights(file)
	if err != nil {
		return fmt.Errorf("reading the audit log %s: %w", path, err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.used == nil {
		u.used = map[right]bool{}
	}
	maps.Copy(u.used, used)
	return nil
}

// unused returns what the files grant and nobody has used, with the file.
func (u *rightsUsed) unused(paths []string) ([]string, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var unused []string
	for _, path := range paths {
		granted, err := readRights(path)
		if err != nil {
			return nil, err
		}
		for _, r := range expand(slices.Concat(granted.cluster, granted.local)) {
			if !u.used[r] {
				unused = append(unused, filepath.Base(path)+": "+r.String())
			}
		}
	}
	return unused, nil
}

// expand returns every right that rules grant, in their order.
func expand(rules []rbacv1.PolicyRule) []right {
	var all []right
	for _, rule := range rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					all = append(all, right{group: group, resource: resource, verb: verb})
				}
			}
		}
	}
	return all
}

// usedRights returns what accounts with the shipped rights, also changed ones, were
// let do according to an audit log.
func usedRights(log io.Reader) (map[right]bool, error) {
	used := map[right]bool{}
	shipped := account{name: string(ShippedRBAC)}.user()
	lines := bufio.NewReader(log)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return used, nil // what has no end is in the writing
		}
		if err != nil {
			return nil, err
		}
		if !bytes.Contains(line, []byte(shipped)) {
			continue
		}
		var entry struct {
			Verb string `json:"verb"`
			User struct {
				Username string `json:"username"`
			} `json:"user"`
			Object struct {
				Group       string `json:"apiGroup"`
				Resource    string `json:"resource"`
				Subresource string `json:"subresource"`
			} `json:"objectRef"`
			Response struct {
				Code int `json:"code"`
			} `json:"responseStatus"`
		}
		// An API server that was killed may have left half a line.
		if json.Unmarshal(line, &entry) != nil || entry.Object.Resource == "" || entry.Response.Code == http.StatusForbidden {
			continue
		}
		if name := entry.User.Username; name != shipped && !strings.HasPrefix(name, shipped+"-") {
			continue
		}
		resource := entry.Object.Resource
		if entry.Object.Subresource != "" {
			resource += "/" + entry.Object.Subresource
		}
		used[right{group: entry.Object.Group, resource: resource, verb: entry.Verb}] = true
	}
}

// allTestsRun tells whether no flag has left tests out.
func allTestsRun() bool {
	for _, name := range []string{"test.run", "test.skip"} {
		if flag.Lookup(name).Value.String() != "" {
			return false
		}
	}
	return flag.Lookup("test.short").Value.String() == "false"
}

// checkRights returns an error that names the rights which the manifests grant and
// no test has made use of. A right that is not granted and used fails the test that
// uses it (see retire): both together say that the manifests grant what is needed
// and nothing else.
func (w *World) checkRights() error {
	if err := w.rights.add(w.Cluster.AuditLogPath()); err != nil {
		return err
	}
	paths, err := filepath.Glob(filepath.Join(w.root, "deploy", "kubernetes", "rbac*.yaml"))
	if err != nil {
		return fmt.Errorf("looking for the manifests of RBAC: %w", err)
	}
	unused, err := w.rights.unused(paths)
	if err != nil {
		return err
	}
	if len(unused) > 0 {
		return fmt.Errorf("deploy/kubernetes grants what no test has made use of:\n  %s", strings.Join(unused, "\n  "))
	}
	return nil
}
