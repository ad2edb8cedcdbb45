package integration

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/gate"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/gateway"
)

// This file has the means of kill_test.go: where a provisioner can be killed, and
// how it is done there and not a moment earlier or later.

// point is a moment in the life of a provisioner: its nth request or call of some
// kind. It is not counted across kinds, for events run beside everything else.
type point struct {
	// call is a method of the driver; verb, target, object and what are of a request to
	// the API server. The object is told where it has a constant name; what is an
	// event's reason, and whether a claim's finalizer is put on or taken off.
	call                       string
	verb, target, object, what string
	nth                        int
}

func (p point) String() string {
	if p.call != "" {
		return fmt.Sprintf("%s %d", p.call, p.nth)
	}
	words := []string{p.verb, p.target, p.object, p.what, fmt.Sprint(p.nth)}
	return strings.Join(slices.DeleteFunc(words, func(word string) bool { return word == "" }), " ")
}

// requestKind returns the point of a request to the API server, without its number.
func requestKind(r gateway.Request) point {
	p := point{verb: r.Verb, target: r.Target()}
	switch r.Target() {
	case "persistentvolumeclaims":
		p.object, p.what = r.Name, "on"
		if bytes.Contains(r.Body, []byte("$deleteFromPrimitiveList")) {
			p.what = "off"
		}
	case "events":
		if object, _, err := scheme.Codecs.UniversalDeserializer().Decode(r.Body, nil, nil); err == nil {
			if event, ok := object.(*v1.Event); ok {
				p.what = event.Reason
				if event.InvolvedObject.Kind == "PersistentVolumeClaim" {
					p.object = event.InvolvedObject.Name
				}
			}
		}
	}
	return p
}

// points returns the points of all that was done since the mark. What the API server
// turned down changed nothing, and comes about by chance: a second look at a claim that
// has just gone, for instance. So does a second patch of a PV: the engine removes the
// finalizer of one that is retained again if its cache does not show yet that it is removed.
func (w *mortal) points() []point {
	w.t.Helper()
	w.until("all writes are answered", func() error {
		for _, r := range w.Gateway().Requests(gateway.Any, gateway.Any) {
			if r.Write() && r.End.IsZero() {
				return fmt.Errorf("%s of %s is not", r.Verb, r.Target())
			}
		}
		return nil
	})
	seen := map[point]int{}
	var all []point
	add := func(kind point) {
		seen[kind]++
		kind.nth = seen[kind]
		all = append(all, kind)
	}
	for _, call := range w.Faults.Calls(faults.AnyMethod) {
		add(point{call: call.Method})
	}
	patched := map[string]bool{} // PVs
	for _, r := range w.Gateway().Requests(gateway.Any, gateway.Any) {
		if !r.Write() || r.Status/100 != 2 {
			continue
		}
		ofPV := r.Verb == "patch" && r.Target() == "persistentvolumes"
		if ofPV && patched[r.Name] {
			continue
		}
		patched[r.Name] = patched[r.Name] || ofPV
		add(requestKind(r))
	}
	return all
}

// acts says that the point is one at which something is done, not asked or told.
func (p point) acts() bool {
	return p.call == "CreateVolume" || p.call == "DeleteVolume" || p.call == "" && p.target != "events"
}

// checkTrapped fails the test unless the request or call at the point was kept from
// those it was for (before), or was done and its outcome kept from the caller (after).
func (w *mortal) checkTrapped(p point, after bool) {
	w.t.Helper()
	if p.call != "" {
		call := w.Faults.Calls(p.call)[p.nth-1]
		if (call.Work != nil) != after || call.Err == nil {
			w.t.Errorf("%s: work of the driver is %v, the answer %v", p, call.Work, call.Err)
		}
		return
	}
	alike := slices.DeleteFunc(w.Gateway().Requests(p.verb, p.target), func(r gateway.Request) bool { return !p.is(requestKind(r)) })
	r := alike[p.nth-1]
	if done := r.Status != 0; r.Forwarded != after || done != after || r.Answered {
		w.t.Errorf("%s: forwarded %t, status %d, answered %t", p, r.Forwarded, r.Status, r.Answered)
	}
}

// is compares all but the number.
func (p point) is(kind point) bool {
	kind.nth = p.nth
	return kind == p
}

// trap holds a provisioner at some moment, at which it is then killed: before the
// driver or the API server have seen what it sends, or after they have done it and
// before it is told so.
type trap func(w *mortal) *gate.Gate

func at(p point, after bool) trap {
	return func(w *mortal) *gate.Gate {
		if p.call != "" {
			return hold(w.Faults.On(p.call).Nth(p.nth), after)
		}
		return hold(w.Gateway().On(p.verb, p.target).When(func(r gateway.Request) bool { return p.is(requestKind(r)) }).Nth(p.nth), after)
	}
}

// atFirstCall is at the first volume that is made or deleted.
func atFirstCall(after bool) trap {
	return func(w *mortal) *gate.Gate {
		return hold(w.Faults.On(faults.AnyMethod).When(func(req any) bool {
			switch req.(type) {
			case *csi.CreateVolumeRequest, *csi.DeleteVolumeRequest:
				return true
			}
			return false
		}).Next(1), after)
	}
}

// atFirstWrite is at the first write that is not only for people to read.
func atFirstWrite(after bool) trap {
	return func(w *mortal) *gate.Gate {
		return hold(w.Gateway().On(gateway.Any, gateway.Any).When(func(r gateway.Request) bool {
			return r.Write() && r.Resource != "events"
		}).Next(1), after)
	}
}

// hold: who goes away at a gate takes the request or the call along.
func hold(s interface {
	Gate() *gate.Gate
	GateReply() *gate.Gate
}, after bool) *gate.Gate {
	if after {
		return s.GateReply()
	}
	return s.Gate()
}

// mortal is a test world whose provisioner is killed and started again.
type mortal struct {
	*kit.Env
	t    *testing.T
	args []string
	p    *kit.Provisioner
	// traps are those still to be laid, each once the one before has shut.
	traps []trap
	// victim takes the process that the trap is laid for; shut is closed when it has
	// gone into it, right before the kill.
	victim chan *kit.Provisioner
	shut   chan struct{}
	// kept, when it is called, keeps the trap from shutting, unless it has.
	kept func() (shut bool)
	// kills is how many processes died in traps.
	kills int
	// meanwhile is what happens between the first death and the next process.
	meanwhile func(*mortal)
	// claims are all that the scenario made, by uid.
	claims map[types.UID]string
	// content is the checksum of the source.
	content string
}

// mark begins the part of a scenario whose points count, and lays the first trap.
func (w *mortal) mark() {
	w.Gateway().Reset()
	w.Faults.Reset()
	w.lay()
	if w.p != nil {
		w.victim <- w.p
	}
}

// lay lays the next trap, if there is one, for whoever is given to w.victim.
func (w *mortal) lay() {
	victim, shut := make(chan *kit.Provisioner, 1), make(chan struct{})
	var first sync.Once // of shutting and being taken away
	w.victim, w.shut = victim, shut
	w.kept = func() bool {
		hasShut := true
		first.Do(func() { hasShut = false })
		return hasShut
	}
	if len(w.traps) == 0 {
		return
	}
	entered := w.traps[0](w).Entered()
	w.traps = w.traps[1:]
	go func() {
		select {
		case <-entered:
		case <-w.Ctx.Done():
			return
		}
		p := <-victim
		first.Do(func() {
			close(shut)
			_ = syscall.Kill(p.PID(), syscall.SIGKILL) // if it ended by itself, revive says so
		})
	}()
}

// launch starts a provisioner behind the gateway. It may die before it is ready.
func (w *mortal) launch(args ...string) {
	w.p = w.LaunchProvisioner(slices.Concat([]string{alone}, w.args, args)...)
}

// revive starts another provisioner if the one there was has died in a trap. The new
// one would name volumes differently if it were free to.
func (w *mortal) revive() {
	w.t.Helper()
	if w.p.Running() {
		return
	}
	select {
	case <-w.shut:
	default:
		w.t.Fatalf("the provisioner ended by itself:\n%s", w.p.Log())
	}
	w.p.Wait() // notes that its end was expected
	if w.kills++; w.kills == 1 && w.meanwhile != nil {
		w.meanwhile(w)
	}
	w.lay()
	w.launch(fmt.Sprintf("--volume-name-prefix=other%d", w.kills))
	w.victim <- w.p
}

// restart ends the provisioner in good order and starts another.
func (w *mortal) restart() {
	w.t.Helper()
	if code := w.p.Stop(); code != 0 {
		w.t.Errorf("the provisioner ended with code %d after SIGTERM, want 0", code)
	}
	w.launch()
}

// until is Eventually while the provisioner is killed and started again.
func (w *mortal) until(what string, check func() error) {
	w.t.Helper()
	w.Eventually(what, func() error {
		w.revive()
		return check()
	})
}

// disarm takes away a trap that nobody went into. Who was caught by it in the same
// moment is waited for: another one follows.
func (w *mortal) disarm() {
	w.t.Helper()
	w.traps = nil
	if w.kept() {
		w.p.Wait()
	}
	w.Gateway().Reset()
	w.Faults.Reset()
	w.revive()
}

func (w *mortal) create(name string, options ...kit.ClaimOption) {
	w.t.Helper()
	w.Create(w.Claim(name, options...))
	w.claims[w.Get(name).UID] = name
}

// discard deletes a claim unless that was done before.
func (w *mortal) discard(name string) {
	w.t.Helper()
	err := w.Admin.CoreV1().PersistentVolumeClaims(w.Namespace).Delete(w.Ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		w.t.Fatalf("deleting claim %q: %v", name, err)
	}
}

func (w *mortal) untilEntered(held *gate.Gate) {
	w.t.Helper()
	w.until("the driver is called", func() error {
		select {
		case <-held.Entered():
			return nil
		default:
			return errors.New("it is not")
		}
	})
}

// untilBound waits for a claim that is bound and off record.
func (w *mortal) untilBound(name string) {
	w.t.Helper()
	w.until("claim "+name+" is bound and off record", func() error { return w.bound(w.Get(name)) })
}

// bound returns an error unless a claim is bound and off record.
func (w *mortal) bound(claim *v1.PersistentVolumeClaim) error {
	switch {
	case claim.Status.Phase != v1.ClaimBound:
		return fmt.Errorf("it is %s", claim.Status.Phase)
	case slices.Contains(claim.Finalizers, w.DriverName+"/provisioning"):
		return errors.New("it is on record")
	}
	return nil
}

func (w *mortal) untilGone(name string) {
	w.t.Helper()
	w.until("claim "+name+" is gone", func() error {
		claim, err := w.find(name)
		if claim == nil {
			return err
		}
		return fmt.Errorf("it is there, finalizers %v", claim.Finalizers)
	})
}

// find returns a claim, nil if there is none.
func (w *mortal) find(name string) (*v1.PersistentVolumeClaim, error) {
	claim, err := w.Admin.CoreV1().PersistentVolumeClaims(w.Namespace).Get(w.Ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return claim, nil
}

// untilVolumes waits for as many volumes with as many PVs as there are bound claims.
func (w *mortal) untilVolumes(want int) {
	w.t.Helper()
	w.until(fmt.Sprintf("there are %d volumes and as many PVs", want), func() error {
		if pvs := w.PVs(); len(pvs) != want {
			return fmt.Errorf("there are %d PVs", len(pvs))
		}
		return volumes(w.Env, want)
	})
}

// untilTold waits for events of the provisioner on a claim.
func (w *mortal) untilTold(claim string, reasons ...string) {
	w.t.Helper()
	w.until("claim "+claim+" is told "+strings.Join(reasons, ", "), func() error { return w.told(claim, reasons...) })
}

// told returns an error unless the provisioner told the claim all this.
func (w *mortal) told(claim string, reasons ...string) error {
	var heard []string
	for _, event := range said(w.Env, claim) {
		heard = append(heard, event.Reason)
	}
	for _, reason := range reasons {
		if !slices.Contains(heard, reason) {
			return fmt.Errorf("it was told %v", heard)
		}
	}
	return nil
}

// checkNames fails the test if the driver was asked for two volumes for one claim, or
// for one that no claim wants.
func (w *mortal) checkNames() {
	w.t.Helper()
	names := map[types.UID]string{}
	for _, call := range w.Faults.Calls("CreateVolume") {
		name := call.Request.(*csi.CreateVolumeRequest).GetName()
		_, uid, _ := strings.Cut(name, "-")
		claim, known := w.claims[types.UID(uid)]
		switch before := names[types.UID(uid)]; {
		case !known:
			w.t.Errorf("the driver was asked for volume %q, which is no claim's: %v", name, w.claims)
		case before != "" && before != name:
			w.t.Errorf("the driver was asked for volumes %q and %q for claim %q", before, name, claim)
		}
		names[types.UID(uid)] = name
	}
}
