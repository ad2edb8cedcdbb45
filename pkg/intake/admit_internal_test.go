package intake

import (
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Listing the pods may take half a minute; a source that is being deleted, or was recreated
// meanwhile, must not be used.
func TestTheRulesHoldAfterTheLook(t *testing.T) {
	for _, c := range []struct {
		name string
		// then changes the source while the pods are listed.
		then func(source *v1.PersistentVolumeClaim)
		// written is how many records are, queued how many claims are judged again.
		written, queued int
	}{
		{"nothing changed", func(*v1.PersistentVolumeClaim) {}, 1, 0},
		{"the source changed, but is the one that was looked at", func(s *v1.PersistentVolumeClaim) { s.ResourceVersion = "6" }, 1, 0},
		{"the source is being deleted", func(s *v1.PersistentVolumeClaim) { s.DeletionTimestamp = new(metav1.Now()) }, 0, 0},
		{"the source was made again", func(s *v1.PersistentVolumeClaim) { s.UID = "uid-other" }, 0, 1},
		{"the source has another PV", func(s *v1.PersistentVolumeClaim) { s.Spec.VolumeName = "pv-other" }, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &answers{}
			i, claim := behindServer(t, a)
			db := cloneDB(t, i, claim)
			a.pods = func() []v1.Pod {
				changed := db.DeepCopy()
				c.then(changed)
				put(t, i, changed)
				putPV(t, i, changed.Spec.VolumeName, changed)
				return nil
			}
			put(t, i, claim)
			if err := i.reconcile(t.Context(), keyOf(claim)); err != nil {
				t.Fatal(err)
			}
			if a.patches != c.written || i.queue.Len() != c.queued {
				t.Errorf("%d records written, %d claims to be judged again", a.patches, i.queue.Len())
			}
		})
	}
}
