package station

import (
	"context"
	"path/filepath"
	"strconv"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
)

// The service account of deploy/kubernetes/rbac.yaml; CSIStorageCapacity objects are in its
// namespace, too.
const (
	accountNamespace = "default"
	accountName      = "csi-clone-provisioner"
)

// stopGrace is how long the provisioner may take to end.
const stopGrace = 3 * time.Minute

// StartProvisioner starts the provisioner with further arguments, in the place of one that
// runs.
func (s *Station) StartProvisioner(ctx context.Context, args ...string) error {
	if s.provisioner != nil {
		if err := s.provisioner.Stop(stopGrace); err != nil {
			return err
		}
	}
	for _, file := range []string{"rbac.yaml", "rbac-topology.yaml", "rbac-capacity.yaml"} {
		if err := s.Cluster.ApplyFile(ctx, filepath.Join(s.opts.Root, "deploy", "kubernetes", file)); err != nil {
			return err
		}
	}
	kubeconfig, err := s.Cluster.ServiceAccountKubeconfig(ctx, accountNamespace, accountName)
	if err != nil {
		return err
	}
	binary, err := repo.Provisioner(s.opts.Root)
	if err != nil {
		return err
	}
	port, err := process.FreePort()
	if err != nil {
		return err
	}
	address := "127.0.0.1:" + strconv.Itoa(port)
	s.provisioner, err = s.launch("csi-clone-provisioner", binary, append([]string{
		"--kubeconfig=" + kubeconfig, "--csi-address=" + s.Socket(), "--http-endpoint=" + address,
		"--leader-election", "--leader-election-namespace=" + accountNamespace, "--extra-create-metadata", "--v=4",
		// It is in no pod, and the classes of Kubernetes' storage tests bind immediately.
		"--enable-capacity", "--capacity-ownerref-level=-1", "--capacity-for-immediate-binding", "--capacity-poll-interval=10s",
	}, args...)...)
	if err != nil {
		return err
	}
	return s.await(ctx, s.provisioner, "the provisioner is ready", func(ctx context.Context) error {
		return process.Answers(ctx, "http://"+address+"/readyz")
	})
}
