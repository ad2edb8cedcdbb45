package app

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/options"
)

// authority is an API server that answers what RBAC grants and what is served; one
// that is late, which a real one cannot be made to be.
type authority struct {
	mu sync.Mutex
	// late is how many requests it turns away first, with the code.
	late, code int
	// denied are the "verb resource" that are not granted.
	denied []string
	// kinds are the resources of the API group that is asked about; nil is a server
	// without it.
	kinds []string
	asked []string
}

func (a *authority) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if a.late > 0 {
		a.late--
		w.WriteHeader(a.code)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/apis/gateway") || strings.HasPrefix(r.URL.Path, "/apis/storage") {
		if a.kinds == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}}
		for _, kind := range a.kinds {
			list.APIResources = append(list.APIResources, metav1.APIResource{Name: kind})
		}
		_ = json.NewEncoder(w).Encode(list)
		return
	}
	review := authorizationv1.SelfSubjectAccessReview{}
	_ = json.NewDecoder(r.Body).Decode(&review)
	asked := review.Spec.ResourceAttributes.Verb + " " + review.Spec.ResourceAttributes.Resource
	a.asked = append(a.asked, asked)
	review.Status.Allowed = true
	for _, denied := range a.denied {
		review.Status.Allowed = review.Status.Allowed && asked != denied
	}
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(review)
}

func clientOf(t *testing.T, a *authority) kubernetes.Interface {
	t.Helper()
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: server.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestLook(t *testing.T) {
	strict := options.Options{ClonePolicy: options.Strict}
	for _, c := range []struct {
		name      string
		server    *authority
		options   options.Options
		publishes bool
		want      access
		asked     string // empty where it does not matter
	}{
		{"everything is granted", &authority{}, strict, false, access{patchClaims: true, attachments: true},
			"patch persistentvolumeclaims,list pods,watch pods,list volumeattachments,watch volumeattachments"},
		{"the incumbent's rules", &authority{denied: []string{"patch persistentvolumeclaims", "list pods", "watch pods", "watch volumeattachments"}}, strict, false, access{}, ""},
		{"what is not used is not asked for", &authority{}, options.Options{ClonePolicy: options.Compatible}, false, access{patchClaims: true},
			"patch persistentvolumeclaims"},
		{"a driver that attaches needs attachments", &authority{}, options.Options{ClonePolicy: options.Compatible}, true, access{patchClaims: true, attachments: true},
			"patch persistentvolumeclaims,list volumeattachments,watch volumeattachments"},
		{"grants", &authority{}, options.Options{ClonePolicy: options.Compatible, CrossNamespace: true}, false, access{patchClaims: true, grants: true},
			"patch persistentvolumeclaims,list referencegrants,watch referencegrants"},
		{"an API server that comes up late is asked again", &authority{denied: []string{"patch persistentvolumeclaims"}, late: 2, code: http.StatusServiceUnavailable},
			options.Options{ClonePolicy: options.Compatible}, false, access{}, "patch persistentvolumeclaims,update persistentvolumeclaims"},
		{"one that does not let us ask is not", &authority{late: 1, code: http.StatusForbidden}, options.Options{ClonePolicy: options.Compatible}, false,
			access{patchClaims: true}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := look(t.Context(), clientOf(t, c.server), &c.options, abilities{publishes: c.publishes})
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if asked := strings.Join(c.server.asked, ","); c.asked != "" && asked != c.asked {
				t.Errorf("asked %s", asked)
			}
		})
	}
}

func TestLookForVolumeAttributesClasses(t *testing.T) {
	served, granted := &authority{kinds: []string{"storageclasses", "volumeattributesclasses"}}, "list volumeattributesclasses,watch volumeattributesclasses"
	for _, c := range []struct {
		name     string
		server   *authority
		gate     options.Gate
		modifies bool
		want     access
		asked    string
	}{
		{"they are served and granted", served, options.GateAuto, true, access{patchClaims: true, attributesClasses: true}, granted},
		{"the driver has none", &authority{}, options.GateOn, false, access{patchClaims: true}, ""},
		{"the gate is closed", &authority{}, options.GateOff, true, access{patchClaims: true}, ""},
		{"they are not served", &authority{kinds: []string{"storageclasses"}}, options.GateOn, true, access{patchClaims: true, attributesMissing: true}, ""},
		{"the whole group is not served", &authority{}, options.GateAuto, true, access{patchClaims: true, attributesMissing: true}, ""},
		{"they may not be watched", &authority{kinds: []string{"volumeattributesclasses"}, denied: []string{"watch volumeattributesclasses"}}, options.GateAuto, true,
			access{patchClaims: true}, granted},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options.Options{ClonePolicy: options.Compatible, AttributesClasses: c.gate}
			got := look(t.Context(), clientOf(t, c.server), &o, abilities{modifies: c.modifies})
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			want := strings.TrimSuffix("patch persistentvolumeclaims,"+c.asked, ",")
			if asked := strings.Join(c.server.asked, ","); asked != want {
				t.Errorf("asked %s", asked)
			}
		})
	}
}

func TestServed(t *testing.T) {
	for _, c := range []struct {
		name   string
		server *authority
		want   bool
	}{
		{"ReferenceGrants are there", &authority{kinds: []string{"gateways", "referencegrants"}}, true},
		{"the API server is late", &authority{kinds: []string{"referencegrants"}, late: 1, code: http.StatusServiceUnavailable}, true},
		{"the Gateway API is not there", &authority{}, false},
		{"the Gateway API is there without them", &authority{kinds: []string{"gateways", "httproutes"}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := served(t.Context(), clientOf(t, c.server), informers.ReferenceGrants(), ""); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}
