package main

import (
	"fmt"
	"os"
	"strings"
)

// stopScript ends what KEEP=1 left running. %s: the folder, the pids.
const stopScript = `#!/bin/sh
# Stops the demo that was left running (KEEP=1) and removes all it left.
dir='%s'
pids='%s' # newest first
# Every process of the demo names this folder in its arguments. One that does not
# has got the pid of a process that ended long ago.
ours() { tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -qF "$dir"; }
for pid in $pids; do
  ours "$pid" && kill "$pid"
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    ours "$pid" || break
    sleep 1
  done
  ours "$pid" && kill -9 "$pid"
done
rm -rf "$dir"
echo "the demo in $dir is stopped and removed"
`

// leaveRunning lets go of the cluster and says how to use and how to stop it.
func (d *demo) leaveRunning() error {
	d.out.heading("Leaving everything running (KEEP=1)")
	var pids []string
	for _, p := range d.cluster.Group().Processes() {
		pids = append([]string{fmt.Sprint(p.PID())}, pids...)
	}
	script := fmt.Sprintf(stopScript, d.cluster.Dir(), strings.Join(pids, " "))
	stop := d.file("stop.sh")
	if err := os.WriteFile(stop, []byte(script), 0o755); err != nil {
		return fmt.Errorf("writing the script that stops the demo: %w", err)
	}
	if err := d.cluster.Release(); err != nil {
		return err
	}
	d.out.text(d.kubectl + " " + d.target + " get pvc,pv -n " + namespace)
	d.out.text("logs:    " + d.file("*.log"))
	d.out.good("stop it: make demo-stop, or %s", stop)
	return nil
}
