package nodelocal

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/claimwriter"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/informers"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

const name = "clone.example.com"

// world is a Controller whose clock stands, and that is not run: a test looks itself.
type world struct {
	*Controller
	clock *testingclock.FakeClock
	// free is what the driver has, trouble what it answers instead, if not nil.
	free    int64
	trouble error
	asked   int
	// node exists, and answer is what patches are answered with.
	nodes  map[string]bool
	answer int

	mu      sync.Mutex
	patches []string
}

func (w *world) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	response.Header().Set("Content-Type", "application/json")
	if request.Method != http.MethodPatch || !strings.Contains(request.URL.Path, "persistentvolumeclaims") {
		response.WriteHeader(http.StatusCreated)
		_, _ = io.Copy(response, request.Body) // an event
		return
	}
	body, _ := io.ReadAll(request.Body)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.patches = append(w.patches, string(body))
	if w.answer == http.StatusOK {
		_ = json.NewEncoder(response).Encode(claim("", "2"))
		return
	}
	response.WriteHeader(w.answer)
	reason := metav1.StatusReasonConflict
	if w.answer != http.StatusConflict {
		reason = metav1.StatusReasonForbidden
	}
	_ = json.NewEncoder(response).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: int32(w.answer), Reason: reason, //nolint:gosec // a status
	})
}

// claim is one of 1Gi.
func claim(node, version string, finalizers ...string) *v1.PersistentVolumeClaim {
	c := &v1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "db", UID: "uid-db", ResourceVersion: version, Finalizers: finalizers,
		Annotations: map[string]string{wellknown.StorageProvisioner: name},
	}}
	c.Spec.Resources.Requests = v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")}
	if node != "" {
		c.Annotations[wellknown.SelectedNode] = node
	}
	return c
}

func volume(bytes int64) *csi.CreateVolumeRequest {
	return &csi.CreateVolumeRequest{CapacityRange: &csi.CapacityRange{RequiredBytes: bytes}}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{clock: testingclock.NewFakeClock(time.Unix(1700000000, 0)), free: 100, answer: http.StatusOK, nodes: map[string]bool{}}
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	none := func(*v1.PersistentVolumeClaim) string { return "" }
	caches, err := informers.New(client, name, informers.Keys{CloneSource: none, Snapshot: none, VolumeName: none}, informers.Wanted{})
	if err != nil {
		t.Fatal(err)
	}
	recorder := observe.NewRecorder(t.Context(), client, name, w.clock)
	w.Controller = New(Config{
		Here: Place{Node: "here", Segments: map[string]string{"node": "here"}}, Driver: name, Keys: wellknown.RecordOf(name).OnNode("here"),
		Caches: caches, Writer: claimwriter.New(client, false), Recorder: recorder,
		Immediate: true, Delays: Delays{Base: 20 * time.Second, Max: time.Minute},
		Room: func(context.Context, *csi.GetCapacityRequest) (int64, int64, error) {
			w.asked++
			return w.free, 0, w.trouble
		},
		NodeExists: func(_ context.Context, node string) (bool, error) { return w.nodes[node], nil },
		Random:     func(time.Duration) time.Duration { return 0 },
		Clock:      w.clock,
	})
	t.Cleanup(w.queue.ShutDown)
	t.Cleanup(recorder.Stop)
	w.see(t, claim("", "1"))
	return w
}

// see puts a claim into the cache.
func (w *world) see(t *testing.T, c *v1.PersistentVolumeClaim) {
	t.Helper()
	if err := w.Caches.Claims.GetStore().Add(c); err != nil {
		t.Fatal(err)
	}
}

// after looks when some time has passed.
func (w *world) after(t *testing.T, d time.Duration) {
	t.Helper()
	w.clock.SetTime(w.clock.Now().Add(d))
	w.look(t.Context(), key{"shop", "db", "uid-db"})
}

func (w *world) said() verdict.Reason { return w.Recorder.Last("uid-db") }

func (w *world) written() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.patches
}

// A claim is taken when its time has come, not before, in the version that was judged.
func TestAClaimIsTakenInTime(t *testing.T) {
	w := newWorld(t)
	w.Bid(claim("", "1"), volume(10))
	w.after(t, 19*time.Second)
	if w.asked != 0 {
		t.Fatal("the driver was asked too early")
	}
	w.Bid(claim("", "7"), volume(10)) // it changed; its time stays the same
	w.after(t, time.Second)
	want := `{"metadata":{"annotations":{"volume.kubernetes.io/selected-node":"here"},"resourceVersion":"7","uid":"uid-db"}}`
	if got := w.written(); len(got) != 1 || got[0] != want {
		t.Errorf("written: %v", got)
	}
	w.after(t, time.Hour)
	if len(w.written()) != 1 {
		t.Error("it was taken once more")
	}
}

// Whoever was faster has it: the new version is judged again, later.
func TestAClaimThatHasChangedIsNotTaken(t *testing.T) {
	for _, answer := range []int{http.StatusConflict, http.StatusForbidden} {
		w := newWorld(t)
		w.answer = answer
		w.Bid(claim("", "1"), volume(10))
		w.after(t, 20*time.Second)
		w.after(t, 39*time.Second)
		if n := len(w.written()); n != 1 {
			t.Errorf("%d: written %d times", answer, n)
		}
		w.answer = http.StatusOK
		w.Bid(claim("", "2"), volume(10))
		w.after(t, time.Second)
		if n := len(w.written()); n != 2 {
			t.Errorf("%d: written %d times", answer, n)
		}
	}
}

// Without room nothing is written; after the longest delay it is told, and a volume that goes
// has it looked at at once.
func TestWithoutRoom(t *testing.T) {
	w := newWorld(t)
	w.free = 9
	w.Bid(claim("", "1"), volume(10))
	w.after(t, 20*time.Second)
	w.after(t, 39*time.Second)
	if w.asked != 1 || w.said() != "" {
		t.Fatalf("asked %d times, said %q", w.asked, w.said())
	}
	w.after(t, time.Second)
	if w.asked != 2 || w.said() != verdict.NotTaken {
		t.Fatalf("asked %d times, said %q", w.asked, w.said())
	}
	w.Freed()
	w.free = 10
	w.after(t, 20*time.Second)
	if len(w.written()) != 1 {
		t.Error("it was not taken when there was room")
	}
}

// What could not be made here is not taken, and told as well.
func TestAVolumeThatCannotBeMadeHere(t *testing.T) {
	w := newWorld(t)
	w.Bid(claim("", "1"), nil)
	for range 3 {
		w.after(t, time.Minute)
	}
	if w.asked != 0 || len(w.written()) != 0 || w.said() != verdict.NotTaken {
		t.Errorf("asked %d times, wrote %v, said %q", w.asked, w.written(), w.said())
	}
	// Another node has it meanwhile: nothing is said of the old version.
	w = newWorld(t)
	w.Bid(claim("", "1"), nil)
	w.see(t, claim("there", "2"))
	for range 3 {
		w.after(t, time.Minute)
	}
	if w.said() != "" {
		t.Errorf("said %q", w.said())
	}
}

// A driver that does not answer gets no claims; what else it answers the user is to learn.
func TestDriversThatDoNotTellTheirRoom(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		taken bool
	}{
		"no answer":        {status.Error(codes.DeadlineExceeded, "late"), false},
		"away":             {status.Error(codes.Unavailable, "away"), false},
		"no status at all": {errors.New("broken"), false},
		"not offered":      {status.Error(codes.Unimplemented, "never"), true},
		"a wrong question": {status.Error(codes.InvalidArgument, "what?"), true},
	} {
		w := newWorld(t)
		w.trouble = c.err
		w.Bid(claim("", "1"), volume(10))
		w.after(t, 20*time.Second)
		if got := len(w.written()) == 1; got != c.taken {
			t.Errorf("%s: taken: %t", name, got)
		}
	}
	w := newWorld(t)
	w.Room = nil
	w.Bid(claim("", "1"), volume(10))
	w.after(t, 20*time.Second)
	if len(w.written()) != 1 {
		t.Error("a driver that cannot tell its room gets no claim")
	}
}

// N-3: nothing is kept of claims that are gone, bound, or another node's.
func TestNothingIsKept(t *testing.T) {
	w := newWorld(t)
	w.Bid(claim("", "1"), volume(10))
	w.Drop("shop", "db", "uid-db")
	w.after(t, time.Hour)
	if w.asked != 0 || w.Waiting() != 0 {
		t.Errorf("asked %d times, %d are kept", w.asked, w.Waiting())
	}
	w.Watch(claim("there", "2"))
	bound := claim("there", "3")
	bound.Spec.VolumeName = "pvc-1"
	w.Watch(bound)
	if w.Waiting() != 0 {
		t.Error("a claim is kept that is bound")
	}
}

// One that comes back, because the driver had no room after all, waits longer.
func TestAClaimThatComesBackWaitsLonger(t *testing.T) {
	w := newWorld(t)
	w.Bid(claim("", "1"), volume(10))
	w.after(t, 20*time.Second)
	w.Bid(claim("", "5"), volume(10))
	w.after(t, 39*time.Second)
	if n := len(w.written()); n != 1 {
		t.Fatalf("written %d times", n)
	}
	w.after(t, time.Second)
	if n := len(w.written()); n != 2 {
		t.Errorf("written %d times", n)
	}
}

// N-6: what becomes of claims of other nodes.
func TestClaimsOfOtherNodes(t *testing.T) {
	central := wellknown.RecordOf(name)
	deleted := claim("there", "1")
	deleted.DeletionTimestamp = &metav1.Time{}
	for _, c := range []struct {
		name   string
		claim  *v1.PersistentVolumeClaim
		exists bool
		patch  string
		said   verdict.Reason
	}{
		{"its node is there", claim("there", "1"), true, "", ""},
		{"its node is gone", claim("there", "1"), false, `{"metadata":{"annotations":{"volume.kubernetes.io/selected-node":null},"resourceVersion":"1","uid":"uid-db"}}`, ""},
		{"its node is gone, and so will be the claim", deleted, false, "", ""},
		{"its node is there, and has begun", claim("there", "1", central.OnNode("there").Finalizer), true, "", ""},
		{"its node is gone, and has begun", claim("there", "1", central.OnNode("there").Finalizer), false, "", verdict.RecordOfAnother},
		{"its node is gone, and a third has begun", claim("there", "1", central.OnNode("third").Finalizer), false, "", ""},
		{"one for all nodes has begun", claim("there", "1", central.Finalizer), true, "", verdict.RecordOfAnother},
		{"another has begun, and nobody can tell which", claim("", "1", central.OnNode("there").Finalizer), false, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.nodes["there"] = c.exists
			w.Watch(c.claim)
			w.after(t, 10*time.Minute-time.Second)
			w.after(t, time.Second)
			if got := strings.Join(w.written(), ""); got != c.patch || w.said() != c.said {
				t.Errorf("wrote %s, said %q", got, w.said())
			}
		})
	}
}

// Looks at claims of other nodes become seldom, and are spread.
func TestPause(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		looks  int
		random time.Duration
		want   time.Duration
	}{
		{0, 0, 5 * time.Minute},
		{0, 4 * time.Minute, 9 * time.Minute},
		{1, 0, 10 * time.Minute},
		{4, 0, time.Hour},
		{100, 0, time.Hour},
	} {
		w.Random = func(time.Duration) time.Duration { return c.random }
		if got := w.pause(c.looks); got != c.want {
			t.Errorf("after %d looks: %s, want %s", c.looks, got, c.want)
		}
	}
}

// N-9: a driver whose node is somewhere else all of a sudden ends the program with a
// sentence, and one that does not answer does not.
func TestATopologyThatChangesEndsTheProgram(t *testing.T) {
	w := newWorld(t)
	answers := []map[string]string{{"node": "here"}, nil, {"node": "there"}}
	ticks := make(chan time.Time, len(answers))
	for range answers {
		ticks <- time.Time{}
	}
	ask := func(context.Context) (map[string]string, error) {
		segments := answers[0]
		answers = answers[1:]
		if segments == nil {
			return nil, errors.New("no idea")
		}
		return segments, nil
	}
	const want = `the topology of node "here", as driver "clone.example.com" tells it, has changed from "node=here" to "node=there"; exiting so that it is read anew`
	if err := w.moved(t.Context(), ticks, ask); err == nil || err.Error() != want || len(answers) != 0 {
		t.Errorf("it ended with %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.RunMoved(ctx, ask); err != nil {
		t.Error(err)
	}
}
