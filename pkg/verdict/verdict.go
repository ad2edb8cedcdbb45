package verdict

import "fmt"

// Kind says what shall become of the claim.
type Kind int

const (
	// Ready: it may be done now.
	Ready Kind = iota
	// Wait: it can come true by itself; the claim is woken when it does.
	Wait
	// Refuse: it can never work as written.
	Refuse
	// Ignore: it is not ours to do.
	Ignore
	// GiveBack: not for the node that the scheduler has chosen; it has to choose again.
	GiveBack
)

// String returns the kind's name for logs.
func (k Kind) String() string {
	return [...]string{"ready", "wait", "refuse", "ignore", "give back"}[k]
}

// Verdict is a decision with the words for the user. The zero value is Ready.
type Verdict struct {
	// Kind of the decision.
	Kind Kind
	// Reason of the event that tells the user; empty when there is nothing to tell.
	Reason Reason
	// Message of that event: what happened, to which object, what to do.
	Message string
}

// Ready says whether it may be done now.
func (v Verdict) Ready() bool { return v.Kind == Ready }

// Noted returns a Ready verdict with something to be told.
func Noted(reason Reason, format string, args ...any) Verdict {
	return Verdict{Ready, reason, fmt.Sprintf(format, args...)}
}

// Waiting returns a Wait verdict.
func Waiting(reason Reason, format string, args ...any) Verdict {
	return Verdict{Wait, reason, fmt.Sprintf(format, args...)}
}

// Refused returns a Refuse verdict.
func Refused(reason Reason, format string, args ...any) Verdict {
	return Verdict{Refuse, reason, fmt.Sprintf(format, args...)}
}

// Ignored returns an Ignore verdict. The reason may be empty: nothing is said then.
func Ignored(reason Reason, format string, args ...any) Verdict {
	return Verdict{Ignore, reason, fmt.Sprintf(format, args...)}
}

// GivenBack returns a GiveBack verdict.
func GivenBack(reason Reason, format string, args ...any) Verdict {
	return Verdict{GiveBack, reason, fmt.Sprintf(format, args...)}
}
