package demodriver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

const (
	// crashDirEnv tells the test binary to be the process that is killed.
	crashDirEnv = "DEMODRIVER_CRASH_DIR"
	crashFiles  = 40
	crashRounds = 6
)

// TestKilledHelper is no test: it is the process that TestAKillLeavesWholeVolumes
// kills. It clones and deletes until then.
func TestKilledHelper(t *testing.T) {
	dir := os.Getenv(crashDirEnv)
	if dir == "" {
		t.Skip("runs only as a process of TestAKillLeavesWholeVolumes")
	}
	d, err := New(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	c := &controller{driver: d}
	source, _ := d.store.Volumes.ByName("source")
	for i := 0; ; i++ {
		resp, err := c.CreateVolume(t.Context(), volumeRequest(fmt.Sprintf("%d-%d", os.Getpid(), i), source.ID))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("made", resp.GetVolume().GetVolumeId())
		if i%3 != 0 {
			continue
		}
		if _, err := c.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: resp.GetVolume().GetVolumeId()}); err != nil {
			t.Fatal(err)
		}
		fmt.Println("gone", resp.GetVolume().GetVolumeId())
	}
}

func TestAKillLeavesWholeVolumes(t *testing.T) {
	dir := t.TempDir()
	prepareSource(t, dir)
	alive := map[string]bool{}
	for round := range crashRounds {
		// A different number of lines each time, and then as far as it gets.
		killAfter(t, dir, 3+round, alive)
		d, err := New(Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		checkWhole(t, d, alive)
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func prepareSource(t *testing.T, dir string) {
	t.Helper()
	d, err := New(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	c := &controller{driver: d}
	resp, err := c.CreateVolume(t.Context(), volumeRequest("source", ""))
	if err != nil {
		t.Fatal(err)
	}
	for i := range crashFiles {
		if err := os.WriteFile(filepath.Join(d.VolumePath(resp.GetVolume().GetVolumeId()), fmt.Sprint(i)), crashContent(i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func crashContent(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 10_000+i) }

// killAfter runs the helper, kills it after so many lines and notes what it has
// reported.
func killAfter(t *testing.T, dir string, lines int, alive map[string]bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	helper := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKilledHelper$") // killed with ctx
	helper.Env = append(os.Environ(), crashDirEnv+"="+dir)
	helper.Stderr = os.Stderr
	out, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(out)
	for n := 0; scanner.Scan(); n++ {
		what, id, _ := strings.Cut(scanner.Text(), " ")
		switch what {
		case "made":
			alive[id] = true
		case "gone":
			delete(alive, id)
		default:
			t.Fatalf("helper says %q", scanner.Text())
		}
		if n == lines {
			cancel()
		}
	}
	var exit *exec.ExitError
	if err := helper.Wait(); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("helper ended with %v, want it killed", err)
	}
}

// checkWhole compares what is there after a kill with what was reported before.
// One volume more may have been made, or one deleted, without a report.
func checkWhole(t *testing.T, d *Driver, alive map[string]bool) {
	t.Helper()
	checkEmptyDir(t, filepath.Join(d.store.Dir(), "tmp"))
	there := map[string]bool{}
	for _, v := range d.Volumes() {
		there[v.ID] = true
		for i := range crashFiles {
			content, err := os.ReadFile(filepath.Join(v.Path, fmt.Sprint(i)))
			if err != nil || !bytes.Equal(content, crashContent(i)) {
				t.Fatalf("volume %s named %q is not whole: file %d has %d bytes (%v)", v.ID, v.Name, i, len(content), err)
			}
		}
		if v.Name == "source" {
			delete(there, v.ID)
		}
	}
	unreported := 0
	for id := range alive {
		if !there[id] {
			unreported++
			delete(alive, id)
		}
	}
	for id := range there {
		if !alive[id] {
			unreported++
			alive[id] = true
		}
	}
	if unreported > 1 {
		t.Fatalf("%d volumes differ from what was reported, want at most the one in progress", unreported)
	}
}
