package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/utils/ptr"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// Provisioners that are started with other flags, or find another world, while claims
// are on record: the record says what has to be repeated.

// restart is what is different when the next process starts.
type restart struct {
	before, after []string
	change        func(t *testing.T, env *kit.Env)
}

func restarts() map[string]restart {
	return map[string]restart{
		"another prefix":                  {after: []string{"--volume-name-prefix=other"}},
		"names become short":              {after: []string{"--volume-name-uuid-length=8"}},
		"names become short and others":   {after: []string{"--volume-name-prefix=other", "--volume-name-uuid-length=8"}},
		"names were short":                {before: []string{"--volume-name-uuid-length=8"}},
		"names were shorter":              {before: []string{"--volume-name-uuid-length=6"}, after: []string{"--volume-name-uuid-length=20"}},
		"short names with another prefix": {before: []string{"--volume-name-uuid-length=8"}, after: []string{"--volume-name-prefix=other"}},
		"another policy":                  {before: []string{"--clone-policy=compatible"}, after: []string{"--worker-threads=1"}},
		"the source has grown":            {change: func(t *testing.T, env *kit.Env) { expandByHand(t, env, "src", "9Gi") }},
		"the source is being deleted":     {change: func(_ *testing.T, env *kit.Env) { env.Delete("src") }},
	}
}

func TestWhatIsOnRecordHoldsWhateverTheNextProcessIsTold(t *testing.T) {
	t.Parallel()
	for name, c := range restarts() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := kit.New(t, kit.DriverConfig(func(config *demodriver.Config) { config.Granularity = 3 * gibi }))
			p := env.StartProvisioner(append([]string{alone, "--timeout=1s"}, c.before...)...)
			sizedSource(env, "2Gi")
			before := len(env.Faults.Calls("CreateVolume"))
			rule := env.Faults.On("CreateVolume").LoseReply()
			var wanted, doomed []string
			for kind, options := range kinds() {
				env.Create(env.Claim(kind, append(options, kit.Size("2Gi"))...), env.Claim(kind+"-doomed", append(options, kit.Size("2Gi"))...))
				wanted, doomed = append(wanted, kind), append(doomed, kind+"-doomed")
			}
			for _, claim := range append(wanted, doomed...) {
				env.WaitEvent(claim, "ProvisioningFailed")
			}
			p.Kill()
			rule.Remove()
			ids := map[string]bool{}
			for _, volume := range env.Driver.Driver.Volumes() {
				ids[volume.ID] = true
			}
			if len(ids) != 5 {
				t.Fatalf("the test needs 5 volumes, there are %d", len(ids))
			}
			env.Delete(doomed...)
			if c.change != nil {
				c.change(t, env)
			}
			env.StartProvisioner(append([]string{alone, "--timeout=1s"}, c.after...)...)
			env.WaitBound(wanted...)
			env.WaitGone(doomed...)
			for _, claim := range wanted {
				if !ids[env.PV(claim).Spec.CSI.VolumeHandle] {
					t.Errorf("claim %q has got a new volume", claim)
				}
			}
			sameRequests(t, env.Faults.Calls("CreateVolume")[before:], 4)
			if slices.Contains(claimsOf(env), "src") && !isGoing(env.Get("src")) {
				env.Delete("src")
			}
			env.WaitGone("src")
			env.Eventually("there are the volumes of the claims that are left", func() error { return volumes(env, 2) })
		})
	}
}

// sameRequests fails the test unless the calls are for so many volumes, with the same
// request each time.
func sameRequests(t *testing.T, calls []faults.Call, want int) {
	t.Helper()
	first := map[string]proto.Message{}
	for _, call := range calls {
		name := call.Request.(interface{ GetName() string }).GetName()
		if first[name] == nil {
			first[name] = call.Request
		}
		if !proto.Equal(first[name], call.Request) {
			t.Errorf("a later request differs: %v, first was %v", call.Request, first[name])
		}
	}
	if len(first) != want {
		t.Errorf("the driver was asked for %d volumes, want %d: %v", len(first), want, first)
	}
}

func onShelf(shelf string) func(*storagev1.StorageClass) {
	return func(class *storagev1.StorageClass) { class.Parameters = map[string]string{"shelf": shelf} }
}

// The parameters of a class are not on record. A class that is made again with others
// changes nothing for the process that has made the call. Another one has to ask by
// the new parameters, and a driver that compares them says so: that is told, and all
// goes on when the class is as it was.
func TestAClassMadeAgainWithOtherParameters(t *testing.T) {
	t.Parallel()
	for name, processes := range map[string]int{"by the same process": 1, "by another process": 2, "by a third process": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			another := processes > 1
			env := kit.New(t, kit.ChangeClass(onShelf("upper")))
			args := []string{alone, "--timeout=1s", "--retry-interval-max=500ms"}
			p := env.StartProvisioner(args...)
			bindSource()(t, env)
			before := len(env.Faults.Calls("CreateVolume"))
			rule := env.Faults.On("CreateVolume").LoseReply()
			var wanted, doomed []string
			for kind, options := range kinds() {
				env.Create(env.Claim(kind, options...), env.Claim(kind+"-doomed", options...))
				wanted, doomed = append(wanted, kind), append(doomed, kind+"-doomed")
			}
			for _, claim := range append(wanted, doomed...) {
				env.WaitEvent(claim, "ProvisioningFailed")
			}
			if another {
				p.Kill()
			}
			dropClass(t, env, env.Class)
			env.CreateClass(env.Class, onShelf("lower"))
			rule.Remove()
			env.Delete(doomed...)
			if another {
				second := env.StartProvisioner(args...)
				othersParameters(t, env, wanted, doomed)
				dropClass(t, env, env.Class)
				env.CreateClass(env.Class, onShelf("upper"))
				if processes > 2 {
					second.Kill()
					env.StartProvisioner(args...)
				}
			}
			env.WaitBound(wanted...)
			env.WaitGone(doomed...)
			if !another {
				sameRequests(t, env.Faults.Calls("CreateVolume")[before:], 4)
			}
			leave(env, "src")
			env.Eventually("there are the volumes of the claims that are left", func() error { return volumes(env, 2) })
		})
	}
}

// othersParameters fails the test unless the claims are told that their volumes exist
// with other parameters, and all are kept.
func othersParameters(t *testing.T, env *kit.Env, wanted, doomed []string) {
	t.Helper()
	tell := map[string]string{}
	for _, claim := range wanted {
		tell[claim] = "ProvisioningFailed"
	}
	for _, claim := range doomed {
		tell[claim] = "CleanUpBlocked"
	}
	for claim, reason := range tell {
		words := fmt.Sprintf("named %q exists with another parameters than requested", "pvc-"+string(env.Get(claim).UID))
		env.Eventually("what the driver says is told", func() error {
			if event := env.WaitEvent(claim, reason); !strings.Contains(event.Message, words) {
				return fmt.Errorf("claim %q was told %q", claim, event.Message)
			}
			return nil
		})
	}
	env.Steadily("all stay on record, and all volumes", 3*time.Second, func() error {
		for claim := range tell {
			if err := onRecord(env, claim); err != nil {
				return err
			}
		}
		return volumes(env, 5)
	})
}

// A source that its user makes larger while a clone of it is on record: rule 8 is asked
// before work goes on. The clone is told, and leaves nothing when it is deleted.
func TestACloneOnRecordWhoseSourceIsMadeLargerIsToldAndCleanedUp(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.ChangeClass(func(class *storagev1.StorageClass) { class.AllowVolumeExpansion = ptr.To(true) }))
	args := []string{alone, "--timeout=1s", "--retry-interval-max=500ms"}
	p := env.StartProvisioner(args...)
	sizedSource(env, "1Gi")
	rule := env.Faults.On("CreateVolume").When(ofClones).LoseReply()
	env.Create(env.Claim("copy", kit.CloneOf("src")), env.Claim("doomed", kit.CloneOf("src")))
	for _, claim := range []string{"copy", "doomed"} {
		env.WaitEvent(claim, "ProvisioningFailed")
	}
	p.Kill()
	env.Update("src", kit.Size("2Gi"))
	env.Delete("doomed")
	rule.Remove()
	env.StartProvisioner(args...)
	env.WaitGone("doomed")
	env.Eventually("the clone is told", func() error {
		if event := env.WaitEvent("copy", "CloneTooSmall"); event.Message != tooSmall("2Gi", "1Gi").message {
			return fmt.Errorf("it was told %q", event.Message)
		}
		return nil
	})
	env.Delete("copy", "src")
	env.WaitGone("copy", "src")
	env.Eventually("no volume is left", func() error { return volumes(env, 0) })
}
