// node brings up a development cluster with a node that runs pods: control plane, kubelet
// and containerd, the demo CSI driver and the provisioner, in namespaces of their own.
//
//	make node          bring it up and leave it running
//	make node BARE=yes a node without driver and provisioner
//	make node-shell    a shell in it; CMD='kubectl get pods -A' runs a command
//	make node-stop     stop it and remove all of it
//	make e2e           bring it up, run Kubernetes' storage tests against it, stop it
//
// It takes root on Linux. What it runs must have been compiled; make sees to that.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/sandbox"
)

func main() {
	if code, done := sandbox.Enter(); done {
		os.Exit(code)
	}
	os.Exit(exitCode())
}

func exitCode() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	code, err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		code = max(code, 1)
	}
	return code
}

const usage = `usage: node up | node bare | node e2e [-focus PATTERN] [-procs N] [-keep-logs DIR]`

func run(ctx context.Context, args []string) (int, error) {
	if len(args) == 0 || !slices.Contains([]string{"up", "bare", "e2e"}, args[0]) {
		return 2, fmt.Errorf("%v is no command; %s", args, usage)
	}
	here, inside := sandbox.Inside()
	switch {
	case !inside:
		return outside(ctx)
	case args[0] == "e2e":
		return e2e(ctx, here, args[1:])
	default:
		return 0, up(ctx, here, args[0] == "bare")
	}
}

// outside makes the sandbox in which this program does the work.
func outside(ctx context.Context) (int, error) {
	if err := sandbox.Possible(); err != nil {
		return 1, fmt.Errorf("a node takes Linux and root: %w", err)
	}
	outcome, err := sandbox.Run(ctx)
	return outcome.Code, err
}
