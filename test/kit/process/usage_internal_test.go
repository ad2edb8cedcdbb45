package process

import (
	"os"
	"testing"
	"time"
)

func TestUsageIsReadBehindTheNameOfTheProgram(t *testing.T) {
	const before, after = "4711 (odd) (name S", " S 1 4711 4711 0 -1 4194560 2000 0 0 0 150 25 0 0 20 0 9 0 12345 1300000000 4321 18446744073709551615 1 1"
	got, err := parseStat(before + ")" + after)
	if want := (Usage{CPU: 1750 * time.Millisecond, RSS: 4321 * int64(os.Getpagesize())}); err != nil || got != want {
		t.Errorf("got %+v (%v), want %+v", got, err, want)
	}
	for _, line := range []string{"", "4711 (cut) S 1 2 3", "4711 (name) S 1 4711 4711 0 -1 4194560 2000 0 0 0 x 25 0 0 20 0 9 0 12345 1300000000 4321 1"} {
		if got, err := parseStat(line); err == nil {
			t.Errorf("%q is read as %+v", line, got)
		}
	}
}

func TestThePeakIsReadFromItsLine(t *testing.T) {
	got, err := parsePeak("Name:\tVmHWM\nVmPeak:\t  9999 kB\nVmHWM:\t    76 kB\nVmRSS:\t    70 kB\n")
	if err != nil || got != 76<<10 {
		t.Errorf("got %d (%v), want %d", got, err, 76<<10)
	}
	for _, status := range []string{"", "Name:\tzombie\n", "VmHWM:\t many kB\n", "VmHWM:\t 76 MB\n"} {
		if got, err := parsePeak(status); err == nil {
			t.Errorf("%q is read as %d", status, got)
		}
	}
}

func TestThisProcessUsesSomething(t *testing.T) {
	used, err := readUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if used.RSS <= 0 || used.PeakRSS <= 0 {
		t.Errorf("got %+v, want some memory", used)
	}
}
