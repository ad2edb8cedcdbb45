package main

import (
	"errors"
	"flag"
	"fmt"
	"strings"

	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
)

// options is what the command line says.
type options struct {
	socket string
	config demodriver.Config
	// registration is the kubelet's folder for plugins; empty: none is told.
	registration string
}

// parse reads the command line. The error is flag.ErrHelp when help was asked for
// and has been printed.
func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("demo-csi-driver", flag.ContinueOnError)
	klog.InitFlags(flags)
	endpoint := flags.String("endpoint", "", "unix:///path of the socket to serve on (required)")
	flags.BoolVar(&o.config.Shared, "shared-topology", false, "the place that --topology tells is one of several nodes, all of which can use its volumes at once")
	topology := flags.String("topology", "", "topology segments of this node, key=value,...; empty: no topology")
	mode := flags.String("publish-mode", string(demodriver.PublishAuto), "how volumes are published: mount, symlink, or auto (mount if that is permitted)")
	flags.StringVar(&o.config.Name, "driver-name", demodriver.DefaultName, "name of the CSI driver")
	flags.StringVar(&o.config.Dir, "dir", "", "directory to keep volumes in (required)")
	flags.StringVar(&o.config.NodeID, "node-id", "node-1", "id of this node")
	flags.Int64Var(&o.config.Capacity, "capacity", 0, "bytes that volumes and snapshots may have in all; 0: no limit")
	flags.Int64Var(&o.config.Granularity, "granularity", 1<<20, "bytes that sizes are rounded up to")
	flags.BoolVar(&o.config.LoopDevices, "loop-devices", false, "show block volumes as block devices; takes root and --publish-mode=mount")
	flags.BoolVar(&o.config.Modifies, "modify-volumes", false, "offer MODIFY_VOLUME: volumes have mutable parameters, any at all")
	flags.StringVar(&o.registration, "kubelet-registration-dir", "", "the kubelet's folder for plugins, /var/lib/kubelet/plugins_registry as a rule; empty: no kubelet is told of the driver")
	flags.BoolVar(&o.config.NoSync, "no-sync", false, "do not wait for data to reach the disk")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if flags.NArg() > 0 {
		return options{}, fmt.Errorf("unexpected argument %q; only flags are understood, see --help", flags.Arg(0))
	}
	o.config.PublishMode = demodriver.PublishMode(*mode)
	var err, topologyErr error
	o.socket, err = socketPath(*endpoint)
	o.config.Segments, topologyErr = segments(*topology)
	if o.config.Dir == "" {
		err = errors.Join(err, errors.New("--dir is missing; give the directory to keep volumes in"))
	}
	return o, errors.Join(err, topologyErr)
}

// socketPath returns the path in an endpoint such as unix:///run/csi.sock.
func socketPath(endpoint string) (string, error) {
	path, ok := strings.CutPrefix(endpoint, "unix://")
	if !ok || !strings.HasPrefix(path, "/") {
		return "", fmt.Errorf("--endpoint is %q; give an absolute socket path as unix:///path", endpoint)
	}
	return path, nil
}

// segments reads key=value,... into a map, nil when there are none.
func segments(text string) (map[string]string, error) {
	if text == "" {
		return nil, nil
	}
	found := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" || value == "" {
			return nil, fmt.Errorf("--topology has %q; give key=value pairs with commas between", pair)
		}
		found[key] = value
	}
	return found, nil
}
