package node

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The bridge that connects the pods. Its network is the sandbox's own, so its addresses
// can collide with nobody's. The kubelet listens on the bridge, for it takes no loopback
// address for the node's.
const (
	bridge     = "pods0"
	nodeIP     = "10.88.0.1"
	podNetwork = "10.88.0.0/24"
	podMask    = "255.255.255.0"
	kubeletTCP = 10250
)

// networkConfig is for containerd's CNI. Without a default route pods reach the node, one
// another and the API server's service, and nothing else. %[1]q: the bridge; %[2]q: its
// network; %[3]q: where addresses given out are noted; %[4]q: the service's address.
const networkConfig = `{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [{
    "type": "bridge", "bridge": %[1]q, "isGateway": true, "ipMasq": false,
    "ipam": {"type": "host-local", "ranges": [[{"subnet": %[2]q}]], "dataDir": %[3]q, "routes": [{"dst": %[4]q}]}
  }]
}
`

// makeNetwork makes the bridge and writes the configuration.
func (n *Node) makeNetwork() error {
	if err := makeBridge(); err != nil {
		return fmt.Errorf("making bridge %s: %w", bridge, err)
	}
	dir := n.file("cni")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("configuring the pods' network: %w", err)
	}
	config := fmt.Appendf(nil, networkConfig, bridge, podNetwork, n.file("cni-addresses"), serviceIP+"/32")
	if err := os.WriteFile(filepath.Join(dir, "10-pods.conflist"), config, 0o644); err != nil {
		return fmt.Errorf("configuring the pods' network: %w", err)
	}
	return nil
}

// makeBridge makes the bridge with the node's address. No program is needed for it.
func makeBridge() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	name, err := unix.BytePtrFromString(bridge)
	if err != nil {
		return err
	}
	_, _, code := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCBRADDBR, uintptr(unsafe.Pointer(name)))
	if code != 0 && !errors.Is(code, unix.EEXIST) {
		return code
	}
	return errors.Join(
		setHardwareAddress(socket),
		setAddress(socket, bridge, unix.SIOCSIFADDR, nodeIP),
		setAddress(socket, bridge, unix.SIOCSIFNETMASK, podMask),
		switchOn(socket),
	)
}

// setHardwareAddress gives the bridge an address of its own. Without one it takes that of a pod,
// and when this pod ends the others cannot reach the node until they have asked for the new one.
func setHardwareAddress(socket int) error {
	request := struct {
		name    [unix.IFNAMSIZ]byte
		family  uint16
		address [14]byte
		_       [8]byte // the kernel reads 40 bytes
	}{family: unix.ARPHRD_ETHER, address: [14]byte{0x02, 10, 88, 0, 0, 1}}
	copy(request.name[:], bridge)
	_, _, code := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCSIFHWADDR, uintptr(unsafe.Pointer(&request)))
	if code != 0 {
		return code
	}
	return nil
}

func setAddress(socket int, device string, what uint, address string) error {
	request, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	four := netip.MustParseAddr(address).As4()
	if err := request.SetInet4Addr(four[:]); err != nil {
		return err
	}
	return unix.IoctlIfreq(socket, what, request)
}

func switchOn(socket int) error {
	request, err := unix.NewIfreq(bridge)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}
