package process

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
)

// Ports are drawn from below the range the kernel uses for outgoing
// connections, so that no such connection takes one between the moment it was
// found free and the moment a program listens on it.
const (
	lowestPort    = 10000
	portTries     = 200
	outgoingRange = "/proc/sys/net/ipv4/ip_local_port_range"
)

// FreePort returns a loopback TCP port nobody listens on. Somebody else may
// take it before it is used, which is unlikely; PortTaken recognises that from
// a program's log.
func FreePort() (int, error) {
	highest := firstOutgoingPort()
	for range portTries {
		port := lowestPort + rand.IntN(highest-lowestPort)
		if canListen(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("looking for a free port on 127.0.0.1: none of %d tried between %d and %d is free",
		portTries, lowestPort, highest)
}

// PortTaken says whether a program's log complains of a port in use.
func PortTaken(log string) bool {
	return strings.Contains(log, "address already in use")
}

// firstOutgoingPort returns where the range of outgoing connections begins;
// Linux's default if the system does not say or leaves no room below it.
func firstOutgoingPort() int {
	const usual = 32768
	content, err := os.ReadFile(outgoingRange)
	if err != nil {
		return usual
	}
	fields := strings.Fields(string(content))
	if len(fields) == 0 {
		return usual
	}
	first, err := strconv.Atoi(fields[0])
	if err != nil || first < lowestPort+portTries {
		return usual
	}
	return first
}

func canListen(port int) bool {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
