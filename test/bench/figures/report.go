package figures

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Who was measured.
const (
	// Ours is the provisioner, a process of its own with default flags.
	Ours = "ours"
	// Floor is the provisioner that only calls the driver and saves the PV.
	Floor = "floor"
)

// Report is what one benchmark found.
type Report struct {
	// Date is when it began.
	Date time.Time
	// Machine is what it ran on; Kubernetes the control plane's version; Program
	// that of the provisioner.
	Machine    Machine
	Kubernetes string
	Program    string
	// Latency is how many seconds the driver took for CreateVolume and DeleteVolume.
	Latency float64
	// Full says that it was of the usual size, and its figures are worth keeping.
	Full bool
	// Measurements are in the order in which they were made.
	Measurements []Measurement
}

// Machine is the size of one.
type Machine struct {
	Cores int
	// Model is what its processors are called; may be empty.
	Model string
	// Memory is in bytes.
	Memory int64
}

// String returns the machine's size in a few words.
func (m Machine) String() string {
	return fmt.Sprintf("%d cores, %d GiB", m.Cores, (m.Memory+1<<29)>>30)
}

// Measurement is one case, with one provisioner.
type Measurement struct {
	// Case is its name; Claims how many there were, and of how many sources they
	// are clones, 0 for none.
	Case            string
	Claims, Sources int
	// Who is Ours or Floor. Run counts from 1; ours and the floor of one run came
	// one after the other.
	Who string
	Run int
	// Create is the time from the first claim until all was quiet; Delete that from
	// the deletion of all the claims.
	Create, Delete Phase
	// Waits are the seconds from the creation of each claim until it was bound.
	Waits []float64
}

// Name returns the case with its number of claims.
func (m Measurement) Name() string { return thousands(m.Claims) + " " + m.Case }

// String returns the measurement in one line.
func (m Measurement) String() string {
	c, d := m.Create, m.Delete
	return fmt.Sprintf("%s, %s: PVs after %.2f s, bound after %.2f s (p50 %.2f, p99 %.2f), %.2f requests for each, %d conflicts (of others: %d), %d warnings, %.2f CPU s, %d MiB; gone after %.2f s, %.2f requests for each, %d conflicts (of others: %d), %d warnings, %.2f CPU s; calls %v and %v",
		m.Name(), m.Who, Last(c.PVs), Last(c.Claims), Percentile(m.Waits, 50), Percentile(m.Waits, 99),
		float64(c.Total())/float64(m.Claims), c.Conflicts, c.OtherConflicts, len(c.Warnings), c.CPU, c.Peak>>20,
		Last(d.PVs), float64(d.Total())/float64(m.Claims), d.Conflicts, d.OtherConflicts, len(d.Warnings), d.CPU, c.Calls, d.Calls)
}

// Phase is what happened between two moments of quiet.
type Phase struct {
	// Asked, PVs and Claims are the seconds after which each call of ours had been
	// answered, each PV was there (or was gone), and each claim was bound (or gone);
	// sorted.
	Asked, PVs, Claims []float64
	// Requests are those of the provisioner, by verb and resource, without those
	// that only watch and those for its lease.
	Requests map[string]int
	// Binder are those of the controller-manager, whose work differs with ours.
	Binder map[string]int
	// Conflicts are the answers 409 that the provisioner got; OtherConflicts those
	// that everybody else did.
	Conflicts, OtherConflicts int
	// Warnings are Warning events about the claims and their PVs, whoever sent them.
	Warnings []string
	// Calls are those of the driver, by method; MostAtOnce how many there were side
	// by side.
	Calls      map[string]int
	MostAtOnce int
	// CPU is in seconds. Peak is in bytes, since the process was started.
	CPU  float64
	Peak int64
	// ControlPlane is the CPU time of its processes, in seconds.
	ControlPlane map[string]float64
	// Strangers is what part of the machine others used meanwhile, who have nothing
	// to do with the benchmark: 0.5 is half of it. Figures of a busy machine say little.
	Strangers float64
}

// Total returns how many requests there were.
func (p Phase) Total() int {
	total := 0
	for _, n := range p.Requests {
		total += n
	}
	return total
}

// Last returns the greatest of sorted values, 0 if there are none.
func Last(sorted []float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)-1]
}

// ThisMachine returns the size of the machine.
func ThisMachine() (Machine, error) {
	m := Machine{Cores: runtime.NumCPU()}
	memory, err := os.Open("/proc/meminfo")
	if err != nil {
		return Machine{}, fmt.Errorf("asking for the machine's memory: %w", err)
	}
	defer memory.Close()
	scanner := bufio.NewScanner(memory)
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) == 3 && fields[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return Machine{}, fmt.Errorf("reading %q of /proc/meminfo: %w", scanner.Text(), err)
			}
			m.Memory = kib << 10
		}
	}
	if m.Memory == 0 {
		return Machine{}, fmt.Errorf("there is no MemTotal in /proc/meminfo (%v)", scanner.Err())
	}
	// Not every architecture has the name.
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(info), "model name")
		line, _, _ := strings.Cut(rest, "\n")
		m.Model = strings.TrimSpace(strings.TrimLeft(line, " \t:"))
	}
	return m, nil
}

// Read reads a report from a file.
func Read(path string) (Report, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return Report{}, fmt.Errorf("reading the report: %w", err)
	}
	var r Report
	if err := json.Unmarshal(content, &r); err != nil {
		return Report{}, fmt.Errorf("reading the report %s: %w", path, err)
	}
	return r, nil
}

// Write writes a report to a file.
func (r Report) Write(path string) error {
	content, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}
