package gateway

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestRequestsAreReadAsTheAPIServerReadsThem(t *testing.T) {
	cases := []struct {
		method, url string
		// want is verb, group, namespace, target and name.
		want  [5]string
		write bool
	}{
		{http.MethodGet, "/api/v1/persistentvolumes", [5]string{"list", "", "", "persistentvolumes", ""}, false},
		{http.MethodGet, "/api/v1/persistentvolumes?watch=true", [5]string{"watch", "", "", "persistentvolumes", ""}, false},
		{http.MethodGet, "/api/v1/persistentvolumes?watch=1", [5]string{"watch", "", "", "persistentvolumes", ""}, false},
		{http.MethodGet, "/api/v1/persistentvolumes/pv?watch=false", [5]string{"get", "", "", "persistentvolumes", "pv"}, false},
		{http.MethodPost, "/api/v1/namespaces/ns/events", [5]string{"create", "", "ns", "events", ""}, true},
		{http.MethodPatch, "/api/v1/namespaces/ns/persistentvolumeclaims/c", [5]string{"patch", "", "ns", "persistentvolumeclaims", "c"}, true},
		{http.MethodPut, "/api/v1/namespaces/ns/persistentvolumeclaims/c/status", [5]string{"update", "", "ns", "persistentvolumeclaims/status", "c"}, true},
		{http.MethodDelete, "/api/v1/persistentvolumes/pv", [5]string{"delete", "", "", "persistentvolumes", "pv"}, true},
		{http.MethodDelete, "/api/v1/persistentvolumes", [5]string{"deletecollection", "", "", "persistentvolumes", ""}, true},
		{http.MethodGet, "/api/v1/namespaces", [5]string{"list", "", "", "namespaces", ""}, false},
		{http.MethodGet, "/api/v1/namespaces/ns", [5]string{"get", "", "", "namespaces", "ns"}, false},
		{http.MethodPut, "/api/v1/namespaces/ns/finalize", [5]string{"update", "", "", "namespaces/finalize", "ns"}, true},
		{http.MethodGet, "/apis/storage.k8s.io/v1/storageclasses", [5]string{"list", "storage.k8s.io", "", "storageclasses", ""}, false},
		{http.MethodPut, "/apis/coordination.k8s.io/v1/namespaces/d/leases/l", [5]string{"update", "coordination.k8s.io", "d", "leases", "l"}, true},
		{http.MethodPost, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", [5]string{"create", "authorization.k8s.io", "", "selfsubjectaccessreviews", ""}, false},
		{http.MethodGet, "/apis/storage.k8s.io/v1", [5]string{"get", "", "", "/apis/storage.k8s.io/v1", ""}, false},
		{http.MethodGet, "/version", [5]string{"get", "", "", "/version", ""}, false},
		{http.MethodGet, "/", [5]string{"get", "", "", "/", ""}, false},
	}
	for _, c := range cases {
		t.Run(c.method+" "+c.url, func(t *testing.T) {
			r := parse(httptest.NewRequest(c.method, c.url, http.NoBody))
			if got := [5]string{r.Verb, r.Group, r.Namespace, r.Target(), r.Name}; got != c.want {
				t.Errorf("read as %q, want %q", got, c.want)
			}
			if r.Write() != c.write {
				t.Errorf("write is %t", r.Write())
			}
		})
	}
}
