package cluster

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
)

// The programs by their file names in the folder of binaries.
const (
	etcd               = "etcd"
	apiServer          = "kube-apiserver"
	controllerManager  = "kube-controller-manager"
	scheduler          = "kube-scheduler"
	snapshotController = "snapshot-controller"
)

// auditPolicy logs who did what to which object, not what was in it.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`

// accountsPolicy is the same for service accounts in namespace default alone.
const accountsPolicy = auditPolicy + `  userGroups: [system:serviceaccounts:default]
`

func (c *Cluster) auditPolicy() string {
	if c.opts.AuditLog {
		return auditPolicy
	}
	return accountsPolicy
}

// ports are the loopback ports of one cluster.
type ports struct {
	etcdClient, etcdPeer, apiServer, controllerManager, scheduler, snapshotController int
}

// url returns the address of a loopback port.
func url(scheme string, port int) string {
	return scheme + "://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// file returns the path of a file in the cluster's folder.
func (c *Cluster) file(name string) string { return filepath.Join(c.folder.path, name) }

func (c *Cluster) etcdArgs() []string {
	client, peer := url("http", c.ports.etcdClient), url("http", c.ports.etcdPeer)
	return []string{
		"--name=default",
		"--data-dir=" + c.file("etcd-data"),
		// The data is thrown away with the cluster; waiting for the disk is in vain.
		"--unsafe-no-fsync",
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=default=" + peer,
	}
}

func (c *Cluster) apiServerArgs() []string {
	args := []string{
		"--etcd-servers=" + url("http", c.ports.etcdClient),
		"--bind-address=127.0.0.1",
		// Given, because the default asks for the route to the world and there may be none.
		"--advertise-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.ports.apiServer),
		"--cert-dir=" + c.file("apiserver-certs"),
		"--tls-cert-file=" + c.file(servingCert),
		"--tls-private-key-file=" + c.file(servingKey),
		"--client-ca-file=" + c.file(caCert),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.file(saPublic),
		"--service-account-signing-key-file=" + c.file(saPrivate),
		"--service-cluster-ip-range=10.0.0.0/24",
		"--authorization-mode=" + c.authorizers(),
		"--allow-privileged=true",
		"--endpoint-reconciler-type=none",
		// Without it a polite stop waits a minute for clients that watch.
		"--shutdown-watch-termination-grace-period=1s",
		// A package of tests in parallel sends bursts of hundreds of requests; the
		// defaults are 400 and 200.
		"--max-requests-inflight=1200",
		"--max-mutating-requests-inflight=600",
	}
	if c.AuditsAccounts() {
		args = append(args,
			"--audit-policy-file="+c.file(auditPolicyFile),
			"--audit-log-path="+c.AuditLogPath(),
			"--audit-log-maxsize=1024")
	}
	if c.opts.Nodes {
		args = append(args,
			"--enable-admission-plugins=NodeRestriction",
			// A node of one machine has no name that could be looked up.
			"--kubelet-preferred-address-types=InternalIP",
			"--kubelet-client-certificate="+c.file(kubeletClientCert),
			"--kubelet-client-key="+c.file(kubeletClientKey))
	}
	return append(args, c.opts.APIServerArgs...)
}

// authorizers returns who decides what a user may do.
func (c *Cluster) authorizers() string {
	if c.opts.Nodes {
		return "Node,RBAC"
	}
	return "RBAC"
}

func (c *Cluster) controllerManagerArgs() []string {
	args := []string{
		"--kubeconfig=" + c.file(controllerManager+kubeconfigSuffix),
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.ports.controllerManager),
		"--tls-cert-file=" + c.file(servingCert),
		"--tls-private-key-file=" + c.file(servingKey),
		"--service-account-private-key-file=" + c.file(saPrivate),
		"--root-ca-file=" + c.file(caCert),
		"--leader-elect=false",
		"--use-service-account-credentials=false",
		// The default is a folder only root may make.
		"--flex-volume-plugin-dir=" + c.file("flexvolume"),
		// All controllers share one client; the default of 20 per second would
		// have tests wait for the binder.
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
	}
	return append(args, c.opts.ControllerManagerArgs...)
}

func (c *Cluster) schedulerArgs() []string {
	return []string{
		"--kubeconfig=" + c.file(scheduler+kubeconfigSuffix),
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.ports.scheduler),
		"--tls-cert-file=" + c.file(servingCert),
		"--tls-private-key-file=" + c.file(servingKey),
		"--leader-elect=false",
	}
}

func (c *Cluster) snapshotControllerArgs() []string {
	return []string{
		"--kubeconfig=" + c.file(snapshotController+kubeconfigSuffix),
		"--http-endpoint=" + fmt.Sprintf("127.0.0.1:%d", c.ports.snapshotController),
		"--leader-election=false",
	}
}
