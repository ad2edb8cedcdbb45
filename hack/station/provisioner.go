package station

import (
	"context"
	"path/filepath"
	"strconv"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
)

// The service account of deploy/kubernetes/rbac.yaml.
const (
	accountNamespace = "default"
	accountName      = "csi-clone-provisioner"
)

// stopGrace is how long the provisioner may take to end.
const stopGrace = 30 * time.Second

// StartProvisioner starts the provisioner with further arguments, in the place of one that
// runs.
func (s *Station) StartProvisioner(ctx context.Context, args ...string) error {
	if s.provisioner != nil {
		if err := s.provisioner.Stop(stopGrace); err != nil {
			return err
		}
	}
	if err := s.Cluster.ApplyFile(ctx, filepath.Join(s.opts.Root, "deploy", "kubernetes", "rbac.yaml")); err != nil {
		return err
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
	}, args...)...)
	if err != nil {
		return err
	}
	return s.await(ctx, s.provisioner, "the provisioner is ready", func(ctx context.Context) error {
		return answers(ctx, "http://"+address+"/readyz")
	})
}
