package ledger

import (
	"errors"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

// State says what this process knows of a claim's volume.
type State int

const (
	// Unknown: a volume may exist. It is what a claim starts with whose record
	// this process did not write.
	Unknown State = iota
	// Idle: recorded by this process, the driver has not been called.
	Idle
	// Clean: the driver has been called, and nothing exists.
	Clean
	// Saved: the volume exists and its PV is in the API.
	Saved
	// Closed: released. No call may be made for this claim any more.
	Closed
)

// String returns the state's name for logs.
func (s State) String() string {
	return [...]string{"unknown", "idle", "clean", "saved", "closed"}[s]
}

// Proof is what the end of one CreateVolume proves about the volume.
type Proof int

const (
	// Indeterminate: it is not known what the driver did or will still do.
	Indeterminate Proof = iota
	// Created: the driver has the volume.
	Created
	// Absent: the driver reports that nothing exists.
	Absent
	// Inconclusive: the driver refused, which does not prove whether something exists.
	Inconclusive
	// Conflict: something exists under the name, but not what this request asks for.
	Conflict
	// Unauthorized: the driver rejected the caller. This call did nothing, and proves nothing
	// about earlier ones.
	Unauthorized
)

// ErrHalfProven: after a call of unknown outcome the driver has said once that
// nothing exists. It takes a second time, one timeout later, to be believed.
var ErrHalfProven = errors.New("the driver says that nothing exists; it is asked once more to be sure")

// keepClosed is how long a released claim is remembered, so that a stale copy
// of it is still recognised: far longer than a watch can lag behind.
const keepClosed = time.Hour

// Ledger is the set of all entries. See New.
type Ledger struct {
	// apart is how far apart two final answers must lie to prove absence after
	// a call of unknown outcome: one driver timeout, so that a call which was
	// still running at the first answer has ended at the second.
	apart time.Duration
	clock clock.PassiveClock

	mu      sync.Mutex
	entries map[types.UID]*entry
	closed  []tombstone
}

type entry struct {
	taken bool
	// missed: somebody else wanted the turn while it was taken.
	missed bool
	state  State
	// foreign: the record was written by another process, and the live claim
	// has not been read since.
	foreign bool
	// own: this process has asked the rules, and they let the claim go on; see Own.
	own bool
	// doubted: the rules were asked about a record of somebody else, and did not; see
	// Doubt.
	doubted bool
	// unrecorded: the claim was admitted without a record; see Turn.Admitting.
	unrecorded bool
	// elsewhere: see Turn.Elsewhere.
	elsewhere bool
	// firstAbsent is when the driver first said "nothing exists" after a call
	// of unknown outcome; zero if it has not.
	firstAbsent time.Time
	request     *csi.CreateVolumeRequest
	// before is the request of an earlier call, until the last one is answered.
	before *csi.CreateVolumeRequest
	// differs: see Turn.Differs.
	differs bool
	// differed is the first request that the driver has answered with Differs, until
	// something else has answered what that said; see Turn.Answered.
	differed *csi.CreateVolumeRequest
	// beside request, before and differed: see Turn.Beside.
	beside, besideBefore, besideDiffered Beside
	// keptSource and keptBytes: see Keep.
	keptSource string
	keptBytes  int64
	// sought: see Turn.Sought.
	sought bool
	// volume is the driver's reply about a volume that is neither saved nor deleted; nil
	// if no such volume is known.
	volume *csi.CreateVolumeResponse
	// began is when this process put the claim on record, or admitted it without; zero if
	// it did not.
	began time.Time
	// open: the last call has had no answer, so the driver may still be at it.
	open bool
}

// Beside is what belongs to a request and is not in it. The contents of the Secret are
// read for each call, and kept nowhere.
type Beside struct {
	// Secret with which the driver was called, as namespace/name; empty for none.
	Secret string
	// AttributesClass is the VolumeAttributesClass that the request's mutable
	// parameters are from; empty for none.
	AttributesClass string
	// Claim and Class are what the request was made from.
	Claim *v1.PersistentVolumeClaim
	Class *storagev1.StorageClass
	// ReclaimPolicy of the volume that the request makes.
	ReclaimPolicy v1.PersistentVolumeReclaimPolicy
}

type tombstone struct {
	uid  types.UID
	when time.Time
}

// New returns an empty ledger. timeout is the deadline of one driver call.
func New(timeout time.Duration, now clock.PassiveClock) *Ledger {
	return &Ledger{apart: timeout, clock: now, entries: map[types.UID]*entry{}}
}

// Take gives the caller the claim's turn until Turn.Done; false while somebody
// else has it.
func (l *Ledger) Take(claim types.UID) (*Turn, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(claim)
	if e.taken {
		e.missed = true
		return nil, false
	}
	e.taken = true
	return &Turn{ledger: l, claim: claim, entry: e}, true
}

// entry returns the claim's entry, a new one if there is none. The caller holds mu.
func (l *Ledger) entry(claim types.UID) *entry {
	e := l.entries[claim]
	if e == nil {
		e = &entry{state: Unknown, foreign: true}
		l.entries[claim] = e
	}
	return e
}

// State returns what is known of the claim, and whether anything is. It does
// not wait for a turn: the answer may be old when it arrives.
func (l *Ledger) State(claim types.UID) (State, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[claim]
	if e == nil {
		return Unknown, false
	}
	return e.state, true
}

// Own says whether this process has put the claim on record, or has vouched for the
// record that it found. Only then the driver may be called: a record alone does not
// prove that the rules were asked, because users can write it.
func (l *Ledger) Own(claim types.UID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[claim]
	return e != nil && e.own
}

// Vouch notes that the rules let a claim go on whose record this process found.
func (l *Ledger) Vouch(claim types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(claim)
	e.own, e.doubted = e.state != Closed, false
}

// Doubt notes that the rules do not let a claim go on whose record this process
// found. A claim of its own is not doubted: the rules were asked when it began.
func (l *Ledger) Doubt(claim types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entry(claim); !e.own {
		e.doubted = true
	}
}

// Doubted says whether Doubt was the last word on the claim.
func (l *Ledger) Doubted(claim types.UID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[claim]
	return e != nil && e.doubted
}

// Unrecorded says whether the claim is worked on without a record; see
// Turn.Admitting.
func (l *Ledger) Unrecorded(claim types.UID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[claim]
	return e != nil && e.unrecorded
}

// Elsewhere says what Turn.Elsewhere noted, as long as nothing exists.
func (l *Ledger) Elsewhere(claim types.UID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[claim]
	return e != nil && e.state == Clean && e.elsewhere
}

// Asked returns the request that this process sent last for the claim; nil if it sent
// none. It does not wait for a turn.
func (l *Ledger) Asked(claim types.UID) *csi.CreateVolumeRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[claim]; e != nil {
		return e.request
	}
	return nil
}

// Keep notes of which content source, in the form of the record, and with how many bytes an
// earlier process may have made the claim's volume. It is what the record must go on saying,
// whatever is asked for today, until the driver has made a volume or it is certain that
// nothing exists.
func (l *Ledger) Keep(claim types.UID, source string, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(claim)
	e.keptSource, e.keptBytes = source, bytes
}

// Kept returns what Keep noted; "" if there is nothing any more.
func (l *Ledger) Kept(claim types.UID) (source string, bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[claim]; e != nil {
		return e.keptSource, e.keptBytes
	}
	return "", 0
}

// letGo forgets what Keep noted.
func (e *entry) letGo() { e.keptSource, e.keptBytes = "", 0 }

// Beside returns what belongs to the request of Asked; the zero value if there is none.
func (l *Ledger) Beside(claim types.UID) Beside {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.entries[claim]; e != nil && e.request != nil {
		return e.beside
	}
	return Beside{}
}

// Ask says whether the claim's turn is free. If it is not, who has it is told at
// its end that somebody asked; see Turn.Done.
func (l *Ledger) Ask(claim types.UID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[claim]
	if e != nil && e.taken {
		e.missed = true
		return false
	}
	return true
}

// Forget drops what is known of a claim that is gone from the API, unless a
// volume may still exist or somebody has its turn. A released claim is
// remembered for an hour longer.
func (l *Ledger) Forget(claim types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[claim]
	switch {
	case e == nil || e.taken:
	case e.state == Unknown && e.request != nil:
	case e.state == Closed:
		l.closed = append(l.closed, tombstone{claim, l.clock.Now()})
	default:
		delete(l.entries, claim)
	}
	l.prune()
}

// prune drops released claims that were forgotten long ago. The list is in the
// order of time.
func (l *Ledger) prune() {
	for len(l.closed) > 0 && l.clock.Since(l.closed[0].when) > keepClosed {
		if e := l.entries[l.closed[0].uid]; e != nil && e.state == Closed && !e.taken {
			delete(l.entries, l.closed[0].uid)
		}
		l.closed = l.closed[1:]
	}
}
