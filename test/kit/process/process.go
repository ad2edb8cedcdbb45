package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Process is one started program.
type Process struct {
	spec  Spec
	cmd   *exec.Cmd
	begun time.Time
	// exited is closed when the process has ended and was waited for.
	exited chan struct{}
}

func newProcess(spec Spec, cmd *exec.Cmd) *Process {
	p := &Process{spec: spec, cmd: cmd, begun: time.Now(), exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		// The exit code is read from ProcessState; a program that ends with an
		// error is no news here.
		_ = cmd.Wait()
	}()
	return p
}

// Name returns the name the process was started under.
func (p *Process) Name() string { return p.spec.Name }

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Begun returns when the process was started.
func (p *Process) Begun() time.Time { return p.begun }

// LogFile returns where the output goes.
func (p *Process) LogFile() string { return p.spec.Log }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.exited }

// Exited says whether the process has ended.
func (p *Process) Exited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// ExitCode waits for the end and returns the exit code; -1 if a signal ended
// the process.
func (p *Process) ExitCode() int {
	<-p.exited
	return p.cmd.ProcessState.ExitCode()
}

// Fate waits for the end and says how it came about, "exit status 1" for
// instance.
func (p *Process) Fate() string {
	<-p.exited
	return p.cmd.ProcessState.String()
}

// Signal sends a signal. One that comes after the end is no error.
func (p *Process) Signal(sig syscall.Signal) error {
	err := p.cmd.Process.Signal(sig)
	if err == nil || errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return fmt.Errorf("sending %s to %s (pid %d): %w", sig, p.spec.Name, p.PID(), err)
}

// Stop asks the process to end (SIGTERM), kills it when it has not ended after
// the given time, and waits for its end. The error says that it was killed.
func (p *Process) Stop(within time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	select {
	case <-p.exited:
		return nil
	case <-deadline.C:
	}
	p.Kill()
	return fmt.Errorf("%s (pid %d) did not end within %s of SIGTERM and was killed; its log is %s",
		p.spec.Name, p.PID(), within, p.spec.Log)
}

// Kill ends the process at once (SIGKILL) and waits for its end.
func (p *Process) Kill() {
	// The only possible error is that it has ended already.
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// Log returns everything the process has written, and what earlier processes
// with the same log file wrote.
func (p *Process) Log() string {
	content, err := os.ReadFile(p.spec.Log)
	if err != nil {
		return fmt.Sprintf("(no log of %s: %v)", p.spec.Name, err)
	}
	return string(content)
}

// LogTail returns the last lines of the log.
func (p *Process) LogTail(lines int) string { return Tail(p.Log(), lines) }

// Tail returns the last lines of a text.
func Tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}
