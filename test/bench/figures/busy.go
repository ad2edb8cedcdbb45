package figures

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Busy is how much of a machine's time has been used so far, in ticks of the kernel.
type Busy struct{ used, all float64 }

// BusyNow asks the kernel.
func BusyNow() (Busy, error) {
	content, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Busy{}, fmt.Errorf("asking how busy the machine is: %w", err)
	}
	return parseBusy(string(content))
}

// parseBusy reads the first line of /proc/stat, see proc_stat(5): the times of all
// processors. What a hypervisor has taken (steal) is used, by somebody else.
func parseBusy(stat string) (Busy, error) {
	const (
		// Places behind "cpu". What guests use is counted in user and nice already.
		idle, ioWait, steal = 3, 4, 7
	)
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) <= steal+1 || fields[0] != "cpu" {
		return Busy{}, fmt.Errorf("%q is no line of processor times", line)
	}
	var b Busy
	for i, field := range fields[1 : steal+2] {
		ticks, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return Busy{}, fmt.Errorf("reading %q: %w", line, err)
		}
		b.all += ticks
		if i != idle && i != ioWait {
			b.used += ticks
		}
	}
	return b, nil
}

// Strangers returns what part of the machine somebody else has used since before,
// given the seconds of those who are known and how many there have been on the clock.
func (b Busy) Strangers(before Busy, known, seconds float64, cores int) float64 {
	if b.all <= before.all || seconds <= 0 {
		return 0
	}
	return max(0, (b.used-before.used)/(b.all-before.all)-known/(seconds*float64(cores)))
}
