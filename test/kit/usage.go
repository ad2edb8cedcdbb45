package kit

import (
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
)

// CPU returns how much processor time the process has used so far.
func (p *Provisioner) CPU() time.Duration {
	p.env.t.Helper()
	return p.Usage().CPU
}

// RSS returns how many bytes of memory the process holds.
func (p *Provisioner) RSS() int64 {
	p.env.t.Helper()
	return p.Usage().RSS
}

// Usage returns what the process uses of the machine.
func (p *Provisioner) Usage() process.Usage {
	p.env.t.Helper()
	used, err := p.proc.Usage()
	if err != nil {
		p.env.t.Fatal(err)
	}
	return used
}
