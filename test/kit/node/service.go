package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"golang.org/x/sys/unix"
)

// serviceIP is where pods look for the API server: the first address of the cluster's
// services. Nothing else of these is there.
const serviceIP = "10.0.0.1"

// serveAPI makes the API server answer at the service's address, as kube-proxy would, until
// ctx ends.
func serveAPI(ctx context.Context, host string) error {
	if err := addServiceIP(); err != nil {
		return fmt.Errorf("giving the node the address of the API server's service: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(serviceIP, "443"))
	if err != nil {
		return fmt.Errorf("listening for pods that ask the API server: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	server := strings.TrimPrefix(host, "https://")
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return // the listener is closed
			}
			go forward(ctx, from, server)
		}
	}()
	return nil
}

// forward connects a pod with the API server until one of them closes.
func forward(ctx context.Context, from net.Conn, server string) {
	defer from.Close()
	to, err := (&net.Dialer{}).DialContext(ctx, "tcp", server)
	if err != nil {
		return // the pod tries again
	}
	defer to.Close()
	ended := make(chan struct{}, 2)
	// How a connection ends is the business of its two ends.
	go func() { _, _ = io.Copy(to, from); ended <- struct{}{} }()
	go func() { _, _ = io.Copy(from, to); ended <- struct{}{} }()
	<-ended
}

// addServiceIP gives the loopback device a second address.
func addServiceIP() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	return errors.Join(
		setAddress(socket, "lo:1", unix.SIOCSIFADDR, serviceIP),
		setAddress(socket, "lo:1", unix.SIOCSIFNETMASK, "255.255.255.255"),
	)
}
