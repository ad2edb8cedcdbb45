package integration

import (
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

// errorArgs have the first retry come after the deletion of the claim, and give the
// cleaner a constant pause of a little more than a timeout.
var errorArgs = []string{"--timeout=1s", "--retry-interval-start=1s", "--retry-interval-max=1s", "--extra-create-metadata"}

// deleteUnknown creates claim "data", deletes it when its first call was lost, and
// returns the name of its volume, and when it is gone. made says whether that call has made it; then, what
// the driver answers afterwards.
func deleteUnknown(t *testing.T, env *kit.Env, made bool, options []kit.ClaimOption, then ...func(faults.Selector) *faults.Rule) (volume string, gone <-chan time.Time) {
	t.Helper()
	ours := env.Faults.On("CreateVolume").When(inNamespace(env.Namespace))
	if made {
		ours.Next(1).LoseReply()
	} else {
		ours.Next(1).Fail(codes.Unavailable, "the call was lost")
	}
	for _, rule := range then {
		rule(ours)
	}
	env.Create(env.Claim("data", options...))
	env.WaitEvent("data", "ProvisioningFailed")
	volume = "pvc-" + string(env.Get("data").UID)
	gone = when(t, env, "data", isGone)
	env.Delete("data")
	return volume, gone
}

// next has the driver answer that often with a code, ever after if times is 0.
func next(times int, code codes.Code) func(faults.Selector) *faults.Rule {
	return func(s faults.Selector) *faults.Rule { return s.Next(times).Fail(code, "it says") }
}

// answers returns the code and the time of each answer to a call for a volume.
func answers(env *kit.Env, volume string) (got []codes.Code, at []time.Time) {
	for _, call := range callsNamed(env, volume) {
		if call.Done() {
			got, at = append(got, status.Code(call.Err)), append(at, call.End)
		}
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
				event := env.WaitEvent("data", "CleanUpBlocked")
				for _, words := range []string{fmt.Sprintf("%q", volume), "it says"} {
					if !strings.Contains(event.Message, words) {
						t.Errorf("the event is %q, want one with %s", event.Message, words)
					}
				}
				env.Delete("src")
				env.WaitGone("data", "src")
				if got, _ := answers(env, volume); !slices.Equal(got, []codes.Code{codes.Unavailable, code, code, codes.OK}) {
					t.Errorf("the answers were %v; want the last one to find the volume", got)
				}
				if err := noVolume(env, volume); err != nil {
					t.Error(err)
				}
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
				count := len(got)
				if err := noVolume(env, volume); err != nil {
					t.Error(err)
				}
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
	common.StartProvisioner(errorArgs...)
	for _, code := range append([]codes.Code{codes.Unauthenticated, codes.PermissionDenied}, absent...) {
		t.Run(code.String(), func(t *testing.T) {
			env := common.Beside(t)
			t.Parallel()
			env.Faults.On("CreateVolume").When(inNamespace(env.Namespace)).Fail(code, "it says")
			env.Create(env.Claim("data"))
			env.WaitEvent("data", "ProvisioningFailed")
			volume := "pvc-" + string(env.Get("data").UID)
			env.Delete("data")
			env.WaitGone("data")
			if got, _ := answers(env, volume); len(got) != 1 {
				t.Errorf("the answers were %v, want one", got)
			}
		})
	}
}
