package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// grace is how long a process may take to end after SIGTERM when a whole group
// is stopped. The API server needs one to two seconds; what takes much longer
// hangs.
const grace = 3 * time.Minute

// Spec says what to run.
type Spec struct {
	// Name is used in messages, "kube-apiserver" for instance.
	Name string
	// Path is the program; Args are its arguments without the program's name.
	Path string
	Args []string
	// Env is added to the environment of this process. May be empty.
	Env []string
	// Dir is the working directory. Empty: that of this process.
	Dir string
	// Log is the file that output is appended to. It is created if need be.
	Log string
}

// Group is a set of processes that are stopped together.
type Group struct {
	outlive bool
	starts  chan startRequest
	closed  chan struct{}

	mu      sync.Mutex
	started []*Process
	stopped bool
}

// startRequest asks the group's thread to start a command.
type startRequest struct {
	cmd    *exec.Cmd
	answer chan error
}

// NewGroup returns a group whose processes die with this process. It must be
// stopped with Stop.
func NewGroup() *Group { return newGroup(false) }

// NewOutlivingGroup returns a group whose processes go on when this process
// ends without having stopped them. The demo's KEEP=1 needs that.
func NewOutlivingGroup() *Group { return newGroup(true) }

func newGroup(outlive bool) *Group {
	g := &Group{
		outlive: outlive,
		starts:  make(chan startRequest),
		closed:  make(chan struct{}),
	}
	go g.serveStarts()
	return g
}

// serveStarts starts commands on one OS thread that lives as long as the group:
// the parent death signal is sent when the thread that started a process ends,
// and the Go runtime ends threads as it likes unless one is locked.
func (g *Group) serveStarts() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		select {
		case request := <-g.starts:
			request.answer <- request.cmd.Start()
		case <-g.closed:
			return
		}
	}
}

// Start runs a program. It returns as soon as the program was started; whether
// it works is for the caller to find out.
func (g *Group) Start(spec Spec) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(spec.Log), 0o755); err != nil {
		return nil, fmt.Errorf("making the folder for the log of %s: %w", spec.Name, err)
	}
	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", spec.Name, err)
	}
	defer log.Close()

	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Dir = spec.Dir
	cmd.Env = append(os.Environ(), spec.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = g.attributes()

	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return nil, fmt.Errorf("starting %s: its group is already stopped", spec.Name)
	}
	request := startRequest{cmd: cmd, answer: make(chan error, 1)}
	g.starts <- request
	if err := <-request.answer; err != nil {
		return nil, fmt.Errorf("starting %s: %w", spec.Name, err)
	}
	p := newProcess(spec, cmd)
	g.started = append(g.started, p)
	return p, nil
}

// attributes puts a process into a group of its own, so that Ctrl-C on the
// terminal reaches only us and we end the others in order.
func (g *Group) attributes() *syscall.SysProcAttr {
	if g.outlive {
		return &syscall.SysProcAttr{Setsid: true}
	}
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// Processes returns the running processes, in the order of their start.
func (g *Group) Processes() []*Process {
	g.mu.Lock()
	defer g.mu.Unlock()
	var running []*Process
	for _, p := range g.started {
		if !p.Exited() {
			running = append(running, p)
		}
	}
	return running
}

// Stop ends every process, newest first, and waits for all of them. It may be
// called more than once. The error names the processes that had to be killed.
func (g *Group) Stop() error {
	running := g.Processes()
	g.mu.Lock()
	first := !g.stopped
	g.stopped = true
	g.mu.Unlock()

	var errs []error
	for i := len(running) - 1; i >= 0; i-- {
		errs = append(errs, running[i].Stop(grace))
	}
	if first {
		close(g.closed)
	}
	return errors.Join(errs...)
}

// Release lets go of the processes without ending them. Only a group that may
// outlive its owner can do so.
func (g *Group) Release() {
	if !g.outlive {
		panic("process: releasing a group that must not outlive its owner")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.stopped {
		g.stopped = true
		close(g.closed)
	}
}
