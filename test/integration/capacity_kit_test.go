package integration

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
)

const (
	hostKey = "demo.example/host"
	gi      = int64(1) << 30
)

// capacityRules are what rbac-capacity.yaml grants in another namespace than the test's.
func capacityRules(t *testing.T) []rbacv1.PolicyRule {
	t.Helper()
	root, err := repo.Root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "deploy", "kubernetes", "rbac-capacity.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var role rbacv1.Role
		if err := yaml.Unmarshal([]byte(document), &role); err != nil {
			t.Fatal(err)
		}
		if role.Kind == "Role" {
			return role.Rules
		}
	}
	t.Fatal("rbac-capacity.yaml has no Role")
	return nil
}

// placed gives the driver a topology. Where its volumes are does not matter to capacity,
// for that is what the rooms say.
func placed() kit.Option {
	return kit.WithPlaces(map[string]string{zoneKey: "z1", hostKey: "h1"})
}

// publishing returns a world whose provisioner may publish capacity in the namespace of
// the test, with a driver that says what the rooms say.
func publishing(t *testing.T, options ...kit.Option) (*kit.Env, *rooms) {
	t.Helper()
	env := kit.New(t, append([]kit.Option{kit.WaitForFirstConsumer(), kit.WithRules(capacityRules(t)...)}, options...)...)
	env.Setenv("NAMESPACE", env.Namespace)
	r := &rooms{of: map[string]int64{}, usual: gi, now: map[string]int{}}
	env.Faults.On("GetCapacity").Decide(r.answer)
	return env, r
}

// capacityArgs has no owner; nothing but what happens makes the driver be asked.
func capacityArgs(args ...string) []string {
	return append([]string{"--enable-capacity", "--capacity-ownerref-level=-1", "--capacity-poll-interval=1h"}, args...)
}

// rooms are how much room there is where.
type rooms struct {
	mu sync.Mutex
	// of is the room by segment; everywhere else it is usual.
	of    map[string]int64
	usual int64
	// broken: the driver answers with an error.
	broken bool
	// hold, unless nil, keeps calls from being answered until it is closed.
	hold chan struct{}
	// now are the calls under way by segment and class, most how many there were of one at
	// once.
	now  map[string]int
	most int
}

func (r *rooms) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *rooms) set(segment string, bytes int64) { r.change(func() { r.of[segment] = bytes }) }

func (r *rooms) answer(ctx context.Context, req any, _ func(context.Context) (any, error)) (any, error) {
	asked, _ := req.(*csi.GetCapacityRequest)
	segment := segmentText(asked.GetAccessibleTopology().GetSegments())
	who := segment + asked.GetParameters()["pool"]
	var hold chan struct{}
	r.change(func() {
		r.now[who]++
		r.most, hold = max(r.most, r.now[who]), r.hold
	})
	defer r.change(func() { r.now[who]-- })
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken {
		return nil, status.Error(codes.Unavailable, "the pool is offline")
	}
	bytes, found := r.of[segment]
	if !found {
		bytes = r.usual
	}
	return &csi.GetCapacityResponse{AvailableCapacity: bytes}, nil
}

// segmentText leaves out what the keys have in common.
func segmentText(segments map[string]string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(segments)) {
		_, short, _ := strings.Cut(key, "/")
		parts = append(parts, short+"="+segments[key])
	}
	return strings.Join(parts, ",")
}

// capacityText says what an object says.
func capacityText(object storagev1.CSIStorageCapacity) string {
	where := "nowhere"
	if object.NodeTopology != nil {
		where = metav1.FormatLabelSelector(object.NodeTopology)
		if len(object.NodeTopology.MatchExpressions) == 0 {
			where = segmentText(object.NodeTopology.MatchLabels)
		}
	}
	text := fmt.Sprintf("%s [%s] %s", object.StorageClassName, where, object.Capacity)
	if object.MaximumVolumeSize != nil {
		text += fmt.Sprintf(" at most %s", object.MaximumVolumeSize)
	}
	return text
}

// publishedTexts returns what all objects of the test's namespace say, sorted.
func publishedTexts(env *kit.Env) []string {
	var texts []string
	for _, object := range env.Capacities() {
		texts = append(texts, capacityText(object))
	}
	slices.Sort(texts)
	return texts
}

// waitPublished waits until the objects say this. In the texts CLASS stands for the
// test's class.
func waitPublished(t *testing.T, env *kit.Env, what string, want ...string) {
	t.Helper()
	for i := range want {
		want[i] = strings.ReplaceAll(want[i], "CLASS", env.Class)
	}
	slices.Sort(want)
	env.Eventually(what, func() error {
		if got := publishedTexts(env); !slices.Equal(got, want) {
			return fmt.Errorf("published is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		return nil
	})
}

// identities returns name and uid of all objects, and with versions how often they were
// written.
func identities(env *kit.Env, versions bool) []string {
	var list []string
	for _, object := range env.Capacities() {
		text := object.Name + " " + string(object.UID)
		if versions {
			text += " " + object.ResourceVersion
		}
		list = append(list, text)
	}
	slices.Sort(list)
	return list
}
