package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// What an answer proves after a call whose outcome nobody knows (design, "The
// ledger"), shown by claims that are deleted then.

// apart is the timeout of these tests: two answers that nothing exists count if they
// are so far apart.
const apart = time.Second

// errorArgs give the cleaner a constant pause of a little more than a timeout.
var errorArgs = []string{"--timeout=1s", "--retry-interval-start=1s", "--retry-interval-max=1s", "--extra-create-metadata"}

// untilSeen waits until the provisioner has seen every change that the test has made to
// claims before: it reacts to a claim that is created afterwards.
func untilSeen(env *kit.Env) {
	env.Create(env.Claim("marker", kit.CloneOf("no-such-claim")))
	env.WaitEvent("marker", "CloneSourceNotFound")
	env.Delete("marker")
}

// deleteUnknown creates claim "data" and deletes it after a call for it was lost. Calls are
// lost until the provisioner has seen the deletion, so all later ones are clean-ups. It
// returns the name of the volume, and when the claim is gone. With made the lost calls have
// made the volume; then is what the driver answers afterwards.
func deleteUnknown(t *testing.T, env *kit.Env, made bool, options []kit.ClaimOption, then ...func(faults.Selector) *faults.Rule) (volume string, gone <-chan time.Time) {
	t.Helper()
	ours := env.Faults.On("CreateVolume").When(inNamespace(env.Namespace))
	lost := ours.LoseReply()
	if !made {
		lost.Remove()
		lost = ours.Fail(codes.Unavailable, "the call was lost")
	}
	for _, rule := range then {
		rule(ours)
	}
	env.Create(env.Claim("data", options...))
	env.WaitEvent("data", "ProvisioningFailed")
	volume = "pvc-" + string(env.Get("data").UID)
	gone = when(t, env, "data", isGone)
	env.Delete("data")
	untilSeen(env)
	lost.Remove()
	return volume, gone
}

// next has the driver answer that often with a code, ever after if times is 0.
func next(times int, code codes.Code) func(faults.Selector) *faults.Rule {
	return func(s faults.Selector) *faults.Rule { return s.Next(times).Fail(code, "it says") }
}

// answers returns the code and the time of each answer to a call for a volume. Of the calls
// that were lost at first only the last one counts.
func answers(env *kit.Env, volume string) (got []codes.Code, at []time.Time) {
	for _, call := range callsNamed(env, volume) {
		if call.Done() {
			got, at = append(got, status.Code(call.Err)), append(at, call.End)
		}
	}
	for len(got) > 1 && got[0] == codes.Unavailable && got[1] == codes.Unavailable {
		got, at = got[1:], at[1:]
	}
	return got, at
}

func TestAfterAnUnknownOutcomeTheseAnswersDoNotProveAbsence(t *testing.T) {
	t.Parallel()
	common := kit.New(t)
	common.StartProvisioner(errorArgs...)
	for _, code := range []codes.Code{
		codes.AlreadyExists, codes.Internal, codes.Unknown, codes.Aborted, codes.DataLoss, codes.Unavailable,
		codes.DeadlineExceeded, codes.Canceled, codes.Unauthenticated, codes.PermissionDenied, codes.Code(99),
	} {
		for kind, options := range kinds() {
			t.Run(fmt.Sprintf("%s, %s", code, kind), func(t *testing.T) {
				env := common.Beside(t)
				t.Parallel()
				bindSource()(t, env)
				volume, _ := deleteUnknown(t, env, true, options, next(2, code))
				env.Eventually("an event names the volume and the driver's answer", func() error {
					for _, event := range env.Events("data") {
						if event.Reason == "CleanUpBlocked" && strings.Contains(event.Message, fmt.Sprintf("%q", volume)) && strings.Contains(event.Message, "it says") {
							return nil
						}
					}
					return errors.New("there is none")
				})
				env.Delete("src")
				env.WaitGone("data", "src")
				want := []codes.Code{codes.Unavailable, code, code, codes.OK}
				if code == codes.Unavailable {
					want = want[2:] // answers counts them once
				}
				if got, _ := answers(env, volume); !slices.Equal(got, want) {
					t.Errorf("the answers were %v, want %v", got, want)
				}
				env.Eventually("the volume is deleted", func() error { return noVolume(env, volume) })
			})
		}
	}
}

// absent are the codes by which a driver says that nothing exists.
var absent = []codes.Code{
	codes.InvalidArgument, codes.NotFound, codes.ResourceExhausted, codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented,
}

func TestAfterAnUnknownOutcomeAbsenceIsProvenByTwoAnswersATimeoutApart(t *testing.T) {
	t.Parallel()
	common := kit.New(t)
	common.StartProvisioner(errorArgs...)
	for _, code := range absent {
		const lost, no, ok = codes.Unavailable, codes.Internal, codes.OK
		for name, c := range map[string]struct {
			made bool
			then []func(faults.Selector) *faults.Rule
			want []codes.Code
		}{
			"again and again":                 {false, []func(faults.Selector) *faults.Rule{next(0, code)}, []codes.Code{lost, code}},
			"once, and the volume is made":    {true, []func(faults.Selector) *faults.Rule{next(1, code)}, []codes.Code{lost, code, ok}},
			"with another answer in between":  {true, []func(faults.Selector) *faults.Rule{next(1, code), next(1, no), next(1, code)}, []codes.Code{lost, code, no, code, ok}},
			"again and again, after one more": {false, []func(faults.Selector) *faults.Rule{next(1, code), next(1, no), next(0, code)}, []codes.Code{lost, code, no, code}},
		} {
			t.Run(fmt.Sprintf("%s, %s", code, name), func(t *testing.T) {
				env := common.Beside(t)
				t.Parallel()
				volume, gone := deleteUnknown(t, env, c.made, nil, c.then...)
				end := await(t, gone, "the claim is gone")
				got, at := answers(env, volume)
				if !slices.Equal(slices.Compact(slices.Clone(got)), c.want) {
					t.Errorf("the answers were %v, want these, the last one perhaps repeated: %v", got, c.want)
				}
				if !c.made {
					first := at[len(c.want)-1] // of the last row of equal answers
					if after := end.Sub(first); after < apart {
						t.Errorf("the answers %v were believed after %s, want %s at least", got, after, apart)
					}
				}
				count := len(callsNamed(env, volume))
				env.Eventually("the volume is deleted", func() error { return noVolume(env, volume) })
				env.Steadily("nobody calls for a claim that is gone", apart, func() error {
					if n := len(callsNamed(env, volume)); n != count {
						return fmt.Errorf("there are %d calls", n)
					}
					return nil
				})
			})
		}
	}
}

// Without a call of unknown outcome one such answer is enough.
func TestAfterAFirstCallOneAnswerProvesAbsence(t *testing.T) {
	t.Parallel()
	common := kit.New(t)
	common.StartProvisioner("--timeout=2m", "--extra-create-metadata") // the call is held until the deletion is seen
	for _, code := range append([]codes.Code{codes.Unauthenticated, codes.PermissionDenied}, absent...) {
		t.Run(code.String(), func(t *testing.T) {
			env := common.Beside(t)
			t.Parallel()
			calls := env.Faults.On("CreateVolume").When(inNamespace(env.Namespace))
			gate := calls.Gate()
			calls.Fail(code, "it says")
			env.Create(env.Claim("data"))
			await(t, gate.Entered(), "the driver is called")
			volume := "pvc-" + string(env.Get("data").UID)
			env.Delete("data")
			untilSeen(env)
			gate.Release()
			env.WaitGone("data")
			if got, _ := answers(env, volume); len(got) != 1 {
				t.Errorf("the answers were %v, want one", got)
			}
		})
	}
}
