package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
)

// Name is the node's name.
const Name = "node-1"

// Images that pods may use; Options.Images adds names to them.
const (
	// Pause waits. The kubelet runs one for each pod.
	Pause = "images.local/pause:1"
	// Busybox has a shell and the usual commands, dd and blockdev being Debian's.
	Busybox = "images.local/busybox:1"
	// Agnhost is what pods of Kubernetes' tests run.
	Agnhost = "images.local/agnhost:1"
	// Demo is Busybox with Options.Programs in its root folder.
	Demo = "images.local/csi-clone-provisioner-demo:1"
)

// Options says what node to start. All but Images, Programs and Log are required.
type Options struct {
	// Cluster is the control plane, started with cluster.Options.Nodes.
	Cluster *cluster.Cluster
	// Binaries is the folder that hack/node.sh --path prints.
	Binaries string
	// Dir is the sandbox's folder.
	Dir string
	// Images are further names under which pods may ask for the images: one of the
	// constants above by each name.
	Images map[string]string
	// Programs are paths of programs for the image Demo. Empty: there is no such image.
	Programs []string
	// Log is told about progress, in printf form. Nil: nobody.
	Log func(format string, args ...any)
}

// programs are what must be in Options.Binaries.
func programs() []string {
	return []string{
		"kubelet", "containerd", "containerd-shim-runc-v2", "ctr", "runc", "bridge", "loopback", "host-local",
		"pause", "agnhost", "busybox",
	}
}

func (o Options) validate() error {
	if o.Cluster == nil || o.Dir == "" {
		return errors.New("starting a node: Options.Cluster or Options.Dir is missing")
	}
	for _, name := range programs() {
		info, err := os.Stat(filepath.Join(o.Binaries, name))
		if err != nil || info.Mode()&0o111 == 0 {
			return fmt.Errorf("starting a node: no program %s in %s; run hack/node.sh", name, o.Binaries)
		}
	}
	// The kubelet mounts and makes loop devices by these.
	for _, name := range hostTools() {
		if _, err := findTool(name); err != nil {
			return fmt.Errorf("starting a node: %w; install Debian's packages mount and util-linux", err)
		}
	}
	return nil
}

func (o Options) logf(format string, args ...any) {
	if o.Log != nil {
		o.Log(format, args...)
	}
}
