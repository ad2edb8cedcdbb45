// demo shows a volume being cloned on a real control plane, from the claim to
// the proof that the clone holds the same data and lives on without its source.
//
//	make demo            run it; everything is stopped and removed at the end
//	KEEP=1 make demo     leave the cluster running; stop it with make demo-stop
//	SEED=42 make demo    write the same data as another run
//
// The control plane, the demo CSI driver and the provisioner must have been
// compiled; make demo sees to that.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// A second Ctrl-C ends the demo at once; the kernel then ends its processes.
	context.AfterFunc(ctx, stop)
	out := newPrinter(os.Stdout)
	err := run(ctx, out)
	switch {
	case err == nil:
		return
	case ctx.Err() != nil:
		out.note("interrupted; everything is stopped and removed")
		os.Exit(130)
	}
	out.bad(fmt.Sprintf("the demo failed: %v", err))
	os.Exit(1)
}
