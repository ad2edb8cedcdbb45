package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// People write to claims: records that are stripped, and records whose pins are
// changed. Nothing is lost by it, and no volume of anybody else is touched.

// strip takes the record's finalizer off.
func strip(claim *v1.PersistentVolumeClaim) {
	claim.Finalizers = slices.DeleteFunc(claim.Finalizers, func(f string) bool { return strings.HasSuffix(f, "/provisioning") })
}

// stripAll takes all of the record off.
func stripAll(claim *v1.PersistentVolumeClaim) {
	strip(claim)
	for key := range claim.Annotations {
		for _, pin := range []string{"/volume-name", "/required-bytes", "/content-source", "/provisioner-secret"} {
			if strings.HasSuffix(key, pin) {
				delete(claim.Annotations, key)
			}
		}
	}
}

// With a call in flight and a deletion: TestARecordStrippedWhileACallIsOpenLosesNothing.
func TestARecordStrippedBetweenAttemptsIsPutBack(t *testing.T) {
	t.Parallel()
	common := kit.New(t)
	p := common.StartProvisioner("--extra-create-metadata")
	strips := map[string]func(*v1.PersistentVolumeClaim){"finalizer": strip, "all": stripAll}
	for outcome, fault := range outcomes() {
		for kind, options := range kinds() {
			for what, change := range strips {
				for end, doomed := range map[string]bool{"wanted": false, "deleted": true} {
					t.Run(fmt.Sprintf("%s, outcome %s, %s, %s", what, outcome, kind, end), func(t *testing.T) {
						env := common.Beside(t)
						t.Parallel()
						bindSource()(t, env)
						rule := failing(env, fault, options...)
						volume := "pvc-" + string(env.Get("data").UID)
						env.Update("data", change)
						if doomed {
							env.Delete("data")
						}
						rule.Remove()
						if doomed {
							env.WaitGone("data")
						} else {
							env.WaitBound("data")
							env.Eventually("nothing is left on the claim", func() error { return unmarked(env, "data") })
						}
						repeated(t, env, volume, len(callsNamed(env, volume)))
						leave(env, "src")
						if doomed {
							env.Eventually("its volume is gone", func() error { return noVolume(env, volume) })
						}
					})
				}
			}
		}
	}
	t.Cleanup(func() {
		if !strings.Contains(p.Log(), "it is put back") {
			t.Error("no record was put back: this proves little")
		}
	})
}

// The record may be gone before a look at the claim could put it back, and by then the
// claim is bound.
func TestPinsWithoutTheirRecordAreTakenOffABoundClaim(t *testing.T) {
	t.Parallel()
	for mode, when := range map[string]string{"off": "before", "all": "after"} {
		for key, value := range map[string]string{"/required-bytes": "1073741824", "/content-source": "volume:v", "/provisioner-secret": "vault/s"} {
			t.Run(when+key, func(t *testing.T) {
				t.Parallel()
				env := kit.New(t)
				env.StartProvisioner("--provisioning-record=" + mode)
				pin := kit.Annotation(env.DriverName+key, value)
				if when == "before" {
					env.Create(env.Claim("data", pin))
				} else {
					env.Create(env.Claim("data"))
				}
				env.WaitBound("data")
				if when == "after" {
					env.Eventually("the claim is off record", func() error { return unmarked(env, "data") })
					env.Update("data", pin)
				}
				env.Eventually("nothing is left on the claim", func() error { return unmarked(env, "data") })
			})
		}
	}
}

// noVolume returns an error if the driver has a volume of that name.
func noVolume(env *kit.Env, name string) error {
	for _, volume := range env.Driver.Driver.Volumes() {
		if volume.Name == name {
			return fmt.Errorf("there is %v", volume)
		}
	}
	return nil
}

func TestARecordStrippedWhileACallIsOpenDoesNotStopTheClaim(t *testing.T) {
	t.Parallel()
	common := kit.New(t)
	common.StartProvisioner("--extra-create-metadata", "--timeout=1s", "--retry-interval-start=100ms")
	holds := map[string]func(faults.Selector) *faults.Gate{
		"before the driver works":          faults.Selector.Gate,
		"after it has worked":              faults.Selector.GateReply,
		"it works only after the deadline": faults.Selector.HangUntilReleased,
	}
	for name, hold := range holds {
		for kind, options := range kinds() {
			t.Run(name+", "+kind, func(t *testing.T) {
				env := common.Beside(t)
				t.Parallel()
				bindSource()(t, env)
				gate := hold(env.Faults.On("CreateVolume").When(inNamespace(env.Namespace)).Next(1))
				env.Create(env.Claim("data", options...))
				await(t, gate.Entered(), "the driver is called")
				env.Update("data", stripAll)
				gate.Release()
				env.WaitBound("data")
				env.Eventually("nothing is left on the claim", func() error { return unmarked(env, "data") })
				if noVolume(env, env.Get("data").Spec.VolumeName) == nil {
					t.Error("the claim is bound, but has no volume")
				}
				leave(env, "src")
			})
		}
	}
}

// A record that is stripped while nobody runs: the next process begins anew, under
// the same name, and finds what there is.
func TestARecordStrippedWhileNobodyRunsIsWrittenAgain(t *testing.T) {
	t.Parallel()
	env, p := withSource(t, alone)
	env.Faults.On("CreateVolume").LoseReply()
	for kind, options := range kinds() {
		env.Create(env.Claim(kind, options...))
		env.WaitEvent(kind, "ProvisioningFailed")
	}
	p.Kill()
	env.Faults.Reset()
	for kind := range kinds() {
		env.Update(kind, stripAll)
	}
	env.StartProvisioner(alone)
	env.WaitBound("blank", "clone")
	if err := volumes(env, 3); err != nil {
		t.Error(err)
	}
	leave(env, "src")
}

// tampering is what a person writes into the pins of a record; "" removes one.
type tampering struct{ name, volume, bytes, source string }

// tamperings are for a claim of 2Gi, of a driver that makes 3Gi of it. {other} is
// the name of the volume of another claim, {handle} its handle. Bytes between what a
// clone asks for and what its source has are believed: a source that has grown leaves such
// a record, too. Another source is looked for, behind a blank volume, by another process
// that cleans up.
func tamperings() []tampering {
	const keep = "{own}"
	return []tampering{
		{"the name of another volume", "{other}", keep, keep},
		{"a name that no PV can have", "No/PV: can have\nthis", keep, keep},
		{"an empty name", " ", keep, keep},
		{"no name", "", keep, keep},
		{"huge", keep, "9223372036854775807", keep},
		{"far too huge", keep, "99999999999999999999999999", keep},
		{"more", keep, "5368709120", keep},
		{"negative", keep, "-3221225472", keep},
		{"zero", keep, "0", keep},
		{"less than is asked for", keep, "1073741824", keep},
		{"garbage", keep, "3Gi", keep},
		{"no bytes", keep, "", keep},
		{"nothing", "", "", ""},
		{"all wrong", "{other}", "1", "volume:{handle}"},
		{"the source is another volume", keep, keep, "volume:{handle}"},
		{"the source is a snapshot", keep, keep, "snapshot:{handle}"},
		{"the source is garbage", keep, keep, "{handle}\n"},
		{"no source", keep, keep, ""},
	}
}

// apply changes the pins of a claim on record.
func (w tampering) apply(env *kit.Env, claim string, other *v1.PersistentVolume) {
	env.Update(claim, func(claim *v1.PersistentVolumeClaim) {
		for key, value := range map[string]string{"/volume-name": w.volume, "/required-bytes": w.bytes, "/content-source": w.source} {
			switch key = strings.ToLower(env.DriverName) + key; value {
			case "{own}":
			case "":
				delete(claim.Annotations, key)
			default:
				claim.Annotations[key] = strings.NewReplacer("{other}", other.Name, "{handle}", other.Spec.CSI.VolumeHandle).Replace(value)
			}
		}
	})
}

// tampered is a world with a claim for each tampering and each kind, and as many that
// are deleted.
type tampered struct {
	env *kit.Env
	// claims and the names of their volumes.
	wanted, doomed map[string]string
	// other is the PV of somebody else's volume.
	other *v1.PersistentVolume
	// first are the requests from before the tampering, by name.
	first map[string]string
	// misled are volumes for which another process is told of another source: it asks for a
	// blank one, and only then for others.
	misled map[string]bool
}

// requestsByName returns the first request for each volume, and fails the test if
// there was another one after it, unless somebody was misled.
func requestsByName(t *testing.T, env *kit.Env, first map[string]string, misled map[string]bool) map[string]string {
	t.Helper()
	blank := map[string]bool{}
	for _, call := range env.Faults.Calls("CreateVolume") {
		req := call.Request.(*csi.CreateVolumeRequest)
		name, text := req.GetName(), fmt.Sprint(call.Request)
		if first[name] == "" {
			first[name] = text
		}
		blank[name] = blank[name] || req.GetVolumeContentSource() == nil
		if allowed := misled[name] && blank[name]; first[name] != text && !allowed {
			t.Errorf("a later request differs: %s, first was %s", text, first[name])
		}
	}
	return first
}

// tamper creates the claims, whose outcome is unknown, tampers with all of their
// records, and deletes those that are not wanted. between is called before.
func tamper(t *testing.T, env *kit.Env, between func()) tampered {
	t.Helper()
	env.Create(env.Claim("src", kit.Size("2Gi")), env.Claim("other", kit.Size("2Gi")))
	env.WaitBound("src", "other")
	env.WriteFile("other", "file", []byte("of somebody else"))
	w := tampered{env: env, wanted: map[string]string{}, doomed: map[string]string{}, misled: map[string]bool{}, other: env.PV("other")}
	env.Faults.On("CreateVolume").LoseReply()
	each := func(do func(claim string, change tampering, options []kit.ClaimOption, set map[string]string)) {
		for i, change := range tamperings() {
			for kind, options := range kinds() {
				do(fmt.Sprintf("%s-%02d", kind, i), change, options, w.wanted)
				do(fmt.Sprintf("%s-%02d-doomed", kind, i), change, options, w.doomed)
			}
		}
	}
	each(func(claim string, _ tampering, options []kit.ClaimOption, set map[string]string) {
		env.Create(env.Claim(claim, append(options, kit.Size("2Gi"))...))
		set[claim] = "pvc-" + string(env.Get(claim).UID)
	})
	each(func(claim string, _ tampering, _ []kit.ClaimOption, set map[string]string) {
		env.Eventually("its volume is made", func() error {
			if noVolume(env, set[claim]) == nil {
				return errors.New("it is not")
			}
			return nil
		})
	})
	w.first = requestsByName(t, env, map[string]string{}, nil)
	between()
	each(func(claim string, change tampering, _ []kit.ClaimOption, _ map[string]string) {
		change.apply(env, claim, w.other)
		if strings.HasPrefix(change.source, "volume:") && strings.HasPrefix(claim, "clone-") {
			w.misled[w.doomed[claim]] = true
		}
	})
	for claim := range w.doomed {
		env.Delete(claim)
	}
	return w
}

// check fails the test unless the claims have come to their end, and nobody else's
// volume was touched.
func (w tampered) check(t *testing.T) {
	t.Helper()
	waitAllBoundOrGone(w.env, len(w.wanted)+2)
	for claim, volume := range w.wanted {
		bound := w.env.Get(claim)
		if bound.Spec.VolumeName != volume {
			t.Errorf("claim %q is bound to PV %q, want %q", claim, bound.Spec.VolumeName, volume)
		}
	}
	if before := len(w.first); len(requestsByName(t, w.env, w.first, w.misled)) != before {
		t.Errorf("the driver was asked for volumes of other names: %v", w.first)
	}
	if got := string(w.env.ReadFile("other", "file")); got != "of somebody else" {
		t.Errorf("the other volume has content %q", got)
	}
	w.env.Eventually("there are the volumes of the claims that are left", func() error { return volumes(w.env, len(w.wanted)+2) })
	leave(w.env, "src")
}

// waitAllBoundOrGone waits until so many claims are left, all of them bound.
func waitAllBoundOrGone(env *kit.Env, want int) {
	env.Eventually("the claims are bound or gone", func() error {
		if n := len(claimsOf(env)); n != want {
			return fmt.Errorf("there are %d claims, want %d", n, want)
		}
		return nil
	})
	waitAllBound(env)
}

func TestARecordThatIsTamperedWithIsNotBelieved(t *testing.T) {
	t.Parallel()
	three := kit.DriverConfig(func(config *demodriver.Config) { config.Granularity = 3 * gibi })
	short := []string{alone, "--timeout=1s", "--retry-interval-max=500ms"}
	t.Run("by the process that wrote it", func(t *testing.T) {
		t.Parallel()
		env := kit.New(t, three)
		env.StartProvisioner(short...)
		w := tamper(t, env, func() {})
		w.misled = nil
		source := pinOf(env, "src")
		for _, set := range []map[string]string{w.wanted, w.doomed} {
			for claim := range set {
				env.Eventually("the source on record is mended", func() error {
					want := ""
					if strings.HasPrefix(claim, "clone-") {
						want = source
					}
					if got := pinnedSource(env, claim); got != want {
						return fmt.Errorf("of claim %q it is %q, want %q", claim, got, want)
					}
					return nil
				})
			}
		}
		env.Steadily("nobody else's claim is touched", 500*time.Millisecond, func() error { return unmarked(env, "other") })
		env.Faults.Reset()
		w.check(t)
	})
	t.Run("by another process", func(t *testing.T) {
		t.Parallel()
		env := kit.New(t, three)
		p := env.StartProvisioner(short...)
		w := tamper(t, env, p.Kill)
		env.Faults.Reset()
		env.StartProvisioner(short...)
		w.check(t)
	})
}
