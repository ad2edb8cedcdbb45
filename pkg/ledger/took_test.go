package ledger_test

import (
	"testing"
	"time"

	testingclock "k8s.io/utils/clock/testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
)

func TestHowLongAClaimTook(t *testing.T) {
	for _, c := range []struct {
		name  string
		begin func(*ledger.Turn)
		known bool
	}{
		{"this process put it on record", (*ledger.Turn).Recording, true},
		{"this process admitted it without a record", (*ledger.Turn).Admitting, true},
		{"an earlier process did", func(*ledger.Turn) {}, false},
		{"it was released", func(turn *ledger.Turn) { turn.Recording(); turn.Close() }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			hands := testingclock.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
			turn, _ := ledger.New(time.Second, hands).Take("uid")
			c.begin(turn)
			hands.Step(90 * time.Second)
			before := turn.Calling(nil)
			turn.Answered(before, ledger.Created)
			turn.Saved()
			took, known := turn.Took()
			if known != c.known || known && took != 90*time.Second {
				t.Errorf("took %s, known %t", took, known)
			}
		})
	}
}
