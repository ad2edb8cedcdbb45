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
	c.Writer = claimwriter.New(client, false)

	held := make(chan error, 1)
	go func() { held <- c.Hold(t.Context(), "claim of slow", named("slow")) }()
	<-s.entered
	const others = 200
	done := make(chan error, others)
	for n := range others {
		name := fmt.Sprintf("other-%d", n)
		go func() { done <- c.Hold(t.Context(), types.UID("claim of "+name), named(name)) }()
	}
	patience := time.After(30 * time.Second)
	for n := range others {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-patience:
			t.Errorf("%d of %d sources are not protected while another one is being written to", others-n, others)
			close(s.gate)
			<-held
			for range others - n {
				<-done
			}
			return
		}
	}
	close(s.gate)
	if err := <-held; err != nil {
		t.Error(err)
	}
}
