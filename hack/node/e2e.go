package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/station"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/node"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/sandbox"
)

// suite is one run of Kubernetes' test suite.
type suite struct {
	root, binaries string
	// dir is where what it writes is kept after the end.
	dir string
	// focus is a pattern of the tests that are run, empty for all that concern us.
	focus string
	procs int
}

// e2e runs the suite against a station of its own and prints what came of it. The exit
// code is 1 if a test failed or none ran.
func e2e(ctx context.Context, here sandbox.Here, args []string) (int, error) {
	root, err := repo.Root()
	if err != nil {
		return 1, err
	}
	r := &suite{root: root, dir: filepath.Join(root, "bin", "e2e")}
	flags := flag.NewFlagSet("node e2e", flag.ContinueOnError)
	flags.StringVar(&r.focus, "focus", "", "run only tests whose name matches this pattern")
	flags.IntVar(&r.procs, "procs", 4, "how many tests run side by side")
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	if r.binaries, err = repo.Node(root); err != nil {
		return 1, err
	}
	for _, name := range []string{"e2e.test", "ginkgo"} {
		if _, err := os.Stat(filepath.Join(r.binaries, name)); err != nil {
			return 1, fmt.Errorf("no program %s; run hack/node.sh --suite", name)
		}
	}
	images, err := r.images(ctx)
	if err != nil {
		return 1, err
	}
	s, err := station.Start(ctx, station.Options{Here: here, Root: root, Images: images, Log: say})
	if err != nil {
		return 1, err
	}
	code, err := r.run(ctx, s)
	return code, errors.Join(err, r.keepLogs(s), s.Stop())
}

// images gives each image that the tests name and that we can make its content.
func (r *suite) images(ctx context.Context) (map[string]string, error) {
	list, err := exec.CommandContext(ctx, filepath.Join(r.binaries, "e2e.test"), "--list-images").Output()
	if err != nil {
		return nil, fmt.Errorf("asking the test suite for its images: %w", err)
	}
	// What the tests run in an image counts, not its name: of some they want a shell only.
	contents := map[string]string{
		"busybox": node.Busybox, "glibc-dns-testing": node.Busybox, "nginx": node.Busybox,
		"agnhost": node.Agnhost, "pause": node.Pause,
	}
	images := map[string]string{}
	for name := range strings.Lines(string(list)) {
		name = strings.TrimSpace(name)
		short, _, _ := strings.Cut(name[strings.LastIndex(name, "/")+1:], ":")
		if content, ok := contents[short]; ok {
			images[name] = content
		}
	}
	return images, nil
}

// run runs the tests and prints what came of them.
func (r *suite) run(ctx context.Context, s *station.Station) (int, error) {
	if err := errors.Join(os.RemoveAll(r.dir), os.MkdirAll(r.dir, 0o755)); err != nil {
		return 1, err
	}
	began := time.Now()
	first, err := r.pass(ctx, s, "strict", r.pattern(), leftOutPattern()+"|"+clonesInUse)
	if err != nil {
		return 1, err
	}
	if names := first.matching(r.pattern(), clonesInUse); len(names) > 0 {
		say("%d tests clone a volume in use, which we do not begin as we come; they run with --clone-policy=compatible", len(names))
		if err := s.StartProvisioner(ctx, "--clone-policy=compatible"); err != nil {
			return 1, err
		}
		second, err := r.pass(ctx, s, "compatible", anyOf(names), leftOutPattern())
		if err != nil {
			return 1, err
		}
		first.add(second)
	}
	first.print(os.Stdout, time.Since(began))
	if !first.well() {
		say("the logs are in %s", r.dir)
		return 1, nil
	}
	return 0, nil
}

// keepLogs copies the logs out of the sandbox.
func (r *suite) keepLogs(s *station.Station) error {
	logs, err := filepath.Glob(filepath.Join(s.Cluster.Dir(), "*.log"))
	if err != nil {
		return err
	}
	for _, path := range logs {
		content, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(r.dir, filepath.Base(path)), content, 0o644)
		}
		if err != nil {
			return fmt.Errorf("keeping the logs: %w", err)
		}
	}
	return nil
}
