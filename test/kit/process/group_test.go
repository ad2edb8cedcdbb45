package process_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
)

// ownerVariable makes the test program an owner of a process: it starts one,
// prints its pid and waits to be killed.
const ownerVariable = "PROCESS_TEST_OWNER"

// TestBeAnOwner is no test but the other program of the one about owners.
func TestBeAnOwner(t *testing.T) {
	dir := os.Getenv(ownerVariable)
	if dir == "" {
		t.Skip("only runs as a process of its own")
	}
	p, err := process.NewGroup().Start(shell(dir, "exec sleep 600"))
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString(strconv.Itoa(p.PID()) + "\n")
	select {}
}

func shell(dir, script string) process.Spec {
	return process.Spec{Name: "script", Path: "/bin/sh", Args: []string{"-c", script}, Log: filepath.Join(dir, "script.log")}
}

func start(t *testing.T, group *process.Group, script string) *process.Process {
	t.Helper()
	p, err := group.Start(shell(t.TempDir(), script))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newGroup(t *testing.T) *process.Group {
	t.Helper()
	group := process.NewGroup()
	t.Cleanup(func() {
		if err := group.Stop(); err != nil {
			t.Error(err)
		}
	})
	return group
}

// awaitLog waits until a process has written something.
func awaitLog(t *testing.T, p *process.Process, want string) {
	t.Helper()
	if !eventually(func() bool { return strings.Contains(p.Log(), want) }) {
		t.Fatalf("the log does not say %q but:\n%s", want, p.Log())
	}
}

// eventually says whether a condition comes true within ten seconds.
func eventually(condition func() bool) bool {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for range 500 {
		if condition() {
			return true
		}
		<-ticker.C
	}
	return false
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestAProcessTellsItsEndAndWhatItSaid(t *testing.T) {
	t.Parallel()
	p := start(t, newGroup(t), "echo one; echo two >&2; exit 7")
	if code := p.ExitCode(); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	if p.Fate() != "exit status 7" || !p.Exited() {
		t.Errorf("fate %q, exited %t", p.Fate(), p.Exited())
	}
	if tail := p.LogTail(1); tail != "two" {
		t.Errorf("last line %q, want two", tail)
	}
	if err := p.Stop(time.Second); err != nil {
		t.Errorf("stopping what has ended: %v", err)
	}
}

func TestAPoliteProcessIsNotKilled(t *testing.T) {
	t.Parallel()
	p := start(t, newGroup(t), `trap "echo bye; exit 0" TERM; echo up; while :; do sleep 0.05; done`)
	awaitLog(t, p, "up")
	if err := p.Stop(3 * time.Minute); err != nil {
		t.Error(err)
	}
	if p.ExitCode() != 0 || p.LogTail(1) != "bye" {
		t.Errorf("exit code %d, last line %q; want 0, bye", p.ExitCode(), p.LogTail(1))
	}
}

func TestAStubbornProcessIsKilledAndNamed(t *testing.T) {
	t.Parallel()
	p := start(t, newGroup(t), `trap "" TERM; echo up; while :; do sleep 0.05; done`)
	awaitLog(t, p, "up")
	err := p.Stop(100 * time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "script (pid "+strconv.Itoa(p.PID())+")") {
		t.Errorf("error is %v, want one that names the process", err)
	}
	if !gone(p.PID()) {
		t.Errorf("process %d is still there", p.PID())
	}
}

func TestAStoppedGroupStartsNothingMore(t *testing.T) {
	t.Parallel()
	group := process.NewGroup()
	p := start(t, group, "exec sleep 600")
	for range 2 {
		if err := group.Stop(); err != nil {
			t.Error(err)
		}
	}
	if !gone(p.PID()) {
		t.Errorf("process %d is still there", p.PID())
	}
	if _, err := group.Start(shell(t.TempDir(), "exit")); err == nil {
		t.Error("a stopped group started a process")
	}
}

func TestProcessesDieWithTheirOwner(t *testing.T) {
	t.Parallel()
	owner := exec.Command(os.Args[0], "-test.run=^TestBeAnOwner$")
	owner.Env = append(os.Environ(), ownerVariable+"="+t.TempDir())
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 32)
	n, err := out.Read(line)
	if err != nil {
		t.Fatalf("reading the pid from the owner: %v", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	if err != nil {
		t.Fatal(err)
	}
	if gone(pid) {
		t.Fatalf("process %d did not run", pid)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // it was killed
	if !eventually(func() bool { return gone(pid) || zombie(pid) }) {
		t.Errorf("process %d outlived its owner", pid)
	}
}

// zombie says that a process is dead but its new parent has not noticed; some
// containers have a first process that never does.
func zombie(pid int) bool {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(status), ") Z ")
}

func TestPortsAreFreeAndBelowThoseOfOutgoingConnections(t *testing.T) {
	t.Parallel()
	for range 20 {
		port, err := process.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if port < 10000 || port >= 60000 {
			t.Errorf("port %d", port)
		}
	}
}
