package kit

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
)

const (
	// stopGrace is how long a provisioner may take to stop after SIGTERM. Calls
	// to the driver are limited to callTimeout, the rest is quick.
	stopGrace = 10 * time.Minute
	// callTimeout is --timeout in tests: short, for many tests wait it out.
	callTimeout = 3 * time.Second
	// portTries is how often a provisioner is started when somebody else takes
	// its port in between.
	portTries = 3
)

// Provisioner is one process of the program under test.
type Provisioner struct {
	env  *Env
	proc *process.Process
	// URL is where /metrics, /healthz and /readyz are.
	URL string
	// ended says that the test ended the process or expects its end.
	ended bool
}

// StartProvisioner starts the provisioner with the shipped RBAC, unless the test
// chose another account, and waits until it is ready. Arguments are added after the test defaults and win over them.
func (e *Env) StartProvisioner(args ...string) *Provisioner {
	e.t.Helper()
	return e.start(nil, args)
}

// start is StartProvisioner with more environment variables.
func (e *Env) start(vars, args []string) *Provisioner {
	e.t.Helper()
	for try := 1; ; try++ {
		p := e.launch(vars, args)
		err := p.awaitReady()
		if err == nil {
			return p
		}
		if try < portTries && p.proc.Exited() && process.PortTaken(p.Log()) {
			p.ended = true
			continue
		}
		e.t.Fatalf("starting the provisioner: %v", err)
	}
}

// Setenv sets a variable in the environment of provisioners that are started after that.
func (e *Env) Setenv(name, value string) {
	e.environment = append(e.environment, name+"="+value)
}

// StartWith is StartProvisioner with a program of the test's own, which is given the
// arguments and has to become the provisioner.
func (e *Env) StartWith(program string, args ...string) *Provisioner {
	e.t.Helper()
	e.program = program
	defer func() { e.program = "" }()
	return e.StartProvisioner(args...)
}

// Binary returns the path of the provisioner.
func (e *Env) Binary() string { return e.world.binary }

// LaunchProvisioner is StartProvisioner without waiting, for tests in which it
// is not to become ready. See WaitReady and Wait.
func (e *Env) LaunchProvisioner(args ...string) *Provisioner {
	e.t.Helper()
	return e.launch(nil, args)
}

func (e *Env) launch(vars, args []string) *Provisioner {
	e.t.Helper()
	port, err := e.world.ports.next()
	if err != nil {
		e.t.Fatal(err)
	}
	address := "127.0.0.1:" + strconv.Itoa(port)
	number := len(e.provisioners) + 1
	proc, err := e.Cluster.Group().Start(process.Spec{
		Name: fmt.Sprintf("provisioner-%d", number),
		Path: cmp.Or(e.program, e.world.binary),
		Args: append(e.provisionerArgs(address), args...),
		// The variable would win over the flag and lead to some real cluster.
		Env: slices.Concat([]string{"KUBECONFIG="}, e.environment, vars),
		Dir: e.dir,
		Log: filepath.Join(e.dir, fmt.Sprintf("provisioner-%d.log", number)),
	})
	if err != nil {
		e.t.Fatal(err)
	}
	p := &Provisioner{env: e, proc: proc, URL: "http://" + address}
	e.provisioners = append(e.provisioners, p)
	return p
}

// ports gives each port to one provisioner only: a port is free until a process that
// was just started listens, and many are started in the same moment.
type ports struct {
	mu    sync.Mutex
	given map[int]bool
}

func (p *ports) next() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.given == nil {
		p.given = map[int]bool{}
	}
	for {
		port, err := process.FreePort()
		if err != nil {
			return 0, err
		}
		if !p.given[port] {
			p.given[port] = true
			return port, nil
		}
	}
}

// provisionerArgs are the test defaults. A lease is longer than in production: where
// many tests share few processors everything stands still for ten seconds at times.
func (e *Env) provisionerArgs(address string) []string {
	return []string{
		"--kubeconfig=" + e.account.kubeconfig,
		"--csi-address=" + e.Driver.Socket,
		"--http-endpoint=" + address,
		"--leader-election=true",
		"--leader-election-namespace=" + accountNamespace,
		"--leader-election-lease-duration=40s",
		"--leader-election-renew-deadline=30s",
		"--leader-election-retry-period=1s",
		"--source-protection-removal-delay=1s", // every test with a clone waits for it
		"--timeout=" + callTimeout.String(),
		"--retry-interval-start=200ms",
		"--retry-interval-max=2s",
		"--v=4",
	}
}

// WaitReady waits until the provisioner says that it is ready.
func (p *Provisioner) WaitReady() {
	p.env.t.Helper()
	if err := p.awaitReady(); err != nil {
		p.env.t.Fatalf("waiting for %s: %v", p.proc.Name(), err)
	}
}

func (p *Provisioner) awaitReady() error {
	var ended error
	err := p.env.try(patience, func() error {
		if p.proc.Exited() {
			ended = fmt.Errorf("it ended: %s; its log: %s\n%s", p.proc.Fate(), p.proc.LogFile(), p.proc.LogTail(20))
			return nil
		}
		_, err := p.get("/readyz")
		return err
	})
	if ended != nil {
		return ended
	}
	return err
}

// get returns the body of one of the provisioner's pages.
func (p *Provisioner) get(path string) (string, error) {
	ctx, cancel := context.WithTimeout(p.env.Ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+path, nil)
	if err != nil {
		return "", fmt.Errorf("asking %s for %s: %w", p.proc.Name(), path, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", fmt.Errorf("asking %s for %s: %w", p.proc.Name(), path, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", fmt.Errorf("reading %s of %s: %w", path, p.proc.Name(), err)
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s of %s says %s: %s", path, p.proc.Name(), response.Status, body)
	}
	return string(body), nil
}

// Page returns what the provisioner answers for a path, "/metrics" for instance.
func (p *Provisioner) Page(path string) string {
	p.env.t.Helper()
	body, err := p.get(path)
	if err != nil {
		p.env.t.Fatal(err)
	}
	return body
}

// Kill ends the provisioner as a power cut would. Unless another one runs, which
// takes over when the lease runs out, the lease is made to run out at once, so
// that the next one need not wait for it.
func (p *Provisioner) Kill() {
	p.env.t.Helper()
	p.ended = true
	p.proc.Kill()
	if slices.ContainsFunc(p.env.provisioners, (*Provisioner).Running) {
		return
	}
	if err := p.env.expireLease(); err != nil {
		p.env.t.Fatal(err)
	}
}

// Stop asks the provisioner to end and returns its exit code, -1 if it did not
// end in time and was killed.
func (p *Provisioner) Stop() int {
	p.ended = true
	if err := p.proc.Stop(stopGrace); err != nil {
		p.env.t.Errorf("stopping the provisioner: %v", err)
	}
	return p.proc.ExitCode()
}

// Signal sends any signal; SIGSTOP and SIGCONT make it a process that hangs.
func (p *Provisioner) Signal(sig syscall.Signal) {
	p.env.t.Helper()
	if err := p.proc.Signal(sig); err != nil {
		p.env.t.Fatal(err)
	}
}

// Wait waits until the provisioner ends by itself and returns its exit code.
func (p *Provisioner) Wait() int {
	p.env.t.Helper()
	p.ended = true
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.proc.Done():
	case <-timer.C:
		p.env.t.Fatalf("%s did not end within %s", p.proc.Name(), patience)
	}
	return p.proc.ExitCode()
}

// Running says whether the process is alive.
func (p *Provisioner) Running() bool { return !p.proc.Exited() }

// PID returns the process id.
func (p *Provisioner) PID() int { return p.proc.PID() }

// Log returns all that the provisioner has logged.
func (p *Provisioner) Log() string { return p.proc.Log() }
