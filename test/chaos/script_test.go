package chaos

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// kind is what a step does.
type kind string

// What users do.
const (
	blank       kind = "blank"       // create a claim without source
	clone       kind = "clone"       // clone a claim, bound or not, perhaps being deleted
	early       kind = "early"       // clone a claim that does not exist yet
	orphan      kind = "orphan"      // clone a claim, then delete it at once
	flash       kind = "flash"       // create a claim and delete it at once
	remove      kind = "remove"      // delete a claim
	again       kind = "again"       // delete a claim and create it again under its name
	node        kind = "node"        // select a node for a claim with delayed binding
	strip       kind = "strip"       // take the record off a claim
	forge       kind = "forge"       // change what the record on a claim says
	forgePolicy kind = "forgePolicy" // change the reclaim policy on record on a claim
	pretend     kind = "pretend"     // create a claim that carries a record already
	retain      kind = "retain"      // set the reclaim policy of a claim's PV to Retain
	reclaim     kind = "reclaim"     // delete a Released PV that was retained, then its volume
	dropClass   kind = "dropClass"   // delete a StorageClass, for some seconds
)

// What happens to programs.
const (
	kill      kind = "kill"      // SIGKILL for a provisioner, mostly the leader
	term      kind = "term"      // SIGTERM for a provisioner
	freeze    kind = "freeze"    // SIGSTOP for a provisioner, for longer than its lease
	fleetSize kind = "fleetSize" // one provisioner, or two
	apiServer kind = "apiServer" // restart the API server, politely or not
	driver    kind = "driver"    // restart the driver
)

// step is one action, and the numbers that it chooses by. Whatever the world looks
// like, a step takes as many numbers from the seed: so the script does not depend
// on what happens.
type step struct {
	at   time.Duration
	kind kind
	pick [4]int
}

// mostly is how often users do what: weights.
func mostly() []weighted {
	return []weighted{
		{blank, 20}, {clone, 30}, {early, 6}, {orphan, 8}, {flash, 6}, {remove, 12}, {again, 6},
		{node, 6}, {strip, 2}, {forge, 4}, {forgePolicy, 4}, {pretend, 2}, {retain, 3}, {reclaim, 3},
	}
}

type weighted struct {
	kind   kind
	weight int
}

// now and then: pauses between two actions of a kind, which begin with a pause.
func nowAndThen() []*recurring {
	return []*recurring{
		{kind: kill, least: 6 * time.Second, most: 14 * time.Second},
		{kind: term, least: 15 * time.Second, most: 40 * time.Second},
		{kind: freeze, least: 15 * time.Second, most: 35 * time.Second},
		{kind: fleetSize, least: 15 * time.Second, most: 40 * time.Second},
		{kind: apiServer, least: 20 * time.Second, most: 30 * time.Second},
		{kind: driver, least: 10 * time.Second, most: 25 * time.Second},
		{kind: dropClass, least: 20 * time.Second, most: 40 * time.Second},
	}
}

type recurring struct {
	kind        kind
	least, most time.Duration
	next        time.Duration
}

// Users act after pauses between these two.
const shortestPause, longestPause = 40 * time.Millisecond, 260 * time.Millisecond

// script is all that will be done, in order.
type script struct {
	random    *rand.Rand
	user      time.Duration // when a user acts next
	recurring []*recurring
}

func newScript(seed uint64) *script {
	s := &script{random: rand.New(rand.NewPCG(seed, 0)), recurring: nowAndThen()}
	for _, r := range s.recurring {
		r.next = s.between(r.least, r.most)
	}
	return s
}

func (s *script) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.random.Int64N(int64(most-least)))
}

// next returns the next step.
func (s *script) next() step {
	first := slices.MinFunc(s.recurring, func(a, b *recurring) int { return cmp.Compare(a.next, b.next) })
	var next step
	if first.next < s.user {
		next = step{at: first.next, kind: first.kind}
		first.next += s.between(first.least, first.most)
	} else {
		next = step{at: s.user, kind: s.draw()}
		s.user += s.between(shortestPause, longestPause)
	}
	for i := range next.pick {
		next.pick[i] = s.random.IntN(1 << 30)
	}
	return next
}

func (s *script) draw() kind {
	total := 0
	for _, w := range mostly() {
		total += w.weight
	}
	left := s.random.IntN(total)
	for _, w := range mostly() {
		if left -= w.weight; left < 0 {
			return w.kind
		}
	}
	return blank // never: left is less than the sum
}

// until returns the steps of the first so many minutes.
func (s *script) until(end time.Duration) []step {
	var steps []step
	for next := s.next(); next.at < end; next = s.next() {
		steps = append(steps, next)
	}
	return steps
}

func TestTheSameSeedGivesTheSameScript(t *testing.T) {
	t.Parallel()
	const minutes = 5 * time.Minute
	first, second := newScript(7).until(minutes), newScript(7).until(minutes)
	if !slices.Equal(first, second) {
		t.Error("two scripts of seed 7 differ")
	}
	if slices.Equal(first, newScript(8).until(minutes)) {
		t.Error("seeds 7 and 8 give the same script")
	}
	if longer := newScript(7).until(2 * minutes); !slices.Equal(first, longer[:len(first)]) {
		t.Error("a longer script does not begin like a shorter one")
	}
	done := map[kind]int{}
	for i, s := range first {
		done[s.kind]++
		if i > 0 && s.at < first[i-1].at {
			t.Fatalf("step %d is at %s, the one before at %s", i, s.at, first[i-1].at)
		}
	}
	for _, w := range mostly() {
		if done[w.kind] == 0 {
			t.Errorf("nobody does %s", w.kind)
		}
	}
	for _, r := range nowAndThen() {
		if least, most := int(minutes/r.most), int(minutes/r.least); done[r.kind] < least || done[r.kind] > most {
			t.Errorf("%s happens %d times, want %d to %d", r.kind, done[r.kind], least, most)
		}
	}
}
