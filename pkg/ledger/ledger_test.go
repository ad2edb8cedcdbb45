package ledger_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
)

const (
	claim   types.UID = "0d6b1d2e-7c5e-4f0a-9c55-1f1c6e7a0001"
	timeout           = 10 * time.Second
)

// hands is a clock whose hands the test moves.
type hands struct{ now time.Time }

func (h *hands) Now() time.Time                        { return h.now }
func (h *hands) Since(then time.Time) time.Duration    { return h.now.Sub(then) }
func (h *hands) move(d time.Duration)                  { h.now = h.now.Add(d) }
func newHands() *hands                                 { return &hands{time.Unix(1_800_000_000, 0)} }
func request(name string) *csi.CreateVolumeRequest     { return &csi.CreateVolumeRequest{Name: name} }
func take(t *testing.T, l *ledger.Ledger) *ledger.Turn { t.Helper(); return takeOf(t, l, claim) }
func expect(t *testing.T, got, want ledger.State)      { t.Helper(); expectAt(t, -1, got, want) }
func call(turn *ledger.Turn, answer ledger.Proof) {
	turn.Answered(turn.Calling(request("pvc-1")), answer)
}
func known(l *ledger.Ledger) (state ledger.State, ok bool) { return l.State(claim) }

func takeOf(t *testing.T, l *ledger.Ledger, uid types.UID) *ledger.Turn {
	t.Helper()
	turn, free := l.Take(uid)
	if !free {
		t.Fatal("somebody has the turn")
	}
	return turn
}

func expectAt(t *testing.T, step int, got, want ledger.State) {
	t.Helper()
	switch {
	case got == want:
	case step < 0:
		t.Errorf("state is %s, want %s", got, want)
	default:
		t.Errorf("step %d: state is %s, want %s", step, got, want)
	}
}

func TestStateNames(t *testing.T) {
	for state, want := range map[ledger.State]string{
		ledger.Unknown: "unknown", ledger.Idle: "idle", ledger.Clean: "clean",
		ledger.Saved: "saved", ledger.Closed: "closed",
	} {
		if got := state.String(); got != want {
			t.Errorf("state %d is called %q, want %q", state, got, want)
		}
	}
}

// What is known after each of a row of driver answers.
func TestAnswers(t *testing.T) {
	type answer struct {
		after time.Duration
		is    ledger.Proof
		want  ledger.State
	}
	for _, c := range []struct {
		name string
		// mine: the record was written by this process.
		mine    bool
		answers []answer
	}{
		{"a first final answer proves absence", true, []answer{{0, ledger.Absent, ledger.Clean}}},
		{"so does each later one", true, []answer{{0, ledger.Absent, ledger.Clean}, {time.Second, ledger.Absent, ledger.Clean}}},
		{"a volume that was made exists", true, []answer{{0, ledger.Created, ledger.Unknown}}},
		{"a lost answer leaves it open", true, []answer{{0, ledger.Indeterminate, ledger.Unknown}}},
		{"an unproven answer leaves it open", true, []answer{{0, ledger.Inconclusive, ledger.Unknown}}},
		{"a lost answer after a final one opens it again", true, []answer{{0, ledger.Absent, ledger.Clean}, {0, ledger.Indeterminate, ledger.Unknown}}},
		{"an unproven answer after a final one opens it again", true, []answer{{0, ledger.Absent, ledger.Clean}, {0, ledger.Inconclusive, ledger.Unknown}}},
		{"one final answer after a lost one proves nothing", true, []answer{
			{0, ledger.Indeterminate, ledger.Unknown}, {time.Hour, ledger.Absent, ledger.Unknown},
		}},
		{"two final answers less than a timeout apart prove nothing", true, []answer{
			{0, ledger.Indeterminate, ledger.Unknown}, {0, ledger.Absent, ledger.Unknown}, {timeout - 1, ledger.Absent, ledger.Unknown},
		}},
		{"two final answers one timeout apart prove absence", true, []answer{
			{0, ledger.Indeterminate, ledger.Unknown}, {0, ledger.Absent, ledger.Unknown}, {timeout, ledger.Absent, ledger.Clean},
		}},
		{"the pause is measured from the first final answer", true, []answer{
			{0, ledger.Indeterminate, ledger.Unknown}, {0, ledger.Absent, ledger.Unknown},
			{timeout / 2, ledger.Absent, ledger.Unknown}, {timeout / 2, ledger.Absent, ledger.Clean},
		}},
		{"a lost answer between two final ones starts again", true, []answer{
			{0, ledger.Indeterminate, ledger.Unknown}, {0, ledger.Absent, ledger.Unknown}, {timeout, ledger.Indeterminate, ledger.Unknown},
			{timeout, ledger.Absent, ledger.Unknown}, {timeout, ledger.Absent, ledger.Clean},
		}},
		{"an unproven answer between two final ones starts again", true, []answer{
			{0, ledger.Indeterminate, ledger.Unknown}, {0, ledger.Absent, ledger.Unknown}, {timeout, ledger.Inconclusive, ledger.Unknown},
			{timeout, ledger.Absent, ledger.Unknown}, {timeout, ledger.Absent, ledger.Clean},
		}},
		{"a success between two final ones starts again", true, []answer{
			{0, ledger.Indeterminate, ledger.Unknown}, {0, ledger.Absent, ledger.Unknown}, {timeout, ledger.Created, ledger.Unknown},
			{timeout, ledger.Absent, ledger.Unknown},
		}},
		{"the record of another process starts open: one final answer proves nothing", false, []answer{{0, ledger.Absent, ledger.Unknown}}},
		{"the record of another process is cleared by two", false, []answer{
			{0, ledger.Absent, ledger.Unknown}, {timeout, ledger.Absent, ledger.Clean},
		}},
		{"what is cleared that way stays clear", false, []answer{
			{0, ledger.Absent, ledger.Unknown}, {timeout, ledger.Absent, ledger.Clean}, {0, ledger.Absent, ledger.Clean},
		}},
		{"a cleared claim that is opened again needs two answers again", false, []answer{
			{0, ledger.Absent, ledger.Unknown}, {timeout, ledger.Absent, ledger.Clean},
			{0, ledger.Indeterminate, ledger.Unknown}, {timeout, ledger.Absent, ledger.Unknown}, {timeout, ledger.Absent, ledger.Clean},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := newHands()
			l := ledger.New(timeout, clock)
			turn := take(t, l)
			defer turn.Done()
			if c.mine {
				turn.Recording()
			}
			for i, a := range c.answers {
				clock.move(a.after)
				got := turn.Answered(turn.Calling(request("pvc-1")), a.is)
				expectAt(t, i, got, a.want)
				expectAt(t, i, turn.State(), a.want)
			}
		})
	}
}

func TestTurns(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*ledger.Turn)
		want ledger.State
		// foreign and request: what the turn says afterwards.
		foreign, request bool
	}{
		{"a claim never heard of may have a volume, and its record is another's", func(*ledger.Turn) {}, ledger.Unknown, true, false},
		{"a confirmed record is ours, its volume as open as before", (*ledger.Turn).Confirm, ledger.Unknown, false, false},
		{"a record that we write starts idle", (*ledger.Turn).Recording, ledger.Idle, false, false},
		{"while a call runs a volume may exist", func(turn *ledger.Turn) { turn.Recording(); turn.Calling(request("pvc-1")) }, ledger.Unknown, false, true},
		{"a refused request is remembered", func(turn *ledger.Turn) { turn.Recording(); call(turn, ledger.Absent) }, ledger.Clean, false, true},
		{"a removed volume is gone", func(turn *ledger.Turn) { turn.Recording(); call(turn, ledger.Created); turn.Removed() }, ledger.Clean, false, true},
		{"a saved volume needs no request any more", func(turn *ledger.Turn) { turn.Recording(); call(turn, ledger.Created); turn.Saved() }, ledger.Saved, false, false},
		{"a closed claim has no request", func(turn *ledger.Turn) { turn.Recording(); call(turn, ledger.Indeterminate); turn.Close() }, ledger.Closed, false, false},
		{"a new record forgets what was before", func(turn *ledger.Turn) { call(turn, ledger.Indeterminate); turn.Close(); turn.Recording() }, ledger.Idle, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := ledger.New(timeout, newHands())
			turn := take(t, l)
			c.do(turn)
			expect(t, turn.State(), c.want)
			if turn.Foreign() != c.foreign {
				t.Errorf("foreign is %t", turn.Foreign())
			}
			if (turn.Request() != nil) != c.request {
				t.Errorf("request is %v", turn.Request())
			}
			turn.Done()
			if state, ok := known(l); !ok || state != c.want {
				t.Errorf("after the turn the state is %s (known: %t), want %s", state, ok, c.want)
			}
		})
	}
}

func TestCallingReturnsWhatWasKnown(t *testing.T) {
	turn := take(t, ledger.New(timeout, newHands()))
	defer turn.Done()
	expect(t, turn.Calling(request("pvc-1")), ledger.Unknown)
	turn.Recording()
	expect(t, turn.Calling(request("pvc-1")), ledger.Idle)
	turn.Removed()
	expect(t, turn.Calling(request("pvc-2")), ledger.Clean)
	if got := turn.Request().GetName(); got != "pvc-2" {
		t.Errorf("the last request is %q, want pvc-2", got)
	}
}

func TestRemovedForgetsAnEarlierAnswer(t *testing.T) {
	clock := newHands()
	turn := take(t, ledger.New(timeout, clock))
	defer turn.Done()
	call(turn, ledger.Absent)
	turn.Removed()
	call(turn, ledger.Indeterminate)
	clock.move(timeout)
	call(turn, ledger.Absent)
	expect(t, turn.State(), ledger.Unknown)
}

func TestTakeIsExclusive(t *testing.T) {
	l := ledger.New(timeout, newHands())
	if !l.Ask(claim) {
		t.Error("a claim never heard of is busy")
	}
	turn := take(t, l)
	if l.Ask(claim) {
		t.Error("the claim is not busy while its turn is taken")
	}
	if second, free := l.Take(claim); free || second != nil {
		t.Error("two have the turn")
	}
	other := takeOf(t, l, "another")
	if missed := other.Done(); missed {
		t.Error("nobody wanted the other claim, but it was missed")
	}
	if missed := turn.Done(); !missed {
		t.Error("somebody wanted the turn, but Done does not say so")
	}
	if !l.Ask(claim) {
		t.Error("the claim is busy after its turn was given back")
	}
	turn = take(t, l)
	if missed := turn.Done(); missed {
		t.Error("who was told of once is told of again")
	}
}

func TestAsk(t *testing.T) {
	l := ledger.New(timeout, newHands())
	if !l.Ask(claim) {
		t.Error("the turn of a claim never heard of is not free")
	}
	if _, ok := known(l); ok {
		t.Error("asking made the claim known")
	}
	turn := take(t, l)
	if !l.Ask("another") || l.Ask(claim) {
		t.Error("the wrong turn is free")
	}
	if !turn.Done() {
		t.Error("somebody asked for the turn, but Done does not say so")
	}
	if !l.Ask(claim) {
		t.Error("a turn that was given back is not free")
	}
	turn = take(t, l)
	if turn.Done() {
		t.Error("asking for a free turn counts as a missed one")
	}
}

func TestRecordingKeepsWhoMissedTheTurn(t *testing.T) {
	l := ledger.New(timeout, newHands())
	turn := take(t, l)
	if _, free := l.Take(claim); free {
		t.Fatal("two have the turn")
	}
	turn.Recording()
	if _, free := l.Take(claim); free {
		t.Fatal("a new record gave the turn away")
	}
	if !turn.Done() {
		t.Error("somebody wanted the turn, but Done does not say so")
	}
}

// A record proves that the rules were asked only if this process has written it, or
// asked them.
func TestVouching(t *testing.T) {
	vouch := func(l *ledger.Ledger) { l.Vouch(claim) }
	doubt := func(l *ledger.Ledger) { l.Doubt(claim) }
	recording := func(l *ledger.Ledger) { turn, _ := l.Take(claim); turn.Recording(); turn.Done() }
	closing := func(l *ledger.Ledger) { turn, _ := l.Take(claim); turn.Close(); turn.Done() }
	for _, c := range []struct {
		name         string
		do           []func(*ledger.Ledger)
		own, doubted bool
	}{
		{"a record that the rules let go on", []func(*ledger.Ledger){vouch}, true, false},
		{"one that they do not", []func(*ledger.Ledger){doubt}, false, true},
		{"one that they let go on later", []func(*ledger.Ledger){doubt, vouch}, true, false},
		{"what went on once is not doubted", []func(*ledger.Ledger){vouch, doubt}, true, false},
		{"a record of ours is not doubted", []func(*ledger.Ledger){recording, doubt}, true, false},
		{"a doubted claim that is put on record by us", []func(*ledger.Ledger){doubt, recording}, true, false},
		{"a doubted claim that is closed", []func(*ledger.Ledger){doubt, closing}, false, false},
		{"nobody vouches for a closed claim", []func(*ledger.Ledger){closing, vouch}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := ledger.New(timeout, newHands())
			for _, do := range c.do {
				do(l)
			}
			if l.Own(claim) != c.own || l.Doubted(claim) != c.doubted {
				t.Errorf("own: %t, doubted: %t", l.Own(claim), l.Doubted(claim))
			}
			turn := take(t, l)
			if foreign := len(c.do) > 0 && turn.Foreign(); foreign && turn.State() == ledger.Idle {
				t.Error("a record of ours is foreign")
			}
		})
	}
}

func TestAClaimWithoutARecord(t *testing.T) {
	l := ledger.New(timeout, newHands())
	if l.Unrecorded(claim) {
		t.Error("a claim never heard of is worked on")
	}
	turn := take(t, l)
	turn.Admitting()
	if !l.Unrecorded(claim) || !l.Own(claim) || turn.State() != ledger.Idle || !turn.Foreign() {
		t.Errorf("unrecorded: %t, own: %t, %s, foreign: %t", l.Unrecorded(claim), l.Own(claim), turn.State(), turn.Foreign())
	}
	turn.Confirm()
	turn.Answered(turn.Calling(nil), ledger.Indeterminate)
	if !l.Unrecorded(claim) || turn.State() != ledger.Unknown || turn.Foreign() {
		t.Error("a call changes what the claim is")
	}
	turn.Close()
	if l.Unrecorded(claim) || l.Own(claim) {
		t.Error("a claim that is through is worked on")
	}
}

func TestAsked(t *testing.T) {
	l := ledger.New(timeout, newHands())
	if l.Asked(claim) != nil {
		t.Error("nothing was asked yet")
	}
	turn := take(t, l)
	turn.Recording()
	req := &csi.CreateVolumeRequest{Name: "pvc-1", CapacityRange: &csi.CapacityRange{RequiredBytes: 7}}
	turn.Answered(turn.Calling(req), ledger.Indeterminate)
	if asked := l.Asked(claim); asked != req {
		t.Errorf("asked was %v, want %v", asked, req)
	}
	turn.Saved()
	if l.Asked(claim) != nil {
		t.Error("what is saved need not be asked again")
	}
}

// Only what proves that nothing exists may give a claim back to the scheduler.
func TestElsewhere(t *testing.T) {
	for _, c := range []struct {
		name   string
		before bool
		answer ledger.Proof
		want   bool
	}{
		{"no room, and nothing exists", true, ledger.Absent, true},
		{"no room, after a call of unknown outcome", false, ledger.Absent, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := ledger.New(timeout, newHands())
			turn := take(t, l)
			turn.Recording()
			if !c.before {
				turn.Answered(turn.Calling(nil), ledger.Indeterminate)
			}
			turn.Answered(turn.Calling(nil), c.answer)
			turn.Elsewhere()
			if got := l.Elsewhere(claim); got != c.want {
				t.Errorf("got %t", got)
			}
			turn.Calling(nil)
			if l.Elsewhere(claim) {
				t.Error("it still holds after another call began")
			}
		})
	}
}

func TestOwn(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*ledger.Turn)
		want bool
	}{
		{"a record that another process wrote", func(*ledger.Turn) {}, false},
		{"even if the live claim was read", func(turn *ledger.Turn) { turn.Confirm() }, false},
		{"a record of ours", func(turn *ledger.Turn) { turn.Recording() }, true},
		{"a record of ours after a call", func(turn *ledger.Turn) {
			turn.Recording()
			turn.Answered(turn.Calling(nil), ledger.Indeterminate)
		}, true},
		{"a record of ours that was taken off", func(turn *ledger.Turn) { turn.Recording(); turn.Close() }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := ledger.New(timeout, newHands())
			if l.Own(claim) {
				t.Error("a claim never heard of is our own")
			}
			turn := take(t, l)
			c.do(turn)
			turn.Done()
			if got := l.Own(claim); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}

func TestForget(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*ledger.Turn)
		// known: still in the ledger after Forget.
		known bool
		want  ledger.State
	}{
		{"an open claim that was never called for is forgotten", func(*ledger.Turn) {}, false, ledger.Unknown},
		{"an idle claim is forgotten", (*ledger.Turn).Recording, false, ledger.Unknown},
		{"a clean claim is forgotten", func(turn *ledger.Turn) { turn.Recording(); call(turn, ledger.Absent) }, false, ledger.Unknown},
		{"a saved claim is forgotten", (*ledger.Turn).Saved, false, ledger.Unknown},
		{"a claim whose volume may exist is kept with its request", func(turn *ledger.Turn) { call(turn, ledger.Indeterminate) }, true, ledger.Unknown},
		{"a closed claim is kept for a while", (*ledger.Turn).Close, true, ledger.Closed},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := ledger.New(timeout, newHands())
			turn := take(t, l)
			c.do(turn)
			before := turn.Request()
			l.Forget(claim)
			if _, ok := known(l); !ok {
				t.Fatal("a claim was forgotten during its turn")
			}
			turn.Done()
			l.Forget(claim)
			state, ok := known(l)
			if ok != c.known || state != c.want {
				t.Fatalf("state %s (known: %t), want %s (known: %t)", state, ok, c.want, c.known)
			}
			if c.known && take(t, l).Request() != before {
				t.Error("the request is not kept")
			}
		})
	}
}

func TestForgetOfAnUnknownClaim(t *testing.T) {
	l := ledger.New(timeout, newHands())
	l.Forget(claim)
	if _, ok := known(l); ok {
		t.Error("forgetting made the claim known")
	}
}

func TestClosedIsKeptForAnHour(t *testing.T) {
	clock := newHands()
	l := ledger.New(timeout, clock)
	turn := take(t, l)
	turn.Close()
	turn.Done()
	clock.move(24 * time.Hour)
	l.Forget("another")
	if state, ok := known(l); !ok || state != ledger.Closed {
		t.Fatalf("a released claim that is still in the API was dropped: %s (known: %t)", state, ok)
	}
	l.Forget(claim)
	clock.move(time.Hour)
	l.Forget("another")
	if state, ok := known(l); !ok || state != ledger.Closed {
		t.Fatalf("after an hour: %s (known: %t), want closed", state, ok)
	}
	clock.move(time.Nanosecond)
	l.Forget("another")
	if _, ok := known(l); ok {
		t.Error("a claim that is gone for more than an hour is still remembered")
	}
}

// A turn that is taken when the hour is over must stay the only one.
func TestClosedIsKeptDuringATurn(t *testing.T) {
	clock := newHands()
	l := ledger.New(timeout, clock)
	turn := take(t, l)
	turn.Close()
	turn.Done()
	l.Forget(claim)
	turn = take(t, l)
	clock.move(2 * time.Hour)
	l.Forget("another")
	if _, free := l.Take(claim); free {
		t.Error("two have the turn")
	}
	expect(t, turn.State(), ledger.Closed)
	turn.Done()
	l.Forget(claim)
	clock.move(2 * time.Hour)
	l.Forget("another")
	if _, ok := known(l); ok {
		t.Error("the claim is never dropped")
	}
}

func TestTakeByMany(t *testing.T) {
	const rounds = 500
	l := ledger.New(timeout, newHands())
	var inside, got atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range rounds {
				turn, free := l.Take(claim)
				if !free {
					continue
				}
				if inside.Add(1) != 1 {
					t.Error("two have the turn")
				}
				turn.Answered(turn.Calling(request("pvc-1")), ledger.Indeterminate)
				got.Add(1)
				inside.Add(-1)
				turn.Done()
			}
		})
	}
	all.Wait()
	if got.Load() == 0 || !l.Ask(claim) {
		t.Errorf("%d turns, busy at the end: %t", got.Load(), !l.Ask(claim))
	}
}

func TestAVolumeThatIsKnownToExistIsNotDisprovedByWords(t *testing.T) {
	clock := newHands()
	turn := take(t, ledger.New(timeout, clock))
	defer turn.Done()
	call(turn, ledger.Created)
	turn.SetVolume(reply("vol-1"))
	for range 3 {
		call(turn, ledger.Absent)
		clock.move(timeout)
	}
	expect(t, turn.State(), ledger.Unknown)
	turn.SetVolume(&csi.CreateVolumeResponse{}) // names no volume
	if got := turn.Volume().GetVolume().GetVolumeId(); got != "vol-1" {
		t.Errorf("the handle is %q", got)
	}
	turn.Removed()
	expect(t, turn.State(), ledger.Clean)
	if got := turn.Volume(); got != nil {
		t.Errorf("a removed volume is still known: %v", got)
	}
}

// reply is a driver's reply that names a volume.
func reply(handle string) *csi.CreateVolumeResponse {
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{VolumeId: handle}}
}

func TestHalfProven(t *testing.T) {
	clock := newHands()
	turn := take(t, ledger.New(timeout, clock))
	defer turn.Done()
	call(turn, ledger.Indeterminate)
	if turn.HalfProven() {
		t.Error("no answer proves half")
	}
	call(turn, ledger.Absent)
	if !turn.HalfProven() {
		t.Error("the first answer proves nothing")
	}
	clock.move(timeout)
	call(turn, ledger.Absent)
	if turn.HalfProven() {
		t.Error("the second answer leaves it half proven")
	}
	expect(t, turn.State(), ledger.Clean)
}

func TestACallIsOpenUntilItIsAnswered(t *testing.T) {
	t.Parallel()
	for answer, open := range map[ledger.Proof]bool{
		ledger.Indeterminate: true, ledger.Created: false, ledger.Absent: false, ledger.Inconclusive: false, ledger.Unauthorized: false,
	} {
		turn := take(t, ledger.New(timeout, newHands()))
		turn.SetVolume(reply("handle"))
		before := turn.Calling(&csi.CreateVolumeRequest{})
		if !turn.Open() {
			t.Error("a call that goes on is not open")
		}
		if turn.Answered(before, answer); turn.Open() != open {
			t.Errorf("after answer %d open is %t, want %t", answer, turn.Open(), open)
		}
	}
}

// What the driver has may have been made by a request that was sent when the class was
// another: the one that may have made it is kept, and the one of today tried in turn.
func TestWhatDiffersIsAskedForInTurn(t *testing.T) {
	first, today := &csi.CreateVolumeRequest{Name: "first"}, &csi.CreateVolumeRequest{Name: "today"}
	l := ledger.New(timeout, newHands())
	turn := take(t, l)
	for i, step := range []struct {
		request *csi.CreateVolumeRequest
		answer  ledger.Proof
		// kept is the request that is to be repeated; differs: the other one is next.
		kept    *csi.CreateVolumeRequest
		differs bool
	}{
		{first, ledger.Indeterminate, first, false},
		{first, ledger.Conflict, first, true},
		{today, ledger.Conflict, first, false},
		{first, ledger.Conflict, first, true},
		{today, ledger.Indeterminate, today, false}, // it may have made it, after all
		{today, ledger.Inconclusive, today, false},
	} {
		turn.Answered(turn.Calling(step.request), step.answer)
		if turn.Request() != step.kept || turn.Differs() != step.differs || turn.State() != ledger.Unknown {
			t.Errorf("step %d: kept %q, differs: %t, %s", i, turn.Request().GetName(), turn.Differs(), turn.State())
		}
	}
}

// The driver has said that something has the name. That it cannot serve another request, of
// which the source is gone perhaps, does not prove that nothing exists; only the word on
// what it was asked before does.
func TestAbsentAfterDiffers(t *testing.T) {
	blank, copied := &csi.CreateVolumeRequest{Name: "pvc-1"}, &csi.CreateVolumeRequest{Name: "pvc-1", Parameters: map[string]string{"of": "db"}}
	type step struct {
		request *csi.CreateVolumeRequest
		answer  ledger.Proof
		state   ledger.State
		half    bool
		kept    *csi.CreateVolumeRequest
	}
	for name, steps := range map[string][]step{
		"another request": {
			{blank, ledger.Conflict, ledger.Unknown, false, blank},
			{copied, ledger.Absent, ledger.Unknown, false, blank},
			{copied, ledger.Absent, ledger.Unknown, false, blank},
			{copied, ledger.Indeterminate, ledger.Unknown, false, copied},
			{copied, ledger.Absent, ledger.Unknown, false, blank},
		},
		"the same request": {
			{blank, ledger.Conflict, ledger.Unknown, false, blank},
			{&csi.CreateVolumeRequest{Name: "pvc-1"}, ledger.Absent, ledger.Unknown, true, nil},
			{blank, ledger.Absent, ledger.Clean, false, blank},
		},
		"the first after others": {
			{blank, ledger.Conflict, ledger.Unknown, false, blank},
			{copied, ledger.Conflict, ledger.Unknown, false, blank},
			{copied, ledger.Absent, ledger.Unknown, false, blank},
			{blank, ledger.Absent, ledger.Unknown, true, blank},
			{blank, ledger.Absent, ledger.Clean, false, blank},
		},
		"after a volume was made": {
			{blank, ledger.Conflict, ledger.Unknown, false, blank},
			{copied, ledger.Created, ledger.Unknown, false, copied},
			{copied, ledger.Absent, ledger.Unknown, true, copied},
			{copied, ledger.Absent, ledger.Clean, false, copied},
		},
	} {
		t.Run(name, func(t *testing.T) {
			clock := newHands()
			turn := take(t, ledger.New(timeout, clock))
			for i, s := range steps {
				clock.move(timeout)
				turn.Answered(turn.Calling(s.request), s.answer)
				if turn.State() != s.state || turn.HalfProven() != s.half || s.kept != nil && turn.Request() != s.kept {
					t.Errorf("step %d: %s, half proven: %t, kept %v", i, turn.State(), turn.HalfProven(), turn.Request())
				}
			}
		})
	}
	turn := take(t, ledger.New(timeout, newHands()))
	turn.Answered(turn.Calling(blank), ledger.Conflict)
	turn.Removed()
	turn.Answered(turn.Calling(copied), ledger.Absent)
	expect(t, turn.State(), ledger.Clean)
}

// What an earlier process has put on record stays there until it is certain what came of it.
func TestKeep(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*hands, *ledger.Turn)
		kept bool
	}{
		"nothing was asked":         {func(*hands, *ledger.Turn) {}, true},
		"something else exists":     {func(_ *hands, turn *ledger.Turn) { call(turn, ledger.Conflict) }, true},
		"an answer was lost":        {func(_ *hands, turn *ledger.Turn) { call(turn, ledger.Indeterminate) }, true},
		"nothing exists, said once": {func(_ *hands, turn *ledger.Turn) { call(turn, ledger.Absent) }, true},
		"nothing exists": {func(clock *hands, turn *ledger.Turn) {
			call(turn, ledger.Absent)
			clock.move(timeout)
			call(turn, ledger.Absent)
		}, false},
		"the volume is made":   {func(_ *hands, turn *ledger.Turn) { call(turn, ledger.Created) }, false},
		"it was removed":       {func(_ *hands, turn *ledger.Turn) { turn.Removed() }, false},
		"the claim is through": {func(_ *hands, turn *ledger.Turn) { turn.Close() }, false},
		"it begins anew":       {func(_ *hands, turn *ledger.Turn) { turn.Recording() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			clock := newHands()
			l := ledger.New(timeout, clock)
			if source, bytes := l.Kept(claim); source != "" || bytes != 0 {
				t.Error("something is kept of a claim never heard of")
			}
			l.Keep(claim, "volume:vol-1", 7)
			turn := take(t, l)
			c.do(clock, turn)
			wantSource, wantBytes := "", int64(0)
			if c.kept {
				wantSource, wantBytes = "volume:vol-1", 7
			}
			if source, bytes := l.Kept(claim); source != wantSource || bytes != wantBytes {
				t.Errorf("kept is %q with %d bytes, want %q", source, bytes, wantSource)
			}
		})
	}
}

// What was sent to find out what exists is not what the claim asks for.
func TestWhatWasSoughtIsNotRepeatedByAnAttempt(t *testing.T) {
	turn := take(t, ledger.New(timeout, newHands()))
	call(turn, ledger.Indeterminate)
	if turn.Repeatable() == nil {
		t.Error("a request of an attempt cannot be repeated")
	}
	call(turn, ledger.Indeterminate)
	turn.Sought()
	if turn.Repeatable() != nil || turn.Request() == nil {
		t.Error("what was sought can be repeated, or is forgotten")
	}
	call(turn, ledger.Indeterminate)
	if turn.Repeatable() == nil {
		t.Error("a later request of an attempt cannot be repeated")
	}
}

// What belongs to a request goes the way of the request.
func TestBeside(t *testing.T) {
	l := ledger.New(timeout, newHands())
	turn := take(t, l)
	first, today := &csi.CreateVolumeRequest{Name: "first"}, &csi.CreateVolumeRequest{Name: "today"}
	old, now := ledger.Beside{Secret: "ns/old", AttributesClass: "gold", ReclaimPolicy: "Retain"}, ledger.Beside{Secret: "ns/new"}
	if l.Beside(claim) != (ledger.Beside{}) || turn.Beside() != (ledger.Beside{}) {
		t.Error("there is something beside no request")
	}
	for i, step := range []struct {
		request *csi.CreateVolumeRequest
		beside  ledger.Beside
		answer  ledger.Proof
		want    ledger.Beside
	}{
		{first, old, ledger.Indeterminate, old},
		{today, now, ledger.Conflict, old}, // it was not this one that has made what exists
		{today, now, ledger.Indeterminate, now},
	} {
		before := turn.CallingWith(step.request, step.beside)
		turn.Answered(before, step.answer)
		if got := turn.Beside(); got != step.want || l.Beside(claim) != step.want {
			t.Errorf("step %d: beside it is %+v, want %+v", i, got, step.want)
		}
	}
	// What the driver has something else than is asked again, if another request cannot be
	// served at all.
	turn.Answered(turn.CallingWith(first, old), ledger.Absent)
	if turn.Request() != today || turn.Beside() != now || l.Beside(claim) != now {
		t.Errorf("%v is to be asked again, and beside it is %+v", turn.Request(), turn.Beside())
	}
	turn.Saved()
	if turn.Beside() != (ledger.Beside{}) || l.Beside(claim) != (ledger.Beside{}) {
		t.Errorf("beside the request of a saved claim is %+v", turn.Beside())
	}
}
