package protection

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/claimwriter"
)

// slow is an API server that a real one cannot be made to be: it keeps the patch of
// one claim waiting, and answers all others.
type slow struct {
	name    string
	entered chan struct{}
	gate    chan struct{}
}

func (s slow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	if name == s.name {
		close(s.entered)
		<-s.gate
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": "PersistentVolumeClaim", "apiVersion": "v1",
		"metadata": map[string]any{"name": name, "namespace": "shop", "uid": name, "resourceVersion": "2"},
	})
}

// Clones of many sources that are created at once must not stand in line for the
// writes to one another's sources.
func TestASourceThatIsBeingWrittenToHoldsUpNoOther(t *testing.T) {
	s := slow{name: "slow", entered: make(chan struct{}), gate: make(chan struct{})}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	c := controller(t)
	c.Sources = Claims(claimwriter.New(client, false), c.Caches, driver, nil)

	slowly := make(chan error, 1)
	go func() { slowly <- c.Hold(t.Context(), "claim of slow", named("slow")) }()
	<-s.entered
	const others = 200
	quickly := make(chan error, others)
	for n := range others {
		name := fmt.Sprintf("other-%d", n)
		go func() { quickly <- c.Hold(t.Context(), types.UID("claim of "+name), named(name)) }()
	}
	patience := time.AfterFunc(3*time.Minute, func() {
		t.Error("not all sources are protected while another one is being written to")
		close(s.gate)
	})
	for range others {
		if err := <-quickly; err != nil {
			t.Error(err)
		}
	}
	if patience.Stop() {
		close(s.gate)
	}
	if err := <-slowly; err != nil {
		t.Error(err)
	}
}
