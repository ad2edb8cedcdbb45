package integration

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// What becomes of a volume whose claim does not want it any more is decided by the reclaim
// policy alone (docs/reliability.md, "The reclaim policy").

// reclaimEnd is where the volumes of a situation end.
type reclaimEnd int

const (
	released  reclaimEnd = iota // with a PV that Kubernetes marks Released
	available                   // with a PV that waits for the next claim of that name
	withoutPV                   // there can be no PV
)

// situation is a way for claims to lose interest in their volumes while those are made.
type situation struct {
	args []string
	play func(t *testing.T, s *reclaiming)
	end  reclaimEnd
	// onClaim: events are on the claims alone, because these are not deleted then.
	onClaim bool
}

// reclaiming is one row of the table.
type reclaiming struct {
	*kit.Env
	p      *kit.Provisioner
	args   []string
	claims map[string][]kit.ClaimOption
	uids   map[string]string
}

// create makes the claims; the driver is called for all of them.
func (s *reclaiming) create() {
	for name, options := range s.claims {
		s.Create(s.Claim(name, options...))
		s.uids[name] = string(s.Get(name).UID)
	}
}

func (s *reclaiming) each(do func(claim string)) {
	for name := range s.claims {
		do(name)
	}
}

// deleteAll deletes the claims, waits until lets is called, and until the claims are gone.
func (s *reclaiming) deleteAll(lets func()) {
	s.each(func(claim string) { s.Delete(claim) })
	if lets != nil {
		lets()
	}
	s.each(func(claim string) { s.WaitGone(claim) })
}

// restart has another process take over, between whose lives do is called.
func (s *reclaiming) restart(do func()) {
	s.p.Kill()
	do()
	s.p = s.StartProvisioner(s.args...)
}

// dial returns a client of the driver that no provisioner has.
func (s *reclaiming) dial(t *testing.T) csi.ControllerClient {
	t.Helper()
	conn, err := s.Driver.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return csi.NewControllerClient(conn)
}

// ours selects the calls for the claims of the table, not those for their source.
func (s *reclaiming) ours() faults.Selector {
	return s.Faults.On("CreateVolume").When(func(req any) bool {
		call, ok := req.(*csi.CreateVolumeRequest)
		return ok && call.GetParameters()["csi.storage.k8s.io/pvc/name"] != "src"
	})
}

func (s *reclaiming) isOurs(volume string) bool {
	for _, uid := range s.uids {
		if volume == "pvc-"+uid {
			return true
		}
	}
	return false
}

func situations() map[string]situation {
	fast := []string{alone, "--timeout=1s", "--retry-interval-start=200ms", "--retry-interval-max=500ms", "--extra-create-metadata"}
	slow := []string{alone, "--timeout=1m", "--extra-create-metadata"}
	return map[string]situation{
		"answered in time": {args: slow, play: func(t *testing.T, s *reclaiming) {
			gate := s.ours().Gate()
			s.create()
			await(t, gate.EnteredBy(len(s.claims)), "the driver is called for all")
			s.deleteAll(gate.Release)
		}},
		"answered after the timeout": {args: fast, play: func(t *testing.T, s *reclaiming) {
			gate := s.ours().HangUntilReleased()
			s.create()
			awaitCalls(s.Env, slices.Collect(maps.Keys(s.claims))...)
			s.deleteAll(gate.Release)
		}},
		"restart in between": {args: fast, play: func(_ *testing.T, s *reclaiming) {
			rule := s.ours().LoseReply()
			s.create()
			s.each(func(claim string) { s.WaitEvent(claim, "ProvisioningFailed") })
			s.restart(func() {
				rule.Remove()
				s.each(func(claim string) { s.Delete(claim) })
			})
			s.each(func(claim string) { s.WaitGone(claim) })
		}},
		"bound to another PV":                 {args: fast, end: available, onClaim: true, play: boundMeanwhile(false)},
		"bound to another PV, then a restart": {args: fast, end: available, onClaim: true, play: boundMeanwhile(true)},
		"namespace deleted": {args: slow, play: func(t *testing.T, s *reclaiming) {
			gate := s.ours().Gate()
			s.create()
			await(t, gate.EnteredBy(len(s.claims)), "the driver is called for all")
			namespaces := s.Admin.CoreV1().Namespaces()
			if err := namespaces.Delete(s.Ctx, s.Namespace, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			s.Eventually("all claims are being deleted", func() error {
				for claim := range s.claims {
					if !isGoing(s.Get(claim)) {
						return errors.New(claim + " is not")
					}
				}
				return nil
			})
			gate.Release()
			s.Eventually("the namespace is gone", func() error {
				_, err := namespaces.Get(s.Ctx, s.Namespace, metav1.GetOptions{})
				if apierrors.IsNotFound(err) {
					return nil
				}
				return errors.Join(errors.New("it is there"), err)
			})
		}},
		"broken reply": {args: fast, end: withoutPV, play: func(_ *testing.T, s *reclaiming) {
			s.ours().MutateReply(faults.Reply(func(reply *csi.CreateVolumeResponse) { reply.Volume.CapacityBytes = 1 }))
			s.create()
			s.each(func(claim string) { s.WaitEvent(claim, "ProvisioningFailed") })
			s.deleteAll(nil)
		}},
		"PV refused by admission": {args: fast, end: withoutPV, play: func(t *testing.T, s *reclaiming) {
			allow := noPVs(s.Env).install(t, s.Env)
			defer allow()
			s.create()
			s.each(func(claim string) { s.WaitEvent(claim, "ProvisioningFailed") })
			s.deleteAll(nil)
		}},
		"PV name taken": {args: fast, end: withoutPV, onClaim: true, play: func(t *testing.T, s *reclaiming) {
			// All replies, because a call is repeated after a second.
			gate := s.ours().GateReply()
			s.create()
			s.Eventually("the driver is called for all", func() error {
				if called := callsByName(s.Env); len(called) <= len(s.claims) { // one is for the source
					return fmt.Errorf("it is called for %v", called)
				}
				return nil
			})
			s.each(func(claim string) {
				other := staticPV(s.Env, "", csiVolume(otherDriver, "volume-"+claim))
				other.Name, other.Spec.ClaimRef, other.Spec.StorageClassName = "pvc-"+s.uids[claim], nil, ""
				createPV(t, s.Env, other)
			})
			gate.Release()
			s.each(func(claim string) { s.WaitEvent(claim, "VolumeNameTaken") })
			s.deleteAll(nil)
		}},
		"adopted volume": {args: slow, play: func(t *testing.T, s *reclaiming) {
			gate := s.ours().Next(len(s.claims)).Gate()
			s.create()
			await(t, gate.EnteredBy(len(s.claims)), "the driver is called for all")
			for _, call := range s.Faults.Calls("CreateVolume") {
				req, ok := call.Request.(*csi.CreateVolumeRequest)
				if !ok || !s.isOurs(req.GetName()) {
					continue
				}
				// The driver has it, with data, before the provisioner's call is worked on.
				if _, err := s.dial(t).CreateVolume(s.Ctx, proto.CloneOf(req)); err != nil {
					t.Fatal(err)
				}
			}
			s.deleteAll(gate.Release)
		}},
	}
}

// boundMeanwhile has a person bind the claims to other PVs, while each reply is lost.
func boundMeanwhile(restart bool) func(*testing.T, *reclaiming) {
	return func(t *testing.T, s *reclaiming) {
		rule := s.ours().LoseReply()
		s.create()
		s.each(func(claim string) { s.WaitEvent(claim, "ProvisioningFailed") })
		bind := func() {
			s.each(func(claim string) { bindByHand(t, s.Env, claim, csiVolume(otherDriver, "volume-of-"+claim)) })
		}
		if restart {
			s.restart(bind)
		} else {
			bind()
		}
		rule.Remove()
		s.each(func(claim string) {
			s.Eventually("nothing is left on the claim", func() error { return unmarked(s.Env, claim) })
		})
	}
}

// reclaimFigures are what the table has shown.
type reclaimFigures struct {
	mu                                          sync.Mutex
	retained, lost, kept, deletable, left, most int
}

func TestReclaimPolicyDecidesWhateverHappensToTheClaim(t *testing.T) {
	t.Parallel()
	world := kit.StartCluster(t, cluster.Options{})
	world.InstallSnapshotCRDs(t)
	var figures reclaimFigures
	t.Cleanup(func() { figures.report(t) })
	for name, c := range situations() {
		for _, policy := range []v1.PersistentVolumeReclaimPolicy{retain, remove} {
			t.Run(fmt.Sprintf("%s, %s", policy, name), func(t *testing.T) {
				t.Parallel()
				env := kit.New(t, kit.On(world), kit.ReclaimPolicy(policy))
				s := &reclaiming{Env: env, args: c.args, p: env.StartProvisioner(c.args...), uids: map[string]string{}}
				s.claims = map[string][]kit.ClaimOption{"blank": nil, "clone": {kit.CloneOf("src")}, "restore": {kit.RestoreOf("monday")}}
				bindSource()(t, env)
				env.MadeSnapshot("monday", "src")
				c.play(t, s)
				s.judge(t, policy, c, &figures)
			})
		}
	}
}

// report prints the figures, and fails the test if they are not as promised.
func (f *reclaimFigures) report(t *testing.T) {
	t.Helper()
	t.Logf("volumes of Retain classes: %d made, %d lost, %d kept without a PV; of Delete classes: %d made, %d left; most DeleteVolume calls for one volume: %d",
		f.retained, f.lost, f.kept, f.deletable, f.left, f.most)
	if f.lost != 0 || f.left != 0 || f.most > 1 {
		t.Error("want none lost, none left, and no volume deleted twice")
	}
}

// judge waits until the volumes are where the policy wants them.
func (s *reclaiming) judge(t *testing.T, policy v1.PersistentVolumeReclaimPolicy, c situation, figures *reclaimFigures) {
	t.Helper()
	want := 0
	if policy == retain {
		want = len(s.claims)
	}
	left := func() error {
		if got := len(s.handles()); got != want {
			return fmt.Errorf("there are %d", got)
		}
		return nil
	}
	s.Eventually(fmt.Sprintf("%d volumes are left", want), left)
	if want > 0 {
		s.judgeRetained(t, c)
		s.Steadily("they stay", 2*time.Second, left)
	}
	figures.add(s, policy, c)
	if c.end == withoutPV {
		s.removeByHand(t)
	}
}

// handles returns the driver's volumes for the claims, by claim.
func (s *reclaiming) handles() map[string]string {
	found := map[string]string{}
	for _, volume := range s.Driver.Driver.Volumes() {
		for claim, uid := range s.uids {
			if volume.Name == "pvc-"+uid {
				found[claim] = volume.ID
			}
		}
	}
	return found
}

func (s *reclaiming) judgeRetained(t *testing.T, c situation) {
	t.Helper()
	for claim, handle := range s.handles() {
		switch c.end {
		case withoutPV:
			s.Eventually("an event names the volume", func() error { return s.told(claim, "VolumeKept", handle, c.onClaim) })
			if !strings.Contains(s.p.Log(), handle) {
				t.Errorf("the log does not name volume %s", handle)
			}
		case available:
			s.Eventually("an event names the volume", func() error { return s.told(claim, "VolumeRetained", handle, true) })
			s.Eventually("the PV is available", func() error { return s.pvIs(claim, handle, v1.VolumeAvailable) })
		case released:
			s.Eventually("the PV is released", func() error { return s.pvIs(claim, handle, v1.VolumeReleased) })
		}
	}
	if c.end == withoutPV {
		s.p.WaitMetric(float64(len(s.claims)), "csi_clone_provisioner_volumes_kept_without_pv_total")
	}
}

// told checks that an event with the volume's handle is on the claim; and, unless onClaim,
// on the StorageClass.
func (s *reclaiming) told(claim, reason, handle string, onClaim bool) error {
	objects := map[string]string{claim: s.Namespace}
	if !onClaim {
		objects[s.Class] = metav1.NamespaceDefault
	}
	for object, namespace := range objects {
		list, err := s.Admin.CoreV1().Events(namespace).List(s.Ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + object})
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(list.Items, func(event v1.Event) bool {
			return event.Reason == reason && strings.Contains(event.Message, fmt.Sprintf("%q", handle))
		}) {
			return fmt.Errorf("%s has no event %s with %q", object, reason, handle)
		}
	}
	return nil
}

// pvIs checks the PV of a claim's volume.
func (s *reclaiming) pvIs(claim, handle string, phase v1.PersistentVolumePhase) error {
	pv, err := s.Admin.CoreV1().PersistentVolumes().Get(s.Ctx, "pvc-"+s.uids[claim], metav1.GetOptions{})
	if err != nil {
		return err
	}
	if pv.Status.Phase != phase || pv.Spec.CSI.VolumeHandle != handle || pv.Spec.PersistentVolumeReclaimPolicy != retain {
		return fmt.Errorf("it is %s, %s, of volume %s", pv.Status.Phase, pv.Spec.PersistentVolumeReclaimPolicy, pv.Spec.CSI.VolumeHandle)
	}
	return nil
}

// removeByHand does what an administrator does with volumes that were kept without a PV.
func (s *reclaiming) removeByHand(t *testing.T) {
	t.Helper()
	for _, handle := range s.handles() {
		if _, err := s.dial(t).DeleteVolume(s.Ctx, &csi.DeleteVolumeRequest{VolumeId: handle}); err != nil {
			t.Error(err)
		}
	}
}

// add counts what the driver has and was asked for.
func (f *reclaimFigures) add(s *reclaiming, policy v1.PersistentVolumeReclaimPolicy, c situation) {
	calls := map[string]int{}
	for _, call := range s.Faults.Calls("DeleteVolume") {
		if req, ok := call.Request.(*csi.DeleteVolumeRequest); ok {
			calls[req.GetVolumeId()]++
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range calls {
		f.most = max(f.most, n)
	}
	left := len(s.handles())
	if policy == remove {
		f.deletable, f.left = f.deletable+len(s.claims), f.left+left
		return
	}
	f.retained, f.lost = f.retained+len(s.claims), f.lost+len(s.claims)-left
	if c.end == withoutPV {
		f.kept += left
	}
}
