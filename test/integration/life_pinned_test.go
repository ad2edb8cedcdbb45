package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// The record says of which volume a clone is made, so that its volume is found also by
// another process and without the source. As users can write it, nothing is copied for it
// that nobody else speaks for.

// contentSource is the key of the annotation that names the source volume.
func contentSource(env *kit.Env) string {
	return strings.ToLower(env.DriverName) + "/content-source"
}

// pinnedSource returns what the record on the claim says of its source.
func pinnedSource(env *kit.Env, claim string) string {
	return env.Get(claim).Annotations[contentSource(env)]
}

// pinOf is what the record of a clone of that claim says.
func pinOf(env *kit.Env, source string) string {
	return "volume:" + env.PV(source).Spec.CSI.VolumeHandle
}

// halfMade is a world in which the driver has made the volume of clone "copy", which is
// on record, and no process that knows of it is left.
func halfMade(t *testing.T, args []string, options ...kit.ClaimOption) *kit.Env {
	t.Helper()
	env, p := withSource(t, append(args, alone)...)
	gate := env.Faults.On("CreateVolume").When(ofClones).Next(1).HangUntilReleased()
	env.Create(env.Claim("copy", append(options, kit.CloneOf("src"))...))
	await(t, gate.Entered(), "the driver is called")
	p.Kill()
	gate.Release()
	if err := env.Faults.WaitIdle(env.Ctx); err != nil {
		t.Fatal(err)
	}
	if err := volumes(env, 2); err != nil {
		t.Fatal(err)
	}
	return env
}

// loseSource lets the source of "copy" go, as it can if the record is off for a while.
func loseSource(env *kit.Env) {
	env.Update("src", func(src *v1.PersistentVolumeClaim) {
		src.Finalizers = slices.DeleteFunc(src.Finalizers, func(f string) bool { return f == cloningProtection })
	})
	env.Delete("src")
	env.WaitGone("src")
}

func TestACloneOnRecordIsCleanedUpWithoutItsSource(t *testing.T) {
	t.Parallel()
	for name, deleted := range map[string]string{"deleted before the next process": "before", "after": "after"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := halfMade(t, nil)
			loseSource(env)
			if deleted == "before" {
				env.Delete("copy")
			}
			env.StartProvisioner(alone)
			if deleted == "after" {
				env.WaitEvent("copy", "CloneSourceNotFound")
				env.Delete("copy")
			}
			env.WaitGone("copy")
			env.Eventually("no volume is left", func() error { return volumes(env, 0) })
		})
	}
}

// The cleaner is killed as well, at any of its calls.
func TestACloneWithoutItsSourceIsCleanedUpByWhoeverComesNext(t *testing.T) {
	t.Parallel()
	for call, what := range []string{"the blank request", "the request with the source on record"} {
		for when, hold := range map[string]bool{"before": true, "after": false} {
			t.Run(when+" "+what, func(t *testing.T) {
				t.Parallel()
				env := halfMade(t, nil)
				loseSource(env)
				env.Delete("copy")
				selector := env.Faults.On("CreateVolume").Nth(call + 1)
				gate := selector.GateReply
				if hold {
					gate = selector.Gate
				}
				held := gate()
				p := env.StartProvisioner(alone)
				await(t, held.Entered(), "the driver is called")
				p.Kill()
				held.Release()
				env.StartProvisioner(alone)
				env.WaitGone("copy")
				env.Eventually("no volume is left", func() error { return volumes(env, 0) })
			})
		}
	}
}

// A clone that was begun under another policy is refused by the next process; its
// volume may exist all the same, and must be found when the claim is deleted, also if
// the source is deleted first.
func TestACloneBegunUnderAnotherPolicyIsCleanedUpWithoutItsSource(t *testing.T) {
	t.Parallel()
	for name, together := range map[string]bool{"deleted together": true, "the source is gone first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, p := withSource(t, alone, "--clone-policy=compatible")
			other := env.Class + "-other"
			env.CreateClass(other)
			gate := env.Faults.On("CreateVolume").When(ofClones).Next(1).HangUntilReleased()
			env.Create(env.Claim("copy", kit.CloneOf("src"), kit.Class(other)))
			await(t, gate.Entered(), "the driver is called")
			p.Kill()
			gate.Release() // the volume exists, and nobody knows
			if err := env.Faults.WaitIdle(env.Ctx); err != nil {
				t.Fatal(err)
			}
			env.StartProvisioner(alone)
			env.WaitEvent("copy", "CloneStorageClassMismatch")
			if together {
				env.Delete("src", "copy")
			} else {
				env.Delete("src")
				env.WaitGone("src")
				env.Delete("copy")
			}
			env.WaitGone("copy", "src")
			env.Eventually("no volume is left", func() error { return volumes(env, 0) })
		})
	}
}

// The driver has said that something has the name: that it cannot copy a source which
// is gone says nothing about that.
func TestADriverThatMissesTheSourceDoesNotProveThatNoCopyExists(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]bool{"the source is gone": true, "the source breaks a rule": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			policy := "--clone-policy=compatible"
			env, p := withSource(t, alone, policy)
			other := env.Class + "-other"
			env.CreateClass(other)
			gate := env.Faults.On("CreateVolume").When(ofClones).Next(1).HangUntilReleased()
			env.Create(env.Claim("copy", kit.CloneOf("src"), kit.Class(other)))
			await(t, gate.Entered(), "the driver is called")
			p.Kill()
			gate.Release()
			if err := env.Faults.WaitIdle(env.Ctx); err != nil {
				t.Fatal(err)
			}
			if lost {
				loseSource(env)
			}
			rule := env.Faults.On("CreateVolume").When(ofClones).Fail(codes.NotFound, "no such source")
			before := len(cloneCalls(env))
			env.StartProvisioner(alone, "--timeout=200ms", "--retry-interval-max=300ms")
			env.Delete("copy")
			env.WaitEvent("copy", "CleanUpBlocked")
			env.Eventually("the driver is asked more than once", func() error {
				if calls := len(cloneCalls(env)) - before; calls < 4 {
					return fmt.Errorf("it was asked %d times", calls)
				}
				return nil
			})
			if err := onRecord(env, "copy"); err != nil {
				t.Error(err)
			}
			rule.Remove()
			env.WaitGone("copy")
			if !lost {
				leave(env, "src")
			}
			env.Eventually("no volume is left", func() error { return volumes(env, 0) })
		})
	}
}

// Who writes the name of somebody else's volume into a record gets no copy of it.
func TestAForgedSourceOnRecordCopiesNothing(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	p := env.StartProvisioner(alone)
	env.Create(env.Claim("secret"))
	env.WaitBound("secret")
	secret := env.PV("secret").Spec.CSI.VolumeHandle
	forge := []kit.ClaimOption{forged(env), kit.Annotation(contentSource(env), pinOf(env, "secret"))}
	env.Create(env.Claim("missing", append(forge, kit.CloneOf("nowhere"))...), env.Claim("blank", append(forge, kit.Size("2Gi"))...))
	env.WaitEvent("missing", "CloneSourceNotFound")
	env.WaitBound("blank")
	copies := func() error {
		for _, call := range env.Faults.Calls("CreateVolume") {
			if call.Request.(*csi.CreateVolumeRequest).GetVolumeContentSource() != nil {
				return fmt.Errorf("the driver was asked for a copy: %v", call.Request)
			}
		}
		return nil
	}
	env.Delete("missing")
	env.WaitGone("missing")
	if err := copies(); err != nil {
		t.Error(err)
	}
	// Nor if nothing is known of its volume, or the process is another one.
	p.Kill()
	env.Create(env.Claim("missing", append(forge, kit.CloneOf("nowhere"))...))
	rule := env.Faults.On("CreateVolume").Fail(codes.Unavailable, "busy")
	env.StartProvisioner(alone, "--timeout=200ms", "--retry-interval-max=300ms")
	env.Delete("missing")
	env.WaitEvent("missing", "CleanUpBlocked")
	rule.Remove()
	env.WaitGone("missing")
	if err := copies(); err != nil {
		t.Error(err)
	}
	env.Eventually("there are the volumes of the claims that are left", func() error { return volumes(env, 2) })
	if env.PV("secret").Spec.CSI.VolumeHandle != secret {
		t.Error("the volume of somebody else was replaced")
	}
}

// Only behind ALREADY_EXISTS another source is asked for, which a driver that compares
// refuses; and what helps is on the claim, for a person to mend.
func TestAWrongSourceOnRecordIsToldAndCanBeMended(t *testing.T) {
	t.Parallel()
	env := halfMade(t, nil)
	right := pinnedSource(env, "copy")
	if want := pinOf(env, "src"); right != want {
		t.Fatalf("on record is %q, want %q", right, want)
	}
	loseSource(env)
	p := env.StartProvisioner(alone)
	env.Create(env.Claim("secret"))
	env.WaitBound("secret")
	p.Kill()
	wrong := pinOf(env, "secret")
	env.Update("copy", kit.Annotation(contentSource(env), wrong))
	before := len(env.Faults.Calls("CreateVolume"))
	env.Delete("copy")
	env.StartProvisioner(alone, "--timeout=200ms", "--retry-interval-max=300ms")
	env.WaitEvent("copy", "CleanUpBlocked")
	env.Steadily("the claim stays", time.Second, func() error { return onRecord(env, "copy") })
	blank := false
	for _, call := range env.Faults.Calls("CreateVolume")[before:] {
		if call.Request.(*csi.CreateVolumeRequest).GetVolumeContentSource() == nil {
			blank = true
		} else if !blank {
			t.Error("a copy was asked for before a blank volume")
		}
	}
	if err := volumes(env, 2); err != nil {
		t.Error(err)
	}
	env.Update("copy", kit.Annotation(contentSource(env), right))
	env.WaitGone("copy")
	env.Eventually("the other volume is left", func() error { return volumes(env, 1) })
}

// A record of an older version does not name the source: whoever finds it writes it.
func TestARecordWithoutItsSourceIsCompleted(t *testing.T) {
	t.Parallel()
	env := halfMade(t, nil)
	want := pinOf(env, "src")
	env.Update("copy", func(claim *v1.PersistentVolumeClaim) { delete(claim.Annotations, contentSource(env)) })
	gate := env.Faults.On("CreateVolume").When(ofClones).Next(1).Gate()
	p := env.StartProvisioner(alone)
	await(t, gate.Entered(), "the driver is asked again")
	if got := pinnedSource(env, "copy"); got != want {
		t.Errorf("on record is %q, want %q", got, want)
	}
	p.Kill()
	gate.Release()
	loseSource(env)
	env.Delete("copy")
	env.StartProvisioner(alone)
	env.WaitGone("copy")
	env.Eventually("no volume is left", func() error { return volumes(env, 0) })
}

// A source that was replaced while the clone was on record is another volume: the clone
// is not made of that, as long as something of the first may exist, and the first stays
// on record.
func TestASourceThatWasReplacedHidesNoVolume(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ tried, stripped bool }{
		"deleted at once":                          {},
		"tried again first":                        {tried: true},
		"tried again, without its record at first": {tried: true, stripped: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := halfMade(t, nil)
			right := pinnedSource(env, "copy")
			loseSource(env)
			if c.stripped {
				env.Update("copy", strip)
			}
			if !c.tried {
				env.Delete("copy")
			}
			short := []string{alone, "--timeout=500ms", "--retry-interval-max=300ms"}
			env.Create(env.Claim("src"))
			p := env.StartProvisioner(short...)
			env.WaitBound("src")
			if c.tried {
				env.Eventually("it is told that something else exists", func() error {
					for _, event := range said(env, "copy") {
						if strings.Contains(event.Message, "exists with another content source") {
							return nil
						}
					}
					return errors.New("it is not")
				})
				env.Steadily("the first source stays on record", time.Second, func() error {
					if got := pinnedSource(env, "copy"); got != right {
						return fmt.Errorf("on record is %q, want %q", got, right)
					}
					return nil
				})
				p.Kill()
				env.StartProvisioner(short...)
				env.Delete("copy")
			}
			env.WaitGone("copy")
			leave(env, "src")
			env.Eventually("no volume is left", func() error { return volumes(env, 0) })
		})
	}
}
