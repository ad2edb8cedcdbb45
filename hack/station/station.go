package station

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"k8s.io/client-go/kubernetes"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/node"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/sandbox"
)

// DriverName is the name of the demo driver.
const DriverName = "demo.csi-clone-provisioner.example"

// topologyKey is the label that says where volumes can be used.
const topologyKey = "topology.demo.csi-clone-provisioner.example/zone"

// csiDriver is what Kubernetes is told of the driver.
//
//go:embed csidriver.yaml
var csiDriver []byte

// Options says what to start.
type Options struct {
	// Here is the sandbox that this process runs in.
	Here sandbox.Here
	// Root is the folder of the repository.
	Root string
	// Images are further names of the images, see package node.
	Images map[string]string
	// Bare leaves out driver, provisioner and csi-snapshotter. The programs of the first two
	// are in the image node.Demo then.
	Bare bool
	// Log is told about progress, in printf form.
	Log func(format string, args ...any)
}

// Station is all that runs.
type Station struct {
	opts Options
	// Cluster is the control plane. Its group has all processes.
	Cluster *cluster.Cluster
	// Client is the administrator's.
	Client kubernetes.Interface
	// Kubeconfig is the administrator's, too.
	Kubeconfig string
	// FileSystem is what volumes are kept on, "XFS" for instance, and whether a clone
	// shares the blocks of its source there.
	FileSystem string
	Shares     bool

	provisioner *process.Process
	keepLogs    bool
}

// Start starts everything and returns when pods can use volumes. The caller must call
// Stop. On an error everything is stopped.
func Start(ctx context.Context, opts Options) (*Station, error) {
	s := &Station{opts: opts}
	err := s.start(ctx)
	if err != nil && s.Cluster != nil {
		if ctx.Err() == nil {
			s.KeepLogs()
		}
		err = errors.Join(err, s.Stop())
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Stop ends the processes. Containers, mounts and devices end with the sandbox.
func (s *Station) Stop() error {
	err := s.Cluster.Stop()
	if !s.keepLogs {
		return err
	}
	// The sandbox's folder goes away.
	kept := filepath.Join(os.TempDir(), filepath.Base(s.Cluster.Dir()))
	if out, moved := exec.Command("cp", "-r", s.Cluster.Dir(), kept).CombinedOutput(); moved != nil {
		return errors.Join(err, fmt.Errorf("keeping the logs: %w: %s", moved, out))
	}
	s.opts.Log("the logs are in %s", kept)
	return err
}

// KeepLogs makes Stop leave the logs where it says.
func (s *Station) KeepLogs() {
	s.keepLogs = true
	s.Cluster.KeepLogs()
}

func (s *Station) start(ctx context.Context) error {
	if err := s.makeVolumes(ctx); err != nil {
		return err
	}
	if err := s.startCluster(ctx); err != nil {
		return err
	}
	binaries, err := repo.Node(s.opts.Root)
	if err != nil {
		return err
	}
	options := node.Options{Cluster: s.Cluster, Binaries: binaries, Dir: s.opts.Here.Dir, Images: s.opts.Images, Log: s.opts.Log}
	provisioner := func(ctx context.Context) error { return s.StartProvisioner(ctx) }
	steps := []func(context.Context) error{s.startDriver, provisioner, s.startSnapshotter, s.awaitDriver}
	if s.opts.Bare {
		program, err := repo.Provisioner(s.opts.Root)
		if err != nil {
			return err
		}
		options.Programs, steps = []string{program, s.driverProgram()}, nil
	}
	if _, err = node.Start(ctx, options); err != nil {
		return err
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return s.writeEnv(binaries)
}

func (s *Station) startCluster(ctx context.Context) error {
	binaries, err := repo.ControlPlane(s.opts.Root)
	if err != nil {
		return err
	}
	crds, err := repo.SnapshotCRDs(s.opts.Root)
	if err != nil {
		return err
	}
	s.Cluster, err = cluster.Start(ctx, cluster.Options{
		Binaries: binaries, Parent: s.opts.Here.Dir, Nodes: true, Scheduler: true, SnapshotCRDs: crds, Log: s.opts.Log,
	})
	if err != nil {
		return err
	}
	if s.Kubeconfig, err = s.Cluster.Kubeconfig("admin"); err != nil {
		return err
	}
	s.Client, err = s.Cluster.Client()
	return err
}

// Socket returns where the driver serves CSI. It is on the kubelet's side, for a socket's
// path must be short.
func (s *Station) Socket() string { return filepath.Join(s.opts.Here.Dir, "csi.sock") }

// Volumes returns the folder in which the driver keeps volumes.
func (s *Station) Volumes() string { return filepath.Join(s.opts.Here.Dir, "volumes") }

// launch starts a program beside the control plane.
func (s *Station) launch(name, path string, args ...string) (*process.Process, error) {
	return s.Cluster.Group().Start(process.Spec{
		Name: name, Path: path, Args: args,
		// The variable would win over the flag and lead to some real cluster.
		Env: []string{"KUBECONFIG=", "NAMESPACE=" + accountNamespace},
		Log: filepath.Join(s.Cluster.Dir(), name+".log"),
	})
}

func (s *Station) driverProgram() string { return filepath.Join(s.opts.Root, "bin", "demo-csi-driver") }

func (s *Station) startDriver(ctx context.Context) error {
	if err := s.Cluster.Apply(ctx, csiDriver); err != nil {
		return err
	}
	p, err := s.launch("demo-csi-driver", s.driverProgram(),
		"--endpoint=unix://"+s.Socket(), "--driver-name="+DriverName, "--dir="+s.Volumes(), "--node-id="+node.Name,
		"--topology="+topologyKey+"=here", "--shared-topology",
		"--publish-mode=mount", "--loop-devices", "--modify-volumes", "--no-sync",
		"--kubelet-registration-dir="+node.RegistrationDir, "--v=4")
	if err != nil {
		return err
	}
	return s.await(ctx, p, "the driver serves", func(context.Context) error {
		_, err := os.Stat(s.Socket())
		return err
	})
}

// startSnapshotter starts csi-snapshotter as administrator: it is no subject here.
func (s *Station) startSnapshotter(context.Context) error {
	_, err := s.launch("csi-snapshotter", s.Cluster.Binary("csi-snapshotter"),
		"--kubeconfig="+s.Kubeconfig, "--csi-address="+s.Socket(), "--timeout=30s", "--v=4",
		"--retry-interval-start=200ms", "--retry-interval-max=5s")
	return err
}

// writeEnv writes what a shell in the sandbox needs.
func (s *Station) writeEnv(binaries string) error {
	text := fmt.Sprintf("export KUBECONFIG='%s'\nexport PATH='%s:%s':\"$PATH\"\nexport CONTAINERD_ADDRESS='%s' CONTAINERD_NAMESPACE=k8s.io\n",
		s.Kubeconfig, filepath.Dir(s.Cluster.Binary("kubectl")), binaries, filepath.Join(s.opts.Here.Dir, "containerd.sock"))
	if err := os.WriteFile(filepath.Join(s.opts.Here.Dir, "env"), []byte(text), 0o644); err != nil {
		return fmt.Errorf("writing the environment of shells in the sandbox: %w", err)
	}
	return nil
}
