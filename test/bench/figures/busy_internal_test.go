package figures

import (
	"math"
	"testing"
)

func TestBusyIsReadFromTheFirstLine(t *testing.T) {
	const rest = "\ncpu0 1 1 1 1 1 1 1 1 0 0\nintr 5\n"
	before, err := parseBusy("cpu  10 20 30 400 50 6 7 8 5 5" + rest)
	if want := (Busy{used: 81, all: 531}); err != nil || before != want {
		t.Fatalf("got %+v (%v), want %+v", before, err, want)
	}
	// Of 200 ticks 120 were used, which are 60 % of two processors for one second; the
	// known ones used 0.8 of the two seconds.
	now := Busy{used: 201, all: 731}
	if got := now.Strangers(before, 0.8, 1, 2); math.Abs(got-0.2) > 1e-9 {
		t.Errorf("strangers used %v, want 0.2", got)
	}
	if got := now.Strangers(before, 1.9, 1, 2); got != 0 {
		t.Errorf("strangers used %v, want nothing", got)
	}
	if got := now.Strangers(now, 1, 1, 2); got != 0 {
		t.Errorf("strangers used %v in no time, want nothing", got)
	}
	for _, stat := range []string{"", "cpu 1 2 3", "cpu0 1 2 3 4 5 6 7 8", "cpu 1 2 3 4 5 6 x 8"} {
		if got, err := parseBusy(stat); err == nil {
			t.Errorf("%q is read as %+v", stat, got)
		}
	}
}
