package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/station"
)

// Where every test of the driver has its name from.
const external = `External.Storage.*`

// pattern returns the pattern of the tests that are to be run.
func (r *suite) pattern() string {
	if r.focus != "" {
		return external + "(" + r.focus + ")"
	}
	return external + "(" + strings.Join(concerned(), "|") + ")"
}

// anyOf returns a pattern that matches the given names alone.
func anyOf(names []string) string {
	var quoted []string
	for _, name := range names {
		quoted = append(quoted, regexp.QuoteMeta(name))
	}
	return strings.Join(quoted, "|")
}

// pass runs the tests that match a pattern and not another one, and returns what came of
// them. An error means that they did not run to the end.
func (r *suite) pass(ctx context.Context, s *station.Station, name, focus, skip string) (*results, error) {
	report := filepath.Join(r.dir, name+".json")
	log, err := os.Create(filepath.Join(r.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	command := exec.CommandContext(ctx, filepath.Join(r.binaries, "ginkgo"),
		"--procs="+strconv.Itoa(r.procs), "--focus="+focus, "--skip="+skip, "--no-color", "--timeout=3h", "--poll-progress-after=10m",
		"--output-dir="+r.dir, "--json-report="+filepath.Base(report), "--silence-skips",
		filepath.Join(r.binaries, "e2e.test"), "--",
		"--kubeconfig="+s.Kubeconfig, "--kubectl-path="+s.Cluster.Binary("kubectl"), "--provider=local", "--num-nodes=1",
		"--repo-root="+filepath.Join(r.root, "hack", "node"),
		"--storage.testdriver="+filepath.Join(r.root, "hack", "node", "testdriver.yaml"))
	command.Dir, command.Stdout, command.Stderr = r.dir, log, log
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGINT) }
	command.WaitDelay = time.Minute
	say("running Kubernetes' storage tests, %d side by side; what they say goes to %s", r.procs, log.Name())
	ended := make(chan error, 1)
	go func() { ended <- command.Run() }()
	err = follow(ended, log.Name())
	if ctx.Err() != nil {
		return nil, errors.New("interrupted; everything is stopped and removed")
	}
	// That a test failed is an error to ginkgo, and no news here: the report tells it.
	var exited *exec.ExitError
	results, readErr := readReport(report)
	if readErr != nil || err != nil && !errors.As(err, &exited) {
		return nil, errors.Join(fmt.Errorf("the tests did not run to the end; see %s", log.Name()), err, readErr)
	}
	return results, nil
}

// follow tells once a minute that the tests go on.
func follow(ended <-chan error, log string) error {
	began := time.Now()
	ticker := time.NewTicker(time.Minute)
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-ticker.C:
			content, err := os.ReadFile(log)
			if err == nil {
				say("%s: %d tests have run", time.Since(began).Round(time.Second), strings.Count(string(content), "•"))
			}
		}
	}
}
