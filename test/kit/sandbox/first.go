package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// failed is the exit code of a first process that could not set the sandbox up.
const failed = 70

// Enter does the work of a sandbox's first process if this is one, and returns its exit
// code and true. Main calls it before anything else and ends with that code.
func Enter() (code int, done bool) {
	switch os.Getenv(stageVariable) {
	case probe:
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := prepare(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return failed, true
		}
		return 0, true
	case first:
		code, err := beFirst()
		if err != nil {
			fmt.Fprintf(os.Stderr, "setting up the sandbox: %v\n", err)
			return failed, true
		}
		return code, true
	default:
		return 0, false
	}
}

// beFirst prepares the namespaces, runs the program in them and buries processes that
// lost their parents, as the first process of a system has to. When it returns and the
// process ends, the kernel ends all others.
func beFirst() (int, error) {
	// The program is to be started by the thread that has parted from the control groups.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	if err := prepare(); err != nil {
		return 0, err
	}
	if err := os.Setenv(stageVariable, inside); err != nil {
		return 0, err
	}
	program, err := syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2, lockFile, lineFile},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("running the program: %w", err)
	}
	go watchOwner(program)
	if err := forgetTerminal(); err != nil {
		return 0, err
	}
	go func() {
		for range signals {
			_ = syscall.Kill(program, syscall.SIGTERM)
		}
	}()
	code, err := bury(program)
	return code, errors.Join(err, detachLoops(os.Getenv(folderVariable)))
}

// prepare makes the new namespaces usable.
func prepare() error {
	// Elsewhere the mounts would be the machine's.
	if os.Getpid() != 1 {
		return fmt.Errorf("%s is for the first process of a sandbox only; unset it", stageVariable)
	}
	if err := enterCgroups(filepath.Base(os.Getenv(folderVariable))); err != nil {
		return err
	}
	if err := mountAll(); err != nil {
		return err
	}
	return loopbackUp()
}

// watchOwner asks the program to end when the process that called Run is gone without
// having let go of it: nobody else would. The line then is at its end.
func watchOwner(program int) {
	line := os.NewFile(lineFile, "line")
	defer line.Close()
	if _, err := io.ReadFull(line, make([]byte, len(heard))); err != nil {
		_ = syscall.Kill(program, syscall.SIGTERM)
	}
}

// bury waits for processes until the program has ended and returns its exit code.
func bury(program int) (int, error) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("waiting for the program: %w", err)
		case pid == program && status.Exited():
			return status.ExitStatus(), nil
		case pid == program:
			return 128 + int(status.Signal()), nil
		}
	}
}

// forgetTerminal sends the standard files to nowhere.
func forgetTerminal() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for _, fd := range []int{0, 1, 2} {
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return fmt.Errorf("letting go of the terminal: %w", err)
		}
	}
	return nil
}
