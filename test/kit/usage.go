package kit

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

// CPU returns how much processor time the process has used so far.
func (p *Provisioner) CPU() time.Duration {
	p.env.t.Helper()
	return p.usage().cpu
}

// RSS returns how many bytes of memory the process holds.
func (p *Provisioner) RSS() int64 {
	p.env.t.Helper()
	return p.usage().pages * int64(os.Getpagesize())
}

func (p *Provisioner) usage() usage {
	p.env.t.Helper()
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		p.env.t.Fatalf("asking what %s uses: %v", p.proc.Name(), err)
	}
	used, err := parseUsage(string(line))
	if err != nil {
		p.env.t.Fatalf("asking what %s uses: %v", p.proc.Name(), err)
	}
	return used
}

// usage is what a process uses of the machine.
type usage struct {
	cpu   time.Duration
	pages int64
}

// parseUsage reads /proc/<pid>/stat, see proc_pid_stat(5). The second field is
// the program's name in brackets, in which there may be spaces and brackets.
func parseUsage(line string) (usage, error) {
	const (
		// Places behind the name; the manual counts from 1 at the pid.
		userTime, systemTime, residentPages = 14 - 3, 15 - 3, 24 - 3
	)
	fields := strings.Fields(line[strings.LastIndex(line, ")")+1:])
	if len(fields) <= residentPages {
		return usage{}, fmt.Errorf("too few fields in %q", line)
	}
	var values [3]int64
	for i, place := range []int{userTime, systemTime, residentPages} {
		var err error
		if values[i], err = strconv.ParseInt(fields[place], 10, 64); err != nil {
			return usage{}, fmt.Errorf("reading field %d of %q: %w", place+3, line, err)
		}
	}
	return usage{cpu: time.Duration(values[0]+values[1]) * clockTick, pages: values[2]}, nil
}
