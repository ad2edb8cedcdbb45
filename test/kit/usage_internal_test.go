package kit

import (
	"testing"
	"time"
)

func TestUsageIsReadBehindTheNameOfTheProgram(t *testing.T) {
	const before, after = "4711 (odd) (name S", " S 1 4711 4711 0 -1 4194560 2000 0 0 0 150 25 0 0 20 0 9 0 12345 1300000000 4321 18446744073709551615 1 1"
	got, err := parseUsage(before + ")" + after)
	if want := (usage{cpu: 1750 * time.Millisecond, pages: 4321}); err != nil || got != want {
		t.Errorf("got %+v (%v), want %+v", got, err, want)
	}
	for _, line := range []string{"", "4711 (cut) S 1 2 3", "4711 (name) S 1 4711 4711 0 -1 4194560 2000 0 0 0 x 25 0 0 20 0 9 0 12345 1300000000 4321 1"} {
		if got, err := parseUsage(line); err == nil {
			t.Errorf("%q is read as %+v", line, got)
		}
	}
}
