// demo shows a volume being cloned on a real control plane, from the claim to
// the proof that the clone holds the same data and lives on without its source.
//
//	make demo            run it; everything is stopped and removed at the end
//	KEEP=1 make demo     leave the cluster running; stop it with make demo-stop
//	SEED=42 make demo    write the same data as another run
//	make demo CONTEXT=x  run it in a cluster that exists, the one of a context of the
//	                     kubeconfig; all of it is removed at the end
//
// As root on Linux real pods write and read the volumes, on a node in namespaces of its
// own. Other users see the same story without pods (PODS=no: in any case); the volumes
// are then written and read through the driver's node service.
//
// The control plane, the demo CSI driver and the provisioner must have been
// compiled; make demo sees to that.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/sandbox"
)

func main() {
	if code, done := sandbox.Enter(); done {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// A second Ctrl-C ends the demo at once; the kernel then ends its processes.
	context.AfterFunc(ctx, stop)
	out := newPrinter(os.Stdout)
	code, err := show(ctx, out)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		out.note("interrupted: %v", err)
		code = 130
	default:
		out.bad(fmt.Sprintf("the demo failed: %v", err))
		code = 1
	}
	os.Exit(code)
}

// show runs the demo in the form that is asked for, or possible here. The code is that of the
// process that ran it in a sandbox and has said itself what went wrong.
func show(ctx context.Context, out *printer) (int, error) {
	if here, inside := sandbox.Inside(); inside {
		return 0, runOnNode(ctx, out, here)
	}
	cluster := flag.String("context", "", "run the demo in the cluster of this context of the kubeconfig")
	remove := flag.Bool("remove", false, "only remove from that cluster what an earlier demo left there")
	flag.Parse()
	switch {
	case *cluster != "" && *remove:
		return 0, removeFromCluster(ctx, out, *cluster)
	case *cluster != "":
		return 0, runInCluster(ctx, out, *cluster)
	}
	if err := podsPossible(sandbox.Possible); err != nil {
		out.note("without pods, because %v", err)
		return 0, run(ctx, out)
	}
	outcome, err := sandbox.Run(ctx)
	return outcome.Code, err
}
