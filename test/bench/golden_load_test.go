package bench

import (
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/bench/figures"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
)

// load is what everybody has used of the machine so far.
type load struct {
	at           time.Time
	subject      process.Usage
	controlPlane map[string]float64
	// self is the processor time of this process: driver, watches and the calls that
	// create claims.
	self float64
	busy figures.Busy
}

func (b *bench) load() load {
	b.t.Helper()
	l := load{at: time.Now(), subject: b.subject.usage(), controlPlane: map[string]float64{}}
	for _, p := range b.env.Cluster.Group().Processes() {
		if strings.HasPrefix(p.Name(), "provisioner-") || strings.HasPrefix(p.Name(), "floor-") {
			continue
		}
		used, err := p.Usage()
		if err != nil {
			b.t.Fatal(err)
		}
		l.controlPlane[p.Name()] = used.CPU.Seconds()
	}
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		b.t.Fatal(err)
	}
	l.self = time.Duration(self.Utime.Nano() + self.Stime.Nano()).Seconds()
	var err error
	if l.busy, err = figures.BusyNow(); err != nil {
		b.t.Fatal(err)
	}
	return l
}

// since enters what was used since before.
func (l load) since(before load, p *figures.Phase) {
	p.CPU, p.Peak = (l.subject.CPU - before.subject.CPU).Seconds(), l.subject.PeakRSS
	p.ControlPlane = map[string]float64{}
	known := p.CPU + l.self - before.self
	for name, cpu := range l.controlPlane {
		p.ControlPlane[name] = cpu - before.controlPlane[name]
		known += p.ControlPlane[name]
	}
	p.Strangers = l.busy.Strangers(before.busy, known, l.at.Sub(before.at).Seconds(), runtime.NumCPU())
}
