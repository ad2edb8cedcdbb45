package node

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// containerdConfig: [1] folder, [2] socket, [3] snapshotter, [4] image of the pods'
// first container, [5] folder of CNI plugins, [6] of their configuration, [7] runc.
const containerdConfig = `version = 3
root = "%[1]s/root"
state = "%[1]s/state"

[grpc]
  address = "%[2]s"

[plugins.'io.containerd.internal.v1.opt']
  path = "%[1]s/opt"

[plugins.'io.containerd.nri.v1.nri']
  disable = true

[plugins.'io.containerd.cri.v1.images']
  snapshotter = "%[3]s"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "%[4]s"

[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["%[5]s"]
    conf_dir = "%[6]s"
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = "%[7]s"
`

// kubeletConfig: [1] certificate authority of clients, [2] containerd's socket, [3] folder
// for plugins, [4] folder for logs of pods, [5] address, [6] port.
//
// Nothing is taken from the pods for the system's sake, and no pod is evicted: the machine
// is a developer's, and its disk may be nearly full. Control groups of version 1 are
// enough.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  x509: {clientCAFile: %[1]s}
  webhook: {enabled: true}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
localStorageCapacityIsolation: false
evictionHard: {imagefs.available: 0%%, memory.available: 0%%, nodefs.available: 0%%, nodefs.inodesFree: 0%%}
imageGCHighThresholdPercent: 100
containerRuntimeEndpoint: unix://%[2]s
volumePluginDir: %[3]s
podLogsDir: %[4]s
address: %[5]s
port: %[6]d
readOnlyPort: 0
healthzPort: 0
resolvConf: ""
clusterDNS: [%[5]s]
clusterDomain: cluster.local
makeIPTablesUtilChains: false
registerNode: true
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
serializeImagePulls: false
maxPods: 200
`

func (n *Node) writeConfigs() error {
	containerd := fmt.Sprintf(containerdConfig, n.file("containerd"), n.socket(), n.snapshotter, Pause,
		n.opts.Binaries, n.file("cni"), n.binary("runc"))
	kubelet := fmt.Sprintf(kubeletConfig, n.opts.Cluster.ClientCA(), n.socket(), n.file("volume-plugins"), "/var/log/pods", nodeIP, kubeletTCP)
	for name, content := range map[string]string{containerdFile: containerd, kubeletFile: kubelet} {
		if err := os.WriteFile(n.file(name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("configuring the node: %w", err)
		}
	}
	return nil
}

// chooseSnapshotter returns how containerd is to keep containers' files: as overlays where
// that can be done below a folder, which is quick, else as whole copies.
func chooseSnapshotter(dir string) string {
	base := filepath.Join(dir, "overlay-probe")
	defer os.RemoveAll(base)
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.MkdirAll(filepath.Join(base, name), 0o755); err != nil {
			return "native"
		}
	}
	merged := filepath.Join(base, "merged")
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", base)
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return "native"
	}
	// At worst it goes with the sandbox.
	defer func() { _ = unix.Unmount(merged, 0) }()
	// An overlay on an overlay may be mountable and yet fail at the first file.
	if err := os.WriteFile(filepath.Join(merged, "file"), nil, 0o600); err != nil {
		return "native"
	}
	return "overlayfs"
}
