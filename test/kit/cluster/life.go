package cluster

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
)

// apiServerGrace is how long the API server may take to end when it is asked.
const apiServerGrace = 3 * time.Minute

// Dir returns the cluster's folder. Logs are in it as <program>.log. What is
// put there is removed with the cluster, except files named *.log when the logs
// are kept.
func (c *Cluster) Dir() string { return c.folder.path }

// Host returns the address of the API server.
func (c *Cluster) Host() string { return url("https", c.ports.apiServer) }

// AuditLogPath returns where the API server logs requests if asked to.
func (c *Cluster) AuditLogPath() string { return c.file("audit.log") }

// AuditsAccounts tells whether it logs what service accounts ask for.
func (c *Cluster) AuditsAccounts() bool { return c.opts.AuditLog || c.opts.AuditAccounts }

// Group returns the cluster's processes; what else is started in it is stopped
// before the cluster is.
func (c *Cluster) Group() *process.Group { return c.group }

// KeepLogs makes Stop leave the logs where they are. Call it when something
// went wrong.
func (c *Cluster) KeepLogs() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keepLogs = true
}

// Stop ends every process and removes the folder; with KeepLogs all but the
// logs, with Options.KeepDir nothing. It may be called more than once.
func (c *Cluster) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil
	}
	c.stopped = true
	began := time.Now()
	errs := []error{c.group.Stop()}
	switch {
	case c.opts.KeepDir:
		errs = append(errs, c.folder.keep())
		c.opts.logf("the cluster's folder is kept: %s", c.folder.path)
	case c.keepLogs:
		errs = append(errs, c.folder.keepLogs())
		c.opts.logf("the cluster's logs are kept: %s", c.folder.path)
	default:
		errs = append(errs, c.folder.remove())
	}
	c.opts.logf("the cluster stopped in %.1f s", time.Since(began).Seconds())
	return errors.Join(errs...)
}

// Release leaves the cluster running and its folder in place for whoever comes
// after this process. It needs Options.Outlive.
func (c *Cluster) Release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	c.group.Release()
	return c.folder.keep()
}

// StopAPIServer ends the API server: SIGTERM lets it finish its requests,
// SIGKILL does not. Etcd and the controllers go on.
func (c *Cluster) StopAPIServer(sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.apiServer == nil {
		return errors.New("stopping the API server: it is not running")
	}
	p := c.apiServer
	c.apiServer = nil
	if sig == syscall.SIGKILL {
		p.Kill()
		return nil
	}
	return p.Stop(apiServerGrace)
}

// StartAPIServer starts the API server on the cluster's port and waits until it
// is healthy.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.apiServer != nil {
		return errors.New("starting the API server: it is running")
	}
	p, err := c.launch(apiServer, c.apiServerArgs())
	if err != nil {
		return err
	}
	c.apiServer = p
	return c.awaitHealthy(ctx, p, c.Host()+"/readyz")
}

// RestartAPIServer ends the API server by the given signal and starts it again
// on the same port.
func (c *Cluster) RestartAPIServer(ctx context.Context, sig syscall.Signal) error {
	if err := c.StopAPIServer(sig); err != nil {
		return fmt.Errorf("restarting the API server: %w", err)
	}
	return c.StartAPIServer(ctx)
}
