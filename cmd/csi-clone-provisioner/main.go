// csi-clone-provisioner is a sidecar container that turns
// PersistentVolumeClaims into volumes of the CSI driver next to it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register" // --logging-format=json
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/app"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/options"
)

// version is set by the linker.
var version = "devel"

func main() { os.Exit(run()) }

// run returns the exit code: 0 after a clean end, 1 when the work could not go
// on, 2 for bad flags.
func run() int {
	defer logs.FlushLogs()
	o, err := options.Parse(os.Args[1:], os.LookupEnv)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(os.Stderr, "csi-clone-provisioner: %v\n", err)
		return 2
	case o.Version:
		fmt.Println(os.Args[0], version)
		return 0
	}
	if err := logsapi.ValidateAndApply(o.Logging, nil); err != nil {
		fmt.Fprintf(os.Stderr, "csi-clone-provisioner: %v\n", err)
		return 2
	}
	// What libraries say by way of the standard logger, net/http for one.
	log.SetOutput(logs.KlogWriter{})
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := app.Run(ctx, o, version); err != nil {
		if o.Logging.Format == logsapi.JSONLogFormat {
			klog.Background().Error(err, "Ended")
			return 1
		}
		fmt.Fprintf(os.Stderr, "csi-clone-provisioner: %v\n", err)
		return 1
	}
	return 0
}
