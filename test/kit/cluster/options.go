package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Options says what to start. Only Binaries is required.
type Options struct {
	// Binaries is the folder of the compiled control plane, as printed by
	// hack/control-plane.sh --path.
	Binaries string
	// Scheduler also starts kube-scheduler. Default: no, for there are no nodes.
	Scheduler bool
	// Nodes prepares the cluster for nodes: kubelets may sign on, and the API server
	// knows how to reach them. Default: no, the API server then has RBAC alone.
	Nodes bool
	// SnapshotCRDs is the folder with the VolumeSnapshot CRD manifests. When set
	// they are installed and the snapshot controller is started. Empty: neither.
	SnapshotCRDs string
	// ReferenceGrantCRD is the manifest of the ReferenceGrant CRD, or a folder it
	// is in. When set it is installed. Empty: the API server knows no such kind.
	ReferenceGrantCRD string
	// APIServerArgs are appended to kube-apiserver's arguments, for instance
	// "--feature-gates=CrossNamespaceVolumeDataSource=true". Later flags win.
	APIServerArgs []string
	// ControllerManagerArgs are appended to kube-controller-manager's arguments.
	ControllerManagerArgs []string
	// AuditLog makes the API server log one line of JSON for each request
	// (metadata only) to AuditLogPath.
	AuditLog bool
	// AuditAccounts does so for requests of service accounts in namespace default
	// alone, which are few. AuditLog includes them.
	AuditAccounts bool
	// KeepDir keeps the whole folder when the cluster stops.
	KeepDir bool
	// Outlive makes the processes go on when this process ends without Stop.
	Outlive bool
	// Parent is the folder in which the cluster's own is made. Empty: the
	// system's folder for temporary files.
	Parent string
	// Log is told about progress, in printf form. Nil: nobody.
	Log func(format string, args ...any)
}

// programs returns the names of the programs these options need.
func (o Options) programs() []string {
	names := []string{etcd, apiServer, controllerManager}
	if o.Scheduler {
		names = append(names, scheduler)
	}
	if o.SnapshotCRDs != "" {
		names = append(names, snapshotController)
	}
	return names
}

// validate says what is missing before anything is started.
func (o Options) validate() error {
	if o.Binaries == "" {
		return errors.New("starting a cluster: Options.Binaries is empty; it is the folder hack/control-plane.sh --path prints")
	}
	for _, name := range o.programs() {
		info, err := os.Stat(filepath.Join(o.Binaries, name))
		if err != nil || info.Mode()&0o111 == 0 {
			return fmt.Errorf("starting a cluster: no program %s in %s; run `make control-plane`", name, o.Binaries)
		}
	}
	return nil
}

func (o Options) logf(format string, args ...any) {
	if o.Log != nil {
		o.Log(format, args...)
	}
}
