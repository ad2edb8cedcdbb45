package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// stageVariable says to a program that was run again where it is.
	stageVariable = "CSI_CLONE_SANDBOX"
	// folderVariable names the sandbox's folder.
	folderVariable = "CSI_CLONE_SANDBOX_FOLDER"
	probe          = "probe"
	first          = "first"
	inside         = "inside"
)

// The files that the first process inherits after the standard ones: the lock of the
// folder, and the line to Run, which says when either end is gone.
const (
	lockFile = 3 + iota
	lineFile
)

// What is said on the line: by the program that it is to be left running, and by Run that
// this was heard.
const (
	released = "released"
	heard    = "heard"
)

// namespaces are those that a sandbox has of its own.
const namespaces = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC

// Possible returns nil if a sandbox can be made here, or why not. It tries, and what it
// made is gone when it returns.
func Possible() error {
	if os.Geteuid() != 0 {
		return errors.New("this user is not root")
	}
	box, err := newFolder(os.TempDir())
	if err != nil {
		return err
	}
	command := exec.Command("/proc/self/exe")
	command.Env = append(os.Environ(), stageVariable+"="+probe, folderVariable+"="+box.path)
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	out, err := command.CombinedOutput()
	if err != nil {
		// Root in a container may lack the right to any part of it.
		err = fmt.Errorf("no namespaces can be had here (%w) %s", err, strings.TrimSpace(string(out)))
	}
	return errors.Join(err, box.remove())
}

// Here is the sandbox that a process runs in.
type Here struct {
	// Dir is the sandbox's folder; it goes away with it.
	Dir string
}

// Inside returns the sandbox that this process runs in, or false.
func Inside() (Here, bool) {
	return Here{Dir: os.Getenv(folderVariable)}, os.Getenv(stageVariable) == inside
}

// Release tells Run to return and to leave this process running. The standard output and
// error go nowhere from then on, so that whoever reads them is not kept waiting.
func (Here) Release() error {
	line := os.NewFile(lineFile, "line")
	defer line.Close()
	if _, err := line.WriteString(released); err != nil {
		return fmt.Errorf("telling that the sandbox is left running: %w", err)
	}
	return forgetTerminal()
}

// Outcome is how a sandbox ended.
type Outcome struct {
	// Code is the exit code of the program.
	Code int
	// Released is true when the program goes on; Dir is then its folder, with the scripts
	// StopScript and EnterScript.
	Released bool
	Dir      string
}

// Run runs this program again, with the same arguments, in a sandbox and returns when it
// has ended and nothing of it is left. When ctx ends the program gets SIGTERM; Run waits
// for it all the same.
func Run(ctx context.Context) (Outcome, error) {
	box, err := newFolder(os.TempDir())
	if err != nil {
		return Outcome{}, err
	}
	ours, theirs, err := newLine()
	if err != nil {
		return Outcome{}, errors.Join(err, box.remove())
	}
	defer ours.Close()
	command := exec.Command("/proc/self/exe", os.Args[1:]...)
	// The folder stands in the arguments so that a script can tell whose process it is.
	command.Args[0] = os.Args[0] + " in " + box.path
	command.Env = append(os.Environ(), stageVariable+"="+first, folderVariable+"="+box.path)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.ExtraFiles = []*os.File{box.lock, theirs}
	// A group of its own: Ctrl-C reaches us, and the program through us.
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Setpgid: true}
	err = command.Start()
	_ = theirs.Close() // the program has it now
	if err != nil {
		return Outcome{}, errors.Join(fmt.Errorf("making a sandbox: %w", err), box.remove())
	}
	stop := context.AfterFunc(ctx, func() { _ = command.Process.Signal(syscall.SIGTERM) })
	defer stop()
	word := make([]byte, len(released))
	if _, err := io.ReadFull(ours, word); err == nil {
		err := box.release(command.Process.Pid)
		_, told := ours.WriteString(heard)
		return Outcome{Released: true, Dir: box.path}, errors.Join(err, told)
	}
	_ = command.Wait() // the code says it
	return Outcome{Code: command.ProcessState.ExitCode()}, box.remove()
}

// newLine returns the two ends of a line on which both can speak.
func newLine() (ours, theirs *os.File, err error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making a line to the sandbox: %w", err)
	}
	return os.NewFile(uintptr(ends[0]), "line"), os.NewFile(uintptr(ends[1]), "line"), nil
}
