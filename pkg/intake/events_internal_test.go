package intake

import (
	"testing"

	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

func TestWhoWaitsForAVolumeNameIsWokenWhenItIsFree(t *testing.T) {
	named := func(version, name string, finalizers ...string) *v1.PersistentVolumeClaim {
		c := claim(version)
		c.Annotations, c.Finalizers = map[string]string{wellknown.RecordOf(driver).VolumeName: name}, finalizers
		return c
	}
	ours := intake(t).Keys.Finalizer
	other := named("2", "a-uid-copy", ours)
	other.UID = "uid-other"
	for _, c := range []struct {
		name     string
		old, now *v1.PersistentVolumeClaim
		want     int
	}{
		{"it stays on record", named("1", "a-uid-copy", ours), named("2", "a-uid-copy", ours), 0},
		{"it was not on record", named("1", "a-uid-copy"), named("2", "a-uid-copy"), 0},
		{"it comes on record", named("1", "a-uid-copy"), named("2", "a-uid-copy", ours), 0},
		{"its record is off", named("1", "a-uid-copy", ours), named("2", "a-uid-copy"), 1},
		{"somebody has changed the name on record", named("1", "a-uid-copy", ours), named("2", "b-uid-copy", ours), 1},
		{"it was deleted and made again", named("1", "a-uid-copy", ours), other, 1},
		{"it is gone", named("1", "a-uid-copy", ours), nil, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			i, _ := behindServer(t, &answers{})
			i.waiting.Add(key{"shop", "waits", "uid-waits"}, waitlist.VolumeName("a-uid-copy"))
			if handler := i.handler(func(any) {}); c.now == nil {
				handler.OnDelete(c.old)
			} else {
				handler.OnUpdate(c.old, c.now)
			}
			if got := i.queue.Len(); got != c.want {
				t.Errorf("%d claims are woken, want %d", got, c.want)
			}
		})
	}
}
