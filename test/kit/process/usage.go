package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of processor time in /proc, on every architecture Linux
// runs Go programs on.
const clockTick = time.Second / 100

// Usage is what a process has used of the machine so far.
type Usage struct {
	// CPU is processor time.
	CPU time.Duration
	// RSS is how many bytes of memory it holds, PeakRSS how many it has held at most.
	RSS, PeakRSS int64
}

// Usage asks the kernel what the running process uses.
func (p *Process) Usage() (Usage, error) {
	used, err := readUsage(p.PID())
	if err != nil {
		return Usage{}, fmt.Errorf("asking what %s (pid %d) uses: %w", p.spec.Name, p.PID(), err)
	}
	return used, nil
}

func readUsage(pid int) (Usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Usage{}, err
	}
	used, err := parseStat(string(stat))
	if err != nil {
		return Usage{}, err
	}
	used.PeakRSS, err = parsePeak(string(status))
	return used, err
}

// parseStat reads /proc/<pid>/stat, see proc_pid_stat(5). The second field is
// the program's name in brackets, in which there may be spaces and brackets.
func parseStat(line string) (Usage, error) {
	const (
		// Places behind the name; the manual counts from 1 at the pid.
		userTime, systemTime, residentPages = 14 - 3, 15 - 3, 24 - 3
	)
	fields := strings.Fields(line[strings.LastIndex(line, ")")+1:])
	if len(fields) <= residentPages {
		return Usage{}, fmt.Errorf("too few fields in %q", line)
	}
	var values [3]int64
	for i, place := range []int{userTime, systemTime, residentPages} {
		var err error
		if values[i], err = strconv.ParseInt(fields[place], 10, 64); err != nil {
			return Usage{}, fmt.Errorf("reading field %d of %q: %w", place+3, line, err)
		}
	}
	return Usage{CPU: time.Duration(values[0]+values[1]) * clockTick, RSS: values[2] * int64(os.Getpagesize())}, nil
}

// parsePeak reads VmHWM, the "high water mark", of /proc/<pid>/status, which is in
// kB. A process that has ended and was not waited for has none.
func parsePeak(status string) (int64, error) {
	for line := range strings.Lines(status) {
		rest, found := strings.CutPrefix(line, "VmHWM:")
		if !found {
			continue
		}
		number, unit, _ := strings.Cut(strings.TrimSpace(rest), " ")
		kib, err := strconv.ParseInt(number, 10, 64)
		if err != nil || unit != "kB" {
			return 0, fmt.Errorf("%q is no amount of memory in kB", strings.TrimSpace(line))
		}
		return kib << 10, nil
	}
	return 0, fmt.Errorf("there is no VmHWM in %q", status)
}
