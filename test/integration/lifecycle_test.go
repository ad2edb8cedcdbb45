package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
)

// shortLease is one that a test can wait out.
func shortLease() []string {
	return []string{
		"--leader-election-lease-duration=12s",
		"--leader-election-renew-deadline=10s",
		"--leader-election-retry-period=1s",
	}
}

// holder returns who holds the lease of the test's driver.
func holder(env *kit.Env) string {
	identity := env.Lease().Spec.HolderIdentity
	if identity == nil {
		return ""
	}
	return *identity
}

// waitLeading waits until a provisioner leads.
func waitLeading(env *kit.Env, p *kit.Provisioner) {
	p.WaitMetric(1, "leader_election_master_status")
}

// twoProvisioners starts a leader and a standby.
func twoProvisioners(env *kit.Env, args ...string) (leader, standby *kit.Provisioner) {
	leader = env.StartProvisioner(args...)
	waitLeading(env, leader)
	return leader, env.StartProvisioner(args...)
}

// provisioned is the metric that counts claims whose volume was made.
const provisioned = "controller_persistentvolumeclaim_provision_total"

func TestOfTwoProvisionersOneWorksAndAnotherTakesOverWhenItStops(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	// A lease that outlasts every wait of a test: the standby leads in time only because the
	// leader gives it back.
	leader, standby := twoProvisioners(env, "--leader-election-lease-duration=10m",
		"--leader-election-renew-deadline=5m", "--leader-election-retry-period=1s")
	first := holder(env)
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	leader.WaitMetric(1, provisioned)
	compare(t, []field{
		{"claims provisioned by the standby", standby.Metric(provisioned), 0.0},
		{"the standby leads", standby.Metric("leader_election_master_status"), 0.0},
	})

	if code := leader.Stop(); code != 0 {
		t.Errorf("exit code is %d, want 0", code)
	}
	stopped := time.Now()
	if now := holder(env); now == first {
		t.Errorf("the lease is still held by %s, which has stopped", now)
	}
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitBound("copy")
	delay := firstCall(env, "copy").Sub(stopped)
	t.Logf("the standby called the driver %s after the leader had stopped", delay.Round(time.Millisecond))
	requestFor(t, env, "copy")
	leave(env, "src")
}

func TestAProvisionerTakesOverFromOneThatWasKilled(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	leader, _ := twoProvisioners(env, shortLease()...)
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	env.Eventually("the source is off record", func() error { return unmarked(env, "src") })
	leader.Kill()
	killed := time.Now()
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitBound("copy")
	t.Logf("the standby called the driver %s after the leader was killed; the lease is 4s",
		firstCall(env, "copy").Sub(killed).Round(time.Millisecond))
	leave(env, "src")
}

func TestALeaderThatHangsLosesItsPlaceAndEnds(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	leader, standby := twoProvisioners(env, shortLease()...)
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	env.Eventually("the source is off record", func() error { return unmarked(env, "src") })
	leader.Signal(syscall.SIGSTOP)
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitBound("copy")
	waitLeading(env, standby)
	leader.Signal(syscall.SIGCONT)
	if code := leader.Wait(); code != 1 {
		t.Errorf("exit code is %d, want 1", code)
	}
	if want := "lost the leader election lease; exiting so that two replicas do not work at once"; !strings.Contains(leader.Log(), want) {
		t.Errorf("the log does not say %q", want)
	}
	requestFor(t, env, "copy") // one call, by one of them
	leave(env, "src")
}

func TestAStandbyStopsCleanly(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	leader, standby := twoProvisioners(env)
	before := holder(env)
	if code := standby.Stop(); code != 0 {
		t.Errorf("exit code is %d, want 0", code)
	}
	if now := holder(env); now != before || now == "" {
		t.Errorf("the lease is held by %q, want %q as before", now, before)
	}
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	leader.WaitMetric(1, provisioned)
}

func TestTheLeaseIsKeptIfTheGateSaysSo(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	leader := env.StartProvisioner("--feature-gates=ReleaseLeaderElectionOnExit=false")
	waitLeading(env, leader)
	before := holder(env)
	if code := leader.Stop(); code != 0 {
		t.Errorf("exit code is %d, want 0", code)
	}
	if now := holder(env); now != before || now == "" {
		t.Errorf("the lease is held by %q, want %q as before", now, before)
	}
}

// page returns status and body of one of a provisioner's pages.
func page(env *kit.Env, p *kit.Provisioner, path string) (int, string, error) {
	request, err := http.NewRequestWithContext(env.Ctx, http.MethodGet, p.URL+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, strings.TrimSpace(string(body)), err
}

func TestHealthIsServedBeforeTheDriverIsThere(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	p := env.LaunchProvisioner("--csi-address=" + filepath.Join(t.TempDir(), "none.sock"))
	env.Eventually("the pages are served", func() error {
		_, _, err := page(env, p, "/healthz")
		return err
	})
	for path, want := range map[string]string{
		"/healthz":                 "200 ok",
		"/healthz/leader-election": "200 ok",
		"/readyz":                  "503 waiting for the CSI driver",
	} {
		status, body, err := page(env, p, path)
		if got := fmt.Sprintf("%d %s", status, body); err != nil || got != want {
			t.Errorf("%s answers %q (%v), want %q", path, got, err, want)
		}
	}
	if status, _, err := page(env, p, "/metrics"); err != nil || status != http.StatusOK {
		t.Errorf("/metrics answers %d (%v), want 200", status, err)
	}
	begun := time.Now()
	if code := p.Stop(); code != 0 {
		t.Errorf("exit code after SIGTERM is %d, want 0", code)
	}
	t.Logf("it stopped in %s", time.Since(begun).Round(time.Millisecond))
}

func TestMetricsAreThere(t *testing.T) {
	t.Parallel()
	env, p := withSource(t, "--timeout=2m") // the call at the gate is not to fail
	gate := gateClones(env)
	env.Create(env.Claim("copy", kit.CloneOf("src")), env.Claim("waiting", kit.CloneOf("nothing")))
	await(t, gate.Entered(), "the driver is called")
	p.WaitMetric(1, "csi_clone_provisioner_claims_waiting")
	compare(t, []field{
		{"claims on record", p.Metric("csi_clone_provisioner_claims_recorded"), 1.0},
		{"this one leads", p.Metric("leader_election_master_status"), 1.0},
	})
	gate.Release()
	env.WaitBound("copy")
	env.Delete("copy")
	env.WaitGone("copy")
	env.Eventually("the volume is deleted", func() error { return volumes(env, 1) })

	p.WaitMetric(1, "controller_persistentvolume_delete_total")
	p.WaitMetric(2, provisioned)
	p.WaitMetric(0, "csi_clone_provisioner_claims_recorded")
	compare(t, []field{
		{"claims that failed", p.Metric("controller_persistentvolumeclaim_provision_failed_total"), 0.0},
		{"CreateVolume calls", p.Metric("csi_sidecar_operations_seconds_count",
			"method_name", "/csi.v1.Controller/CreateVolume", "driver_name", env.DriverName, "grpc_status_code", "OK"), 2.0},
		{"DeleteVolume calls", p.Metric("csi_sidecar_operations_seconds_count",
			"method_name", "/csi.v1.Controller/DeleteVolume", "driver_name", env.DriverName, "grpc_status_code", "OK"), 1.0},
	})
	text := p.Page("/metrics")
	for _, name := range []string{
		"csi_sidecar_operations_seconds_bucket",
		"controller_persistentvolumeclaim_provision_total",
		"controller_persistentvolumeclaim_provision_duration_seconds_bucket",
		"controller_persistentvolume_delete_total",
		"controller_persistentvolume_delete_duration_seconds_bucket",
		`workqueue_depth{name="intake"`,
		`workqueue_depth{name="cloningprotection"`,
		`workqueue_depth{name="claims"`,
		`workqueue_depth{name="volumes"`,
		"leader_election_master_status",
		"csi_clone_provisioner_claims_recorded",
		"csi_clone_provisioner_claims_waiting",
	} {
		if !strings.Contains(text, "\n"+name) {
			t.Errorf("there is no metric %s", name)
		}
	}
	leave(env, "src")
}

func TestAProvisionerThatIsStoppedDuringACallLeavesTheClaimOnRecord(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--leader-election=true"}, {"--leader-election=false"}} {
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			env, p := withSource(t, append(args, "--timeout=5m")...)
			gate := gateClones(env)
			env.Create(env.Claim("copy", kit.CloneOf("src")))
			await(t, gate.Entered(), "the driver is called")
			begun := time.Now()
			code := p.Stop()
			t.Logf("it stopped in %s", time.Since(begun).Round(time.Millisecond))
			if code != 0 {
				t.Errorf("exit code is %d, want 0", code)
			}
			if record := env.DriverName + "/provisioning"; !slices.Contains(env.Get("copy").Finalizers, record) {
				t.Errorf("finalizers of the clone are %v, want %s among them", env.Get("copy").Finalizers, record)
			}
			if !slices.Contains(env.Get("src").Finalizers, cloningProtection) {
				t.Errorf("finalizers of the source are %v, want %s among them", env.Get("src").Finalizers, cloningProtection)
			}
			if n := env.CountEvents("copy", "ProvisioningSucceeded"); n != 0 {
				t.Errorf("success was told %d times", n)
			}

			gate.Release()
			env.StartProvisioner(args...)
			env.WaitBound("copy")
			sameContent(t, env, "copy", "src")
			leave(env, "src")
		})
	}
}

func TestAProvisionerThatLosesItsDriverEnds(t *testing.T) {
	t.Parallel()
	stop := func(t *testing.T, env *kit.Env) {
		if err := env.Driver.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	for name, lose := range map[string]func(*testing.T, *kit.Env){
		"while nobody needs it": stop,
		"during a call": func(t *testing.T, env *kit.Env) {
			gate := gateClones(env)
			env.Create(env.Claim("copy", kit.CloneOf("src")))
			await(t, gate.Entered(), "the driver is called")
			stop(t, env)
			gate.Release()
		},
		"before the next call": func(t *testing.T, env *kit.Env) {
			stop(t, env)
			env.Create(env.Claim("copy", kit.CloneOf("src")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, p := withSource(t, "--timeout=2m")
			env.Eventually("the source is off record", func() error { return unmarked(env, "src") })
			lose(t, env)
			lost := time.Now()
			if code := p.Wait(); code != 1 {
				t.Errorf("exit code is %d, want 1", code)
			}
			t.Logf("it ended %s after its driver", time.Since(lost).Round(time.Millisecond))
			want := "csi-clone-provisioner: lost the connection to the CSI driver; exiting so that the pod starts again with a fresh one"
			lines := strings.Split(strings.TrimSpace(p.Log()), "\n")
			if last := lines[len(lines)-1]; last != want {
				t.Errorf("the last line of the log is %q, want %q", last, want)
			}
			if now := holder(env); now != "" {
				t.Errorf("the lease is still held by %q", now)
			}

			if err := env.Driver.Restart(); err != nil {
				t.Fatal(err)
			}
			env.StartProvisioner()
			if !slices.Contains(claimsOf(env), "copy") {
				env.Create(env.Claim("copy", kit.CloneOf("src")))
			}
			env.WaitBound("copy")
			sameContent(t, env, "copy", "src")
			leave(env, "src")
		})
	}
}

// execute runs the program under test to its end.
func execute(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	root, err := repo.Root()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := repo.Provisioner(root)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	command := exec.CommandContext(t.Context(), binary, args...)
	command.Env = append(os.Environ(), "KUBECONFIG=")
	command.Stdout, command.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := command.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestBadFlagsAreRefusedInOneLine(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, args, want string }{
		{"an unknown flag", "--no-such-flag", "unknown flag: --no-such-flag"},
		{"an argument that is no flag", "start", `unexpected argument "start"; all settings are flags that begin with --`},
		{"an empty socket", "--csi-address=", "--csi-address is empty; give the path of the driver's socket"},
		{"an empty prefix", "--volume-name-prefix=", "--volume-name-prefix is empty; give the beginning of volume names, such as pvc"},
		{"no letters of the uid", "--volume-name-uuid-length=0", "--volume-name-uuid-length=0 is out of range; give 1 to 32, or -1 for the whole uid"},
		{"too many letters of the uid", "--volume-name-uuid-length=33", "--volume-name-uuid-length=33 is out of range; give 1 to 32, or -1 for the whole uid"},
		{"no workers", "--worker-threads=0", "--worker-threads must be at least 1"},
		{"no time for calls", "--timeout=0s", "--timeout must be positive"},
		{"back-off upside down", "--retry-interval-start=2s --retry-interval-max=1s", "--retry-interval-start must be positive and not above --retry-interval-max"},
		{"a negative limit", "--kube-api-qps=-1", "--kube-api-qps and --kube-api-burst must not be negative"},
		{"metrics at no path", "--metrics-path=metrics", `--metrics-path="metrics" must begin with /`},
		{"a lease that is too short", "--leader-election --leader-election-lease-duration=5s",
			"leader election needs --leader-election-lease-duration (5s) > --leader-election-renew-deadline (10s) > 1.2 x --leader-election-retry-period (5s)"},
		{"capacity objects", "--enable-capacity", "--enable-capacity needs the environment variable NAMESPACE, the namespace of the CSIStorageCapacity objects; set it to metadata.namespace of the pod (downward API)"},
		{"one provisioner per node without a node", "--node-deployment", "--node-deployment needs the environment variable NODE_NAME; set it to spec.nodeName of the pod (fieldRef)"},
		{"two addresses", "--metrics-address=:8080 --http-endpoint=:8081", "--metrics-address=:8080 and --http-endpoint=:8081 are both given; give --http-endpoint alone, which serves everything"},
		{"a gate that nobody knows", "--feature-gates=Magic=true",
			`--feature-gates: there is no gate "Magic"; known are Topology (true by default), CrossNamespaceVolumeDataSource (false by default), VolumeAttributesClass (true by default), ReleaseLeaderElectionOnExit (true by default; the incumbent's default is false), AllAlpha, AllBeta`},
		{"a gate without a value", "--feature-gates=Topology", `--feature-gates: "Topology" is not of the form Name=true or Name=false`},
		{"a way of logging that nobody knows", "--logging-format=runes", `format: Invalid value: "runes": Unsupported log format`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := execute(t, strings.Fields(c.args)...)
			compare(t, []field{
				{"exit code", code, 2},
				{"standard output", stdout, ""},
				{"standard error", stderr, "csi-clone-provisioner: " + c.want + "\n"},
			})
		})
	}
	t.Run("a number that is none", func(t *testing.T) {
		t.Parallel()
		code, _, stderr := execute(t, "--worker-threads=many")
		if code != 2 || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, `csi-clone-provisioner: invalid argument "many" for "--worker-threads" flag`) {
			t.Errorf("exit code %d, standard error %q", code, stderr)
		}
	})
}

func TestVersionAndHelp(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := execute(t, "--version")
	if code != 0 || stderr != "" || !regexp.MustCompile(`^\S*csi-clone-provisioner \S+\n$`).MatchString(stdout) {
		t.Errorf("--version: exit code %d, standard output %q, standard error %q", code, stdout, stderr)
	}
	code, stdout, stderr = execute(t, "--help")
	if help := stdout + stderr; code != 0 || !strings.Contains(help, "--csi-address string") || !strings.Contains(help, "--leader-election ") {
		t.Errorf("--help: exit code %d, standard output %q, standard error %q", code, stdout, stderr)
	}
	// With other flags around, even wrong ones, too.
	if code, _, stderr := execute(t, "--version", "--worker-threads=0"); code != 0 {
		t.Errorf("--version beside a wrong flag: exit code %d, standard error %q", code, stderr)
	}
}

func TestWhatIsNotThereIsNamed(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	code, _, stderr := execute(t, "--kubeconfig="+missing)
	last := stderr[strings.LastIndex(strings.TrimSpace(stderr), "\n")+1:]
	want := fmt.Sprintf("csi-clone-provisioner: finding the API server (inside a pod by itself, outside by --kubeconfig): stat %s: no such file or directory\n", missing)
	if code != 1 || last != want {
		t.Errorf("exit code %d, last line %q, want 1 and %q", code, last, want)
	}

	env := kit.New(t)
	first := env.StartProvisioner()
	second := env.LaunchProvisioner("--http-endpoint=" + strings.TrimPrefix(first.URL, "http://"))
	if code := second.Wait(); code != 1 {
		t.Errorf("exit code of a provisioner whose port is taken is %d, want 1", code)
	}
	if !strings.Contains(second.Log(), "csi-clone-provisioner: listening at --http-endpoint: ") {
		t.Errorf("the log does not name --http-endpoint:\n%s", second.Log())
	}
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	if phase := env.Get("data").Status.Phase; phase != v1.ClaimBound {
		t.Errorf("claim is %s", phase)
	}
}
