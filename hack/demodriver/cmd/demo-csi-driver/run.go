package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver/registration"
)

// shutdownGrace is how long calls in progress may take after the signal: under
// the 30 seconds that Kubernetes gives a pod.
const shutdownGrace = 20 * time.Second

// run serves the driver until ctx ends.
func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	driver, err := demodriver.New(o.config)
	if err != nil {
		return err
	}
	listener, err := listen(o.socket)
	if err != nil {
		return errors.Join(err, driver.Close())
	}
	server := grpc.NewServer()
	driver.Register(server)
	klog.FromContext(ctx).Info("Serving", "driver", o.config.Name, "socket", o.socket, "dir", o.config.Dir)
	announced, err := announce(ctx, o)
	if err != nil {
		return errors.Join(err, listener.Close(), driver.Close())
	}
	return errors.Join(serve(ctx, server, listener), announced(), driver.Close())
}

// announce tells the kubelet of the driver if that is asked for, and returns what takes it
// back. The kubelet calls the driver at once, and again until it answers.
func announce(ctx context.Context, o options) (back func() error, err error) {
	if o.registration == "" {
		return func() error { return nil }, nil
	}
	server, err := registration.Serve(ctx, o.registration, o.config.Name, o.socket)
	if err != nil {
		return nil, err
	}
	return server.Close, nil
}

// serve returns when ctx has ended and calls in progress are through or had
// their grace. The socket is gone then.
func serve(ctx context.Context, server *grpc.Server, listener net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	klog.FromContext(ctx).Info("Stopping")
	timer := time.AfterFunc(shutdownGrace, server.Stop)
	defer timer.Stop()
	server.GracefulStop()
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// listen makes the socket, in place of one that a killed process left behind.
// The lock on the volumes has made sure that no driver for them is running.
func listen(path string) (net.Listener, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("reading socket path: %w", err)
	case info.Mode()&fs.ModeSocket == 0:
		return nil, fmt.Errorf("socket path %q is taken by something else; remove it or choose another --endpoint", path)
	default:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("removing old socket: %w", err)
		}
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening on %q: %w", path, err)
	}
	return listener, nil
}
