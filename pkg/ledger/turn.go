package ledger

import (
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/types"
)

// Turn is the right to act on one claim's volume. It is not for use by several
// goroutines.
type Turn struct {
	ledger *Ledger
	claim  types.UID
	entry  *entry
}

// Done gives the turn back, and says whether somebody else wanted it meanwhile
// and has to be woken.
func (t *Turn) Done() (missed bool) {
	t.with(func(e *entry) { missed, e.taken, e.missed = e.missed, false, false })
	return missed
}

// State returns what is known.
func (t *Turn) State() State {
	var s State
	t.with(func(e *entry) { s = e.state })
	return s
}

// Foreign says that the record was written by another process and that the
// live claim has not been read since; see Confirm.
func (t *Turn) Foreign() bool {
	var f bool
	t.with(func(e *entry) { f = e.foreign })
	return f
}

// Confirm notes that the live claim was read and carries the record.
func (t *Turn) Confirm() { t.with(func(e *entry) { e.foreign = false }) }

// Request returns the last request sent for this claim, nil if this process
// sent none.
func (t *Turn) Request() *csi.CreateVolumeRequest {
	var r *csi.CreateVolumeRequest
	t.with(func(e *entry) { r = e.request })
	return r
}

// Beside returns what belongs to Request.
func (t *Turn) Beside() Beside {
	var b Beside
	t.with(func(e *entry) { b = e.beside })
	return b
}

// Recording notes that this process is about to write the record on a claim
// that carried none: whatever was known before is over.
func (t *Turn) Recording() {
	now := t.ledger.clock.Now()
	t.with(func(e *entry) { *e = entry{taken: true, missed: e.missed, state: Idle, own: true, began: now} })
}

// Admitting is Recording without a record: what becomes of the claim is known to
// this process alone. The live claim is read before the first call, because no
// write has shown that the cache is up to date.
func (t *Turn) Admitting() {
	now := t.ledger.clock.Now()
	t.with(func(e *entry) {
		*e = entry{taken: true, missed: e.missed, state: Idle, own: true, unrecorded: true, foreign: true, began: now}
	})
}

// Close forbids all further calls for the claim. It comes before the record is
// taken off.
func (t *Turn) Close() {
	t.with(func(e *entry) {
		*e = entry{taken: true, missed: e.missed, state: Closed, foreign: e.foreign}
	})
}

// Calling notes that the driver is about to be called with the request. From
// here on a volume may exist; what was known before is returned, for Answered.
func (t *Turn) Calling(request *csi.CreateVolumeRequest) State {
	return t.CallingWith(request, Beside{})
}

// CallingWith is Calling with what belongs to the request.
func (t *Turn) CallingWith(request *csi.CreateVolumeRequest, beside Beside) State {
	var before State
	t.with(func(e *entry) {
		before = e.state
		e.besideBefore, e.beside = e.beside, beside
		e.before, e.state, e.request, e.open, e.elsewhere, e.sought = e.request, Unknown, request, true, false, false
	})
	return before
}

// Answered notes how the call ended that Calling announced, and returns what
// is known now. before is what Calling returned.
//
// After Conflict, Absent counts only as an answer to the same request: that another one
// cannot be served, because the source it names is gone perhaps, says nothing about what
// has the name.
func (t *Turn) Answered(before State, proof Proof) State {
	now := t.ledger.clock.Now()
	var s State
	t.with(func(e *entry) {
		e.open = proof == Indeterminate
		e.differs = proof == Conflict && !e.differs
		if proof == Absent && e.differed != nil && !proto.Equal(e.request, e.differed) {
			proof, e.request, e.beside = Inconclusive, e.differed, e.besideDiffered
		}
		switch {
		case proof == Created:
			e.differed = nil
			e.letGo()
		case proof == Absent:
			e.differed = nil
		case proof == Conflict && e.differed == nil:
			e.differed, e.besideDiffered = e.request, e.beside
		}
		if proof == Conflict && e.before != nil {
			e.request, e.beside = e.before, e.besideBefore // it was not this one that has made what exists
		}
		e.before, e.besideBefore = nil, Beside{}
		switch {
		case before != Unknown && (proof == Absent || proof == Unauthorized):
			e.state = Clean
		case proof != Absent || e.volume != nil:
			e.firstAbsent = time.Time{}
		case e.firstAbsent.IsZero():
			e.firstAbsent = now
		case now.Sub(e.firstAbsent) >= t.ledger.apart:
			e.state, e.firstAbsent = Clean, time.Time{}
		}
		if e.state == Clean {
			e.letGo()
		}
		s = e.state
	})
	return s
}

// Elsewhere notes that the last answer was one that another node could cure.
func (t *Turn) Elsewhere() { t.with(func(e *entry) { e.elsewhere = true }) }

// SetVolume remembers the reply with which the driver has made a volume, if it names one.
// Until that is saved or removed no answer can prove its absence.
func (t *Turn) SetVolume(reply *csi.CreateVolumeResponse) {
	if reply.GetVolume().GetVolumeId() != "" {
		t.with(func(e *entry) { e.volume = reply })
	}
}

// Volume returns what SetVolume has remembered; nil if there is no such volume.
func (t *Turn) Volume() *csi.CreateVolumeResponse {
	var reply *csi.CreateVolumeResponse
	t.with(func(e *entry) { reply = e.volume })
	return reply
}

// Open says that the last call has had no answer: the driver may still make something else
// than the Volume.
func (t *Turn) Open() bool {
	var open bool
	t.with(func(e *entry) { open = e.open })
	return open
}

// Sought notes that the last request was sent to find out what exists, and perhaps for
// something that the claim must not have: an attempt does not repeat it.
func (t *Turn) Sought() { t.with(func(e *entry) { e.sought = true }) }

// Repeatable returns the last request if an attempt may repeat it; else nil.
func (t *Turn) Repeatable() *csi.CreateVolumeRequest {
	var r *csi.CreateVolumeRequest
	t.with(func(e *entry) {
		if !e.sought {
			r = e.request
		}
	})
	return r
}

// Differs says that the driver has something under the volume's name which the request
// that was repeated does not fit: the next attempt is one with the request as it would
// be made today, then again the one that was repeated, and so on.
func (t *Turn) Differs() bool {
	var differs bool
	t.with(func(e *entry) { differs = e.differs })
	return differs
}

// HalfProven: see ErrHalfProven.
func (t *Turn) HalfProven() bool {
	var half bool
	t.with(func(e *entry) { half = e.state == Unknown && !e.firstAbsent.IsZero() })
	return half
}

// Removed notes that the volume was deleted: nothing exists.
func (t *Turn) Removed() {
	t.with(func(e *entry) {
		e.state, e.firstAbsent, e.volume, e.differed = Clean, time.Time{}, nil, nil
		e.letGo()
	})
}

// Took returns how long ago the claim was put on record, or admitted without. It is not
// known of one that an earlier process has put there.
func (t *Turn) Took() (took time.Duration, known bool) {
	now := t.ledger.clock.Now()
	t.with(func(e *entry) { took, known = now.Sub(e.began), !e.began.IsZero() })
	return took, known
}

// Saved notes that the volume's PV is in the API.
func (t *Turn) Saved() {
	t.with(func(e *entry) { e.state, e.request, e.volume, e.beside = Saved, nil, nil, Beside{} })
}

func (t *Turn) with(f func(*entry)) {
	t.ledger.mu.Lock()
	defer t.ledger.mu.Unlock()
	f(t.entry)
}
