package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
)

const (
	containerdFile = "containerd.toml"
	kubeletFile    = "kubelet.yaml"
	// startLimit is how long a part of the node may take to be there. Each takes seconds.
	startLimit = 5 * time.Minute
)

// RegistrationDir is where CSI drivers announce themselves to the kubelet.
const RegistrationDir = "/var/lib/kubelet/plugins_registry"

// Node is a running node.
type Node struct {
	opts        Options
	snapshotter string
}

// Start starts a node and returns when pods can run on it. Its processes belong to the
// cluster's group and end with it; the containers end with the sandbox.
func Start(ctx context.Context, opts Options) (*Node, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	n := &Node{opts: opts}
	for _, dir := range []string{n.file(""), RegistrationDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("making a folder of the node: %w", err)
		}
	}
	n.snapshotter = chooseSnapshotter(n.file(""))
	if err := errors.Join(n.makeNetwork(), n.writeConfigs()); err != nil {
		return nil, err
	}
	if err := serveAPI(ctx, opts.Cluster.Host()); err != nil {
		return nil, err
	}
	if err := n.startContainerd(ctx); err != nil {
		return nil, err
	}
	if err := n.importImages(ctx); err != nil {
		return nil, err
	}
	return n, n.startKubelet(ctx)
}

// file returns the path of a file in the node's folder.
func (n *Node) file(name string) string { return filepath.Join(n.opts.Dir, "node", name) }

func (n *Node) socket() string { return filepath.Join(n.opts.Dir, "containerd.sock") }

func (n *Node) startContainerd(ctx context.Context) error {
	began := time.Now()
	p, err := n.launch("containerd", "--config="+n.file(containerdFile))
	if err != nil {
		return err
	}
	err = await(ctx, p, "containerd answers", func(ctx context.Context) error {
		out, err := exec.CommandContext(ctx, n.binary("ctr"), "--address="+n.socket(), "version").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		return err
	}
	n.opts.logf("containerd answers after %.1f s (files of containers: %s)", time.Since(began).Seconds(), n.snapshotter)
	return nil
}

func (n *Node) startKubelet(ctx context.Context) error {
	began := time.Now()
	kubeconfig, err := n.opts.Cluster.Kubeconfig("system:node:"+Name, "system:nodes")
	if err != nil {
		return err
	}
	p, err := n.launch("kubelet",
		"--kubeconfig="+kubeconfig, "--config="+n.file(kubeletFile), "--cert-dir="+n.file("kubelet-certs"),
		"--hostname-override="+Name, "--node-ip="+nodeIP, "--v=2")
	if err != nil {
		return err
	}
	client, err := n.opts.Cluster.Client()
	if err != nil {
		return err
	}
	err = await(ctx, p, "the node is ready", func(ctx context.Context) error {
		live, err := client.CoreV1().Nodes().Get(ctx, Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return ready(live)
	})
	if err != nil {
		return err
	}
	n.opts.logf("node %s is ready after %.1f s", Name, time.Since(began).Seconds())
	return nil
}

// ready returns nil if a node takes pods, or why it does not.
func ready(node *v1.Node) error {
	if len(node.Spec.Taints) > 0 {
		return fmt.Errorf("it has taint %s", node.Spec.Taints[0].Key)
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == v1.NodeReady {
			if condition.Status == v1.ConditionTrue {
				return nil
			}
			return errors.New(condition.Message)
		}
	}
	return errors.New("it has not reported yet")
}

// launch starts a program that finds the others and the machine's tools.
func (n *Node) launch(name string, args ...string) (*process.Process, error) {
	return n.opts.Cluster.Group().Start(process.Spec{
		Name: name,
		Path: n.binary(name),
		Args: args,
		Env:  []string{"PATH=" + n.opts.Binaries + ":" + strings.Join(toolFolders(), ":")},
		Dir:  n.file(""),
		Log:  filepath.Join(n.opts.Cluster.Dir(), name+".log"),
	})
}

// await waits until check returns nil; it gives up at once if the process ends.
func await(ctx context.Context, p *process.Process, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return process.Await(ctx, p, what, check)
}
