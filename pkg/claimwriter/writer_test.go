package claimwriter_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/claimwriter"
)

// server is an API server with one claim, whose answers can be made to conflict.
type server struct {
	t *testing.T
	// claim as it is stored: with fields that no client of today knows.
	claim map[string]any
	// meanwhile is how many more updates somebody else is faster than.
	meanwhile int
	requests  []string
}

func (s *server) metadata() map[string]any {
	metadata, ok := s.claim["metadata"].(map[string]any)
	if !ok {
		s.t.Fatalf("the stored claim is %v", s.claim)
	}
	return metadata
}

func (s *server) next() {
	version, err := strconv.Atoi(s.metadata()["resourceVersion"].(string))
	if err != nil {
		s.t.Fatal(err)
	}
	s.metadata()["resourceVersion"] = strconv.Itoa(version + 1)
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	s.requests = append(s.requests, r.Method)
	if r.Method == http.MethodPut {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			s.t.Error(err)
		}
		sent := map[string]any{}
		if err := json.Unmarshal(data, &sent); err != nil {
			s.t.Errorf("%s: %v", data, err)
		}
		if s.meanwhile > 0 {
			s.meanwhile--
			s.metadata()["labels"] = map[string]any{"else": strconv.Itoa(s.meanwhile)}
			s.next()
		}
		version := sent["metadata"].(map[string]any)["resourceVersion"]
		if version != s.metadata()["resourceVersion"] {
			w.WriteHeader(http.StatusConflict)
			_ = json.NewEncoder(w).Encode(metav1.Status{Status: "Failure", Code: http.StatusConflict, Reason: metav1.StatusReasonConflict})
			return
		}
		s.claim = sent
		s.next()
	}
	_ = json.NewEncoder(w).Encode(s.claim)
}

func start(t *testing.T) (*server, *claimwriter.Writer) {
	t.Helper()
	s := &server{t: t, claim: map[string]any{
		"apiVersion": "v1", "kind": "PersistentVolumeClaim",
		"metadata": map[string]any{
			"namespace": "shop", "name": "copy", "uid": "uid-copy", "resourceVersion": "5",
			"finalizers": []any{"kubernetes.io/pvc-protection"}, "annotations": map[string]any{"ours": "1", "theirs": "2"},
			"moodOfTheYear2040": "good",
		},
		"spec": map[string]any{"volumeName": "pv", "fieldOf2040": map[string]any{"deep": true}},
	}}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: web.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	return s, claimwriter.New(client, true)
}

func claim() *v1.PersistentVolumeClaim {
	return &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "copy"}}
}

func TestAWholeUpdateChangesNothingElse(t *testing.T) {
	s, writer := start(t)
	after, err := writer.Patch(t.Context(), claim(), []byte(`{"metadata":{"uid":"uid-copy","finalizers":["example.com/ours"],"annotations":{"ours":null,"new":"3"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if after.ResourceVersion != "6" || len(after.Finalizers) != 2 {
		t.Errorf("got version %s with %v", after.ResourceVersion, after.Finalizers)
	}
	want := map[string]any{
		"apiVersion": "v1", "kind": "PersistentVolumeClaim",
		"metadata": map[string]any{
			"namespace": "shop", "name": "copy", "uid": "uid-copy", "resourceVersion": "6",
			"finalizers":        []any{"example.com/ours", "kubernetes.io/pvc-protection"},
			"annotations":       map[string]any{"new": "3", "theirs": "2"},
			"moodOfTheYear2040": "good",
		},
		"spec": map[string]any{"volumeName": "pv", "fieldOf2040": map[string]any{"deep": true}},
	}
	if !reflect.DeepEqual(s.claim, want) {
		t.Errorf("stored is\n%v\nwant\n%v", s.claim, want)
	}
	if !reflect.DeepEqual(s.requests, []string{"GET", "PUT"}) {
		t.Errorf("requests were %v", s.requests)
	}
}

func TestAWholeUpdateTakesAFinalizerOff(t *testing.T) {
	s, writer := start(t)
	_, err := writer.Patch(t.Context(), claim(), []byte(`{"metadata":{"uid":"uid-copy","$deleteFromPrimitiveList/finalizers":["kubernetes.io/pvc-protection"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if finalizers, _ := s.metadata()["finalizers"].([]any); len(finalizers) > 0 {
		t.Errorf("finalizers are %v", finalizers)
	}
}

func TestWhatHoldsForAnyVersionIsTriedOnTheNext(t *testing.T) {
	s, writer := start(t)
	s.meanwhile = 2
	if _, err := writer.Patch(t.Context(), claim(), []byte(`{"metadata":{"uid":"uid-copy","annotations":{"new":"3"}}}`)); err != nil {
		t.Fatal(err)
	}
	if s.metadata()["annotations"].(map[string]any)["new"] != "3" || s.metadata()["labels"] == nil {
		t.Errorf("stored is %v", s.metadata())
	}
}

func TestWhatHoldsForOneVersionIsNotWrittenToAnother(t *testing.T) {
	for _, c := range []struct {
		name, patch string
		meanwhile   int
	}{
		{"the version is old", `{"metadata":{"uid":"uid-copy","resourceVersion":"4","annotations":{"new":"3"}}}`, 0},
		{"somebody is faster", `{"metadata":{"uid":"uid-copy","resourceVersion":"5","annotations":{"new":"3"}}}`, 1},
		{"it is another claim of the same name", `{"metadata":{"uid":"uid-old","annotations":{"new":"3"}}}`, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, writer := start(t)
			s.meanwhile = c.meanwhile
			_, err := writer.Patch(t.Context(), claim(), []byte(c.patch))
			if !apierrors.IsConflict(err) {
				t.Errorf("got %v, want a conflict", err)
			}
			if s.metadata()["annotations"].(map[string]any)["new"] != nil {
				t.Errorf("it was written: %v", s.claim)
			}
		})
	}
}

// A process that may not lead any more leaves the records to the one that does.
func TestNothingIsWrittenByAProcessThatMayNot(t *testing.T) {
	s, writer := start(t)
	late := errors.New("the lease was not renewed in time")
	writer.MayWrite = func() error { return late }
	if _, err := writer.Patch(t.Context(), claim(), []byte(`{"metadata":{"uid":"uid-copy","annotations":{"ours":"2"}}}`)); !errors.Is(err, late) {
		t.Errorf("got %v, want %v", err, late)
	}
	if len(s.requests) > 0 {
		t.Errorf("requests were %v", s.requests)
	}
	writer.MayWrite = func() error { return nil }
	if _, err := writer.Patch(t.Context(), claim(), []byte(`{"metadata":{"uid":"uid-copy","annotations":{"ours":"2"}}}`)); err != nil {
		t.Error(err)
	}
}
