package integration

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// With --logging-format=json every line is JSON, to the last one, and what is said of one
// claim can be found by its name.
func TestALogInJSONCanBeFollowedByClaim(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	p := env.StartProvisioner("--logging-format=json", "--v=5")
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitBound("copy")
	env.Eventually("the claim is released", func() error {
		if !slices.Contains(saidOf(t, p, env.Namespace, "copy"), "Claim released") {
			return errors.New("nobody says so")
		}
		return nil
	})
	said := saidOf(t, p, env.Namespace, "copy")
	for _, message := range []string{"Claim admitted", "GRPC call", "GRPC response", "Volume provisioned", "Claim released"} {
		if !slices.Contains(said, message) {
			t.Errorf("%q is not said of the claim, but %q", message, said)
		}
	}
}

// saidOf returns the messages of the lines that name the claim; every line must be JSON.
func saidOf(t *testing.T, p *kit.Provisioner, namespace, name string) []string {
	t.Helper()
	var said []string
	for line := range strings.Lines(p.Log()) {
		var entry struct {
			Message string `json:"msg"`
			Claim   struct{ Namespace, Name string }
		}
		if !strings.HasSuffix(line, "\n") {
			continue // it is being written
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("this line of the log is no JSON: %s", line)
		}
		if entry.Claim.Namespace == namespace && entry.Claim.Name == name {
			said = append(said, entry.Message)
		}
	}
	return said
}

// So is what a process says last that cannot go on.
func TestTheLastWordsAreJSON(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	code, stdout, stderr := execute(t, "--logging-format=json", "--kubeconfig="+missing)
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	var last struct{ Err string }
	for line := range strings.Lines(stdout + stderr) {
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Errorf("this line is no JSON: %s", line)
		}
	}
	if !strings.HasPrefix(last.Err, "finding the API server") {
		t.Errorf("the last line tells of the error %q", last.Err)
	}
}

// Who asks for health has the driver asked, and does not wait for it.
func TestHealthAsksTheDriver(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	p := env.StartProvisioner("--timeout=2m")
	before := len(env.Faults.Calls("Probe"))
	gate := env.Faults.On("Probe").Gate()
	if got := p.Page("/healthz"); !strings.Contains(got, "ok") {
		t.Errorf("health is %q", got)
	}
	await(t, gate.Entered(), "the driver is asked")
	if got := p.Page("/healthz"); !strings.Contains(got, "ok") {
		t.Errorf("health is %q while the driver is slow", got)
	}
	gate.Release()
	if n := len(env.Faults.Calls("Probe")) - before; n != 1 {
		t.Errorf("the driver was asked %d times", n)
	}
}
