package intake

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/planner"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/source"
)

// keeper notes which sources are held, and which are looked at again.
type keeper struct {
	nobody
	held, looked []string
}

func (k *keeper) Hold(_ context.Context, _ types.UID, plan planner.Plan) error {
	k.held = append(k.held, plan.Source.Name)
	return nil
}
func (k *keeper) Reconsider(ref source.Ref) { k.looked = append(k.looked, ref.Name) }

// No rule is skipped by a record that this process did not write: it is judged as if
// it were not there, holds no source before it is let go on, and the engine is woken
// only then.
func TestARecordThatIsFoundIsJudged(t *testing.T) {
	type change = func(t *testing.T, i *Intake, a *answers, claim, db *v1.PersistentVolumeClaim)
	small := func(_ *testing.T, _ *Intake, _ *answers, claim, _ *v1.PersistentVolumeClaim) {
		claim.Spec.Resources.Requests[v1.ResourceStorage] = resource.MustParse("1Mi")
	}
	noClass := func(t *testing.T, i *Intake, _ *answers, _, _ *v1.PersistentVolumeClaim) {
		t.Helper()
		if err := i.Caches.Classes.GetStore().Delete(i.Caches.Class("fast")); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name         string
		change       []change
		own, doubted bool
		held, looked []string
		woken        bool
	}{
		{name: "the rules let it go on", own: true, held: []string{"db"}, woken: true},
		{name: "a rule is broken", change: []change{small}, doubted: true, looked: []string{"db"}},
		{name: "a rule is broken that is skipped for work in progress", change: []change{func(_ *testing.T, _ *Intake, _ *answers, _, db *v1.PersistentVolumeClaim) {
			db.Spec.StorageClassName = new("other")
		}}, doubted: true, looked: []string{"db"}},
		{name: "it must wait", change: []change{func(t *testing.T, i *Intake, _ *answers, _, db *v1.PersistentVolumeClaim) {
			t.Helper()
			if err := i.Caches.Claims.GetStore().Delete(db); err != nil {
				t.Fatal(err)
			}
		}}, doubted: true, looked: []string{"db"}},
		{name: "its class is gone", change: []change{noClass}},
		{name: "its class is gone, and a rule is broken", change: []change{noClass, small}, doubted: true, looked: []string{"db"}},
		{name: "its source is in use", change: []change{func(_ *testing.T, _ *Intake, a *answers, _, _ *v1.PersistentVolumeClaim) {
			pod := v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "app"}, Spec: v1.PodSpec{NodeName: "a"}}
			pod.Spec.Volumes = []v1.Volume{{Name: "data", VolumeSource: v1.VolumeSource{PersistentVolumeClaim: &v1.PersistentVolumeClaimVolumeSource{ClaimName: "db"}}}}
			a.pods = func() []v1.Pod { return []v1.Pod{pod} }
		}}, doubted: true, looked: []string{"db"}},
		{name: "nobody could look who uses the source", change: []change{func(_ *testing.T, _ *Intake, a *answers, _, _ *v1.PersistentVolumeClaim) { a.pods = nil }}, own: true, held: []string{"db"}, woken: true},
		{name: "its node was withdrawn", change: []change{func(t *testing.T, i *Intake, _ *answers, _, _ *v1.PersistentVolumeClaim) {
			t.Helper()
			class := i.Caches.Class("fast").DeepCopy()
			class.VolumeBindingMode = new(storagev1.VolumeBindingWaitForFirstConsumer)
			if err := i.Caches.Classes.GetStore().Update(class); err != nil {
				t.Fatal(err)
			}
		}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &answers{pods: func() []v1.Pod { return nil }}
			i, claim := behindServer(t, a)
			db := cloneDB(t, i, claim)
			claim.Finalizers = []string{i.Keys.Finalizer}
			claim.Annotations[i.Keys.VolumeName], claim.Annotations[i.Keys.RequiredBytes] = "pvc-uid-copy", "1073741824"
			claim.Annotations[i.Keys.ContentSource], claim.Annotations[i.Keys.ReclaimPolicy] = "volume:vol-of-pv-db", "Delete"
			for _, change := range c.change {
				change(t, i, a, claim, db)
			}
			put(t, i, claim)
			protector, woken := &keeper{}, false
			i.Protector = protector
			i.WakeEngine = func(*v1.PersistentVolumeClaim) { woken = true }
			if err := i.reconcile(t.Context(), keyOf(claim)); err != nil {
				t.Fatal(err)
			}
			if i.Ledger.Own(claim.UID) != c.own || i.Ledger.Doubted(claim.UID) != c.doubted {
				t.Errorf("own: %t, doubted: %t", i.Ledger.Own(claim.UID), i.Ledger.Doubted(claim.UID))
			}
			if !slices.Equal(protector.held, c.held) || !slices.Equal(protector.looked, c.looked) || woken != c.woken {
				t.Errorf("held: %v, looked at: %v, engine woken: %t", protector.held, protector.looked, woken)
			}
		})
	}
}

// What is asked for must be on record before, for whoever comes after us; a record
// that a user wrote, or changed, may say something else, or nothing.
func TestARecordThatIsFoundIsCompletedFirst(t *testing.T) {
	for name, deleted := range map[string]bool{"a claim that is wanted": false, "one that is to be cleaned up": true} {
		t.Run(name, func(t *testing.T) {
			a := &answers{}
			i, claim := behindServer(t, a)
			claim.Finalizers = []string{i.Keys.Finalizer}
			claim.Annotations[i.Keys.VolumeName] = "of-somebody-else"
			undone := &undoes{}
			i.Cleaner = undone
			work := i.reconcile
			if deleted {
				claim.DeletionTimestamp = &metav1.Time{Time: time.Now()}
				work = i.clean
			}
			undone.patches = func() int { return a.patches }
			put(t, i, claim)
			if err := work(t.Context(), keyOf(claim)); err != nil {
				t.Fatal(err)
			}
			if a.patches != 1 || i.Ledger.Own(claim.UID) {
				t.Errorf("%d patches, own: %t; want it written before anything is asked", a.patches, i.Ledger.Own(claim.UID))
			}
			if deleted && undone.after != 1 {
				t.Errorf("it was undone after %d writes, want 1", undone.after)
			}
		})
	}
}

// undoes notes how many patches there were before it was asked to undo.
type undoes struct {
	patches func() int
	after   int
}

func (u *undoes) Undo(context.Context, *ledger.Turn, *v1.PersistentVolumeClaim) error {
	u.after = u.patches()
	return nil
}

// What must be asked for now is not what is on record: the record is taken off before
// anything is asked, and only as long as nothing exists.
func TestAStaleRecordIsTakenOff(t *testing.T) {
	for name, c := range map[string]struct {
		do      func(*ledger.Turn)
		patches int
	}{
		"never called":                     {func(*ledger.Turn) {}, 1},
		"nothing exists after a call":      {func(turn *ledger.Turn) { turn.Answered(turn.Calling(nil), ledger.Absent) }, 1},
		"a volume may exist":               {func(turn *ledger.Turn) { turn.Answered(turn.Calling(nil), ledger.Indeterminate) }, 0},
		"somebody is asking at the moment": {func(turn *ledger.Turn) { turn.Calling(nil) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			a := &answers{}
			i, claim := behindServer(t, a)
			claim.Finalizers = []string{i.Keys.Finalizer}
			claim.Annotations[i.Keys.RequiredBytes] = "2147483648" // the claim asks for less
			put(t, i, claim)
			turn, _ := i.Ledger.Take(claim.UID)
			turn.Recording()
			c.do(turn)
			turn.Done()
			if err := i.reconcile(t.Context(), keyOf(claim)); err != nil {
				t.Fatal(err)
			}
			if a.patches != c.patches {
				t.Errorf("%d patches, want %d", a.patches, c.patches)
			}
		})
	}
}

// Of two claims whose volumes would have one name only one is admitted, also when
// both are judged before the record of either can be seen.
func TestAVolumeNameIsReserved(t *testing.T) {
	i, _ := behindServer(t, &answers{})
	first, second := key{"shop", "a", "uid-a"}, key{"shop", "b", "uid-b"}
	for _, what := range []string{"a free name", "one's own name"} {
		if !i.reserve("pvc-1", first) {
			t.Errorf("%s cannot be reserved", what)
		}
	}
	if i.reserve("pvc-1", second) {
		t.Error("two claims have one name")
	}
	if !i.reserve("pvc-2", second) {
		t.Error("another name cannot be reserved")
	}
	i.unreserve(first)
	if i.queue.Len() == 0 {
		t.Error("who waits for the name is not woken")
	}
	if !i.reserve("pvc-1", second) {
		t.Error("a name that was given back cannot be reserved")
	}
	i.unreserve(second)
	i.unreserve(second)
	if len(i.names) != 0 || len(i.reserved) != 0 {
		t.Errorf("left behind: %v, %v", i.names, i.reserved)
	}
}

// Who changes our record again and again, a webhook perhaps, does not keep us busy.
func TestARecordIsMendedAFewTimes(t *testing.T) {
	a := &answers{}
	i, claim := behindServer(t, a)
	claim.Finalizers = []string{i.Keys.Finalizer}
	turn, _ := i.Ledger.Take(claim.UID)
	turn.Recording()
	turn.Answered(turn.Calling(&csi.CreateVolumeRequest{Name: "pvc-uid-copy"}), ledger.Indeterminate)
	turn.Done()
	for range 20 {
		changed := claim.DeepCopy()
		changed.Annotations[i.Keys.VolumeName] = "other"
		i.mu.Lock()
		clear(i.written)
		i.mu.Unlock()
		put(t, i, changed)
		if err := i.reconcile(t.Context(), keyOf(claim)); err != nil {
			t.Fatal(err)
		}
	}
	if a.patches != mostMends {
		t.Errorf("%d writes, want %d", a.patches, mostMends)
	}
}
