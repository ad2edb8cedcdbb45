package main

import (
	"context"
	"path/filepath"
	"strconv"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/repo"
)

// The service account of deploy/kubernetes/rbac.yaml.
const (
	accountNamespace = "default"
	accountName      = "csi-clone-provisioner"
)

func (d *demo) startControlPlane(ctx context.Context) error {
	d.out.heading("Starting a control plane: etcd, kube-apiserver, kube-controller-manager")
	binaries, err := repo.ControlPlane(d.root)
	if err != nil {
		return err
	}
	d.kubectl = filepath.Join(binaries, "kubectl")
	d.cluster, err = cluster.Start(ctx, cluster.Options{Binaries: binaries, Outlive: d.keep, Log: d.out.note})
	if err != nil {
		return err
	}
	kubeconfig, err := d.cluster.Kubeconfig("admin")
	if err != nil {
		return err
	}
	d.target, d.logs = "--kubeconfig="+kubeconfig, d.file("csi-clone-provisioner.log")
	d.client, err = d.cluster.Client()
	return err
}

// startDriver starts the CSI driver as a process of its own. It shows volumes by
// links, not mounts: a mount would outlive a demo that is killed.
func (d *demo) startDriver(ctx context.Context) error {
	d.out.heading("Starting the demo CSI driver %s", driverName)
	socket := d.file("csi.sock")
	p, err := d.cluster.Group().Start(process.Spec{
		Name: "demo-csi-driver",
		Path: filepath.Join(d.root, "bin", "demo-csi-driver"),
		Args: []string{
			"--endpoint=unix://" + socket,
			"--driver-name=" + driverName,
			"--dir=" + d.file("volumes"),
			"--node-id=node-1",
			"--publish-mode=symlink",
		},
		Log: d.file("demo-csi-driver.log"),
	})
	if err != nil {
		return err
	}
	if d.volumes, err = connectVolumes(socket); err != nil {
		return err
	}
	return d.await(ctx, p, "the driver answers", d.volumes.probe)
}

func (d *demo) startProvisioner(ctx context.Context) error {
	d.out.heading("Starting csi-clone-provisioner with the rights of deploy/kubernetes/rbac.yaml")
	if err := d.cluster.ApplyFile(ctx, filepath.Join(d.root, "deploy", "kubernetes", "rbac.yaml")); err != nil {
		return err
	}
	kubeconfig, err := d.cluster.ServiceAccountKubeconfig(ctx, accountNamespace, accountName)
	if err != nil {
		return err
	}
	binary, err := repo.Provisioner(d.root)
	if err != nil {
		return err
	}
	port, err := process.FreePort()
	if err != nil {
		return err
	}
	address := "127.0.0.1:" + strconv.Itoa(port)
	p, err := d.cluster.Group().Start(process.Spec{
		Name: "csi-clone-provisioner",
		Path: binary,
		Args: []string{
			"--kubeconfig=" + kubeconfig,
			"--csi-address=" + d.file("csi.sock"),
			"--http-endpoint=" + address,
			"--leader-election",
			"--leader-election-namespace=" + accountNamespace,
			"--v=4",
		},
		// The variable would win over the flag and lead to some real cluster.
		Env: []string{"KUBECONFIG="},
		Log: d.file("csi-clone-provisioner.log"),
	})
	if err != nil {
		return err
	}
	return d.await(ctx, p, "the provisioner is ready", func(ctx context.Context) error {
		return process.Answers(ctx, "http://"+address+"/readyz")
	})
}

// patience is how long a condition may take; each takes a second or less.
const patience = 3 * time.Minute

// await waits until check returns nil. It gives up at once if the process ends,
// which may be nil.
func (d *demo) await(ctx context.Context, p *process.Process, what string, check func(context.Context) error) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := process.Await(ctx, p, what, check); err != nil {
		return err
	}
	d.out.good("%s (after %.1f s)", what, time.Since(began).Seconds())
	return nil
}
