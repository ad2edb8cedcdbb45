package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/sandbox"
)

const (
	// scriptVariable has what this program runs inside a sandbox.
	scriptVariable = "TEST_SANDBOX_SCRIPT"
	// ownerVariable makes this program the owner of a sandbox, to be killed by a test.
	ownerVariable = "TEST_SANDBOX_OWNER"
	// limit is for what must happen; it takes a second or less.
	limit = 3 * time.Minute
)

// TestMain lets this program be what tests start in a sandbox.
func TestMain(m *testing.M) {
	code, done := sandbox.Enter()
	if here, inside := sandbox.Inside(); inside && !done {
		code, done = beInside(here), true
	}
	if done {
		os.Exit(code) //nolint:forbidigo // in a sandbox this is the program, not a test
	}
	if os.Getenv(ownerVariable) != "" {
		_, err := sandbox.Run(context.Background())
		fmt.Println(err)
		return
	}
	m.Run()
}

// beInside runs the test's script and returns its exit code. A script whose last word is
// "release" leaves the sandbox running until it is told to end.
func beInside(here sandbox.Here) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	script := os.Getenv(scriptVariable)
	script, released := strings.CutSuffix(script, "release")
	command := exec.CommandContext(ctx, "sh", "-ec", script)
	command.Dir, command.Stdout, command.Stderr = here.Dir, os.Stdout, os.Stderr
	err := command.Run()
	if released && err == nil {
		if err := here.Release(); err != nil {
			return 1
		}
		<-ctx.Done()
	}
	return command.ProcessState.ExitCode()
}

// possible skips a test where no sandbox can be made, and gives it a folder for temporary
// files of its own.
func possible(t *testing.T) string {
	t.Helper()
	if err := sandbox.Possible(); err != nil {
		t.Skipf("no sandbox can be made: %v", err)
	}
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	return dir
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	err := process.Await(ctx, nil, what, func(context.Context) error {
		if !check() {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// nothingLeft looks for what a sandbox in a folder might have left.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	if left, err := filepath.Glob(filepath.Join(dir, sandbox.FolderPrefix+"*")); err != nil || len(left) > 0 {
		t.Errorf("folders are left: %v (%v)", left, err)
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), dir) {
		t.Errorf("a mount is left below %s (%v)", dir, err)
	}
	devices, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range devices {
		// One that goes while we look is none that is left.
		if file, err := os.ReadFile(path); err == nil && strings.Contains(string(file), dir) {
			t.Errorf("loop device %s is left: %s", path, file)
		}
	}
	name, err := os.ReadFile(filepath.Join(dir, nameFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"", "*"} {
		groups, err := filepath.Glob("/sys/fs/cgroup/" + filepath.Join(pattern, strings.TrimSpace(string(name))))
		if err != nil || len(groups) > 0 {
			t.Errorf("control groups are left: %v (%v)", groups, err)
		}
	}
}

// nameFile is where a script notes the name of its sandbox's folder.
const nameFile = "name"

const note = `basename "$PWD" >../` + nameFile + "\n"

// mess leaves a process, a mount, and a loop device on a file in the mount.
const mess = note + `
mkdir m; mount -t tmpfs tmpfs m; truncate -s 1M m/image
losetup --find m/image || true
setsid sleep 1000000 >/dev/null 2>&1 </dev/null &
`

func TestASandboxLeavesNothing(t *testing.T) {
	dir := possible(t)
	t.Setenv(scriptVariable, mess+"exit 3")
	outcome, err := sandbox.Run(t.Context())
	if err != nil || outcome.Code != 3 || outcome.Released {
		t.Errorf("outcome is %+v (%v), want exit code 3", outcome, err)
	}
	nothingLeft(t, dir)
}

func TestASandboxIsAloneInIt(t *testing.T) {
	dir := possible(t)
	// The first process, this program, the shell, and what it pipes together.
	t.Setenv(scriptVariable, note+`
test "$(ls -d /proc/[0-9]* | wc -l)" -le 6
grep -q "lo:" /proc/net/dev; test "$(grep -c : /proc/net/dev)" -le 3
test -d /var/lib/kubelet; test -z "$(ls /var/lib/kubelet)"
echo 1 >/proc/sys/vm/overcommit_memory`)
	before, err := os.ReadFile("/proc/sys/vm/overcommit_memory")
	if err != nil {
		t.Fatal(err)
	}
	if outcome, err := sandbox.Run(t.Context()); err != nil || outcome.Code != 0 {
		t.Errorf("outcome is %+v (%v)", outcome, err)
	}
	if after, err := os.ReadFile("/proc/sys/vm/overcommit_memory"); err != nil || string(after) != string(before) {
		t.Errorf("a setting of the kernel was %q and is %q (%v)", before, after, err)
	}
	nothingLeft(t, dir)
}

func TestAnInterruptedSandboxLeavesNothing(t *testing.T) {
	dir := possible(t)
	t.Setenv(scriptVariable, mess+"touch "+filepath.Join(dir, "begun")+"; exec sleep 1000000")
	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		defer interrupt()
		_ = process.Await(t.Context(), nil, "the script has begun", func(context.Context) error {
			_, err := os.Stat(filepath.Join(dir, "begun"))
			return err
		})
	}()
	if outcome, err := sandbox.Run(ctx); err != nil || outcome.Code == 0 {
		t.Errorf("outcome is %+v (%v), want that it was interrupted", outcome, err)
	}
	nothingLeft(t, dir)
}

func TestWhatAKilledOwnerLeftGoesWithTheNextSandbox(t *testing.T) {
	dir := possible(t)
	begun := filepath.Join(dir, "begun")
	owner := exec.Command("/proc/self/exe")
	owner.Env = append(os.Environ(), ownerVariable+"=yes", scriptVariable+"="+mess+"touch "+begun+"; exec sleep 1000000")
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the sandbox has begun", func() bool { _, err := os.Stat(begun); return err == nil })
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // it was killed
	eventually(t, "no process of the sandbox is left", func() bool { return len(processesOf(t, dir)) == 0 })

	t.Setenv(scriptVariable, "true")
	if outcome, err := sandbox.Run(t.Context()); err != nil || outcome.Code != 0 {
		t.Errorf("outcome is %+v (%v)", outcome, err)
	}
	nothingLeft(t, dir)
}

func TestAReleasedSandboxCanBeEnteredAndStopped(t *testing.T) {
	dir := possible(t)
	t.Setenv(scriptVariable, mess+"release")
	outcome, err := sandbox.Run(t.Context())
	if err != nil || !outcome.Released {
		t.Fatalf("outcome is %+v (%v), want that it was released", outcome, err)
	}
	out, err := exec.Command(filepath.Join(outcome.Dir, sandbox.EnterScript), "cat", "/proc/1/cmdline").CombinedOutput()
	if err != nil || !strings.Contains(string(out), outcome.Dir) {
		t.Errorf("inside, the first process is %q (%v), want the sandbox's own", out, err)
	}
	pwd := exec.Command(filepath.Join(outcome.Dir, sandbox.EnterScript), "pwd")
	pwd.Dir = t.TempDir()
	if out, err := pwd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != pwd.Dir {
		t.Errorf("inside, the folder is %q (%v), want that of the caller, %s", out, err, pwd.Dir)
	}
	if out, err := exec.Command(filepath.Join(outcome.Dir, sandbox.StopScript)).CombinedOutput(); err != nil {
		t.Errorf("stopping: %v\n%s", err, out)
	}
	if left := processesOf(t, dir); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	nothingLeft(t, dir)
}

// processesOf returns the processes that name a folder in their arguments, but this one.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, path := range paths {
		line, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(line), sandbox.FolderPrefix) && strings.Contains(string(line), dir) {
			found = append(found, path+": "+string(line))
		}
	}
	return found
}
