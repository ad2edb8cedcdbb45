package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
)

// startTries is how often a cluster is started when somebody else takes one of
// its ports in between.
const startTries = 3

// etcdNice is the niceness of etcd.
const etcdNice = -10

// Cluster is a running control plane.
type Cluster struct {
	opts      Options
	folder    *folder
	ports     ports
	authority *authority
	admin     keyPair
	group     *process.Group

	mu sync.Mutex
	// apiServer is the running API server, nil while it is stopped.
	apiServer *process.Process
	keepLogs  bool
	stopped   bool
}

// Start starts a cluster and returns when its API server and controllers are
// healthy. The caller must call Stop. On an error everything is stopped, and
// the error holds the end of the log and where the logs are kept.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		c, err := start(ctx, opts)
		if err == nil || !errors.Is(err, errPortTaken) || try == startTries {
			return c, err
		}
		opts.logf("a port was taken while the cluster started; trying again with others")
	}
}

// errPortTaken says that a component could not listen on its port.
var errPortTaken = errors.New("a port was taken by somebody else")

func start(ctx context.Context, opts Options) (*Cluster, error) {
	began := time.Now()
	dir, err := newFolder(opts.Parent)
	if err != nil {
		return nil, err
	}
	c := &Cluster{opts: opts, folder: dir, group: newGroup(opts)}
	if err := c.startAll(ctx); err != nil {
		switch {
		case ctx.Err() != nil: // nothing went wrong, somebody changed their mind
		case c.portTaken():
			err = fmt.Errorf("%w: %w", errPortTaken, err)
		default:
			c.KeepLogs()
		}
		return nil, errors.Join(err, c.Stop())
	}
	opts.logf("the cluster is up after %.1f s (folder %s)", time.Since(began).Seconds(), dir.path)
	return c, nil
}

func newGroup(opts Options) *process.Group {
	if opts.Outlive {
		return process.NewOutlivingGroup()
	}
	return process.NewGroup()
}

// startAll starts the components: etcd and the API server one after the other,
// what talks to the API server side by side.
func (c *Cluster) startAll(ctx context.Context) error {
	if err := c.drawPorts(); err != nil {
		return err
	}
	if err := c.writeCredentials(); err != nil {
		return err
	}
	if err := c.startComponent(ctx, etcd, c.etcdArgs(), url("http", c.ports.etcdClient)+"/readyz"); err != nil {
		return err
	}
	if err := c.StartAPIServer(ctx); err != nil {
		return err
	}
	if err := c.installCRDs(ctx); err != nil {
		return err
	}
	clients, ctx := errgroup.WithContext(ctx)
	clients.Go(func() error {
		return c.startComponent(ctx, controllerManager, c.controllerManagerArgs(), url("https", c.ports.controllerManager)+"/healthz")
	})
	clients.Go(func() error { return c.awaitDefaultNamespace(ctx) })
	if c.opts.Scheduler {
		clients.Go(func() error {
			return c.startComponent(ctx, scheduler, c.schedulerArgs(), url("https", c.ports.scheduler)+"/healthz")
		})
	}
	if c.opts.SnapshotCRDs != "" {
		clients.Go(func() error { return c.startSnapshotController(ctx) })
	}
	return clients.Wait()
}

// InstallSnapshots installs the VolumeSnapshot CRDs that are in a folder, and starts the
// snapshot controller, on a cluster that was started without.
func (c *Cluster) InstallSnapshots(ctx context.Context, crds string) error {
	if err := c.InstallCRDs(ctx, crds); err != nil {
		return err
	}
	return c.startSnapshotController(ctx)
}

func (c *Cluster) startSnapshotController(ctx context.Context) error {
	return c.startComponent(ctx, snapshotController, c.snapshotControllerArgs(), url("http", c.ports.snapshotController)+"/metrics")
}

// Binary returns the path of a program of the development control plane.
func (c *Cluster) Binary(name string) string { return filepath.Join(c.opts.Binaries, name) }

func (c *Cluster) drawPorts() error {
	for _, port := range []*int{
		&c.ports.etcdClient, &c.ports.etcdPeer, &c.ports.apiServer,
		&c.ports.controllerManager, &c.ports.scheduler, &c.ports.snapshotController,
	} {
		free, err := process.FreePort()
		if err != nil {
			return err
		}
		*port = free
	}
	return nil
}

// startComponent starts a program and waits until it is healthy.
func (c *Cluster) startComponent(ctx context.Context, name string, args []string, health string) error {
	p, err := c.launch(name, args)
	if err != nil {
		return err
	}
	if name == etcd {
		// Without a share of a busy processor its requests time out, and those of the API server
		// fail. The process is a group of its own. Only root may do this; others do without.
		_ = syscall.Setpriority(syscall.PRIO_PGRP, p.PID(), etcdNice)
	}
	return c.awaitHealthy(ctx, p, health)
}

func (c *Cluster) launch(name string, args []string) (*process.Process, error) {
	return c.group.Start(process.Spec{
		Name: name,
		Path: filepath.Join(c.opts.Binaries, name),
		Args: args,
		// Garbage is collected less often than by default: it is a good part of what an API
		// server does when it starts.
		Env: []string{"GOGC=400", "GOMEMLIMIT=1GiB"},
		Dir: c.folder.path,
		Log: c.file(name + ".log"),
	})
}

// portTaken says whether a component complained of a taken port.
func (c *Cluster) portTaken() bool {
	for _, name := range c.opts.programs() {
		content, err := os.ReadFile(c.file(name + ".log"))
		if err == nil && process.PortTaken(string(content)) {
			return true
		}
	}
	return false
}

// awaitDefaultNamespace waits for what the API server makes by itself shortly
// after it is ready.
func (c *Cluster) awaitDefaultNamespace(ctx context.Context) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	err = poll(ctx, nil, func() error {
		_, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceDefault, metav1.GetOptions{})
		return err
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("waiting for namespace %q: %w", metav1.NamespaceDefault, err)
	}
	return err
}

// Client returns a client of the administrator.
func (c *Cluster) Client() (kubernetes.Interface, error) {
	client, err := kubernetes.NewForConfig(c.AdminConfig())
	if err != nil {
		return nil, fmt.Errorf("making a client of the cluster: %w", err)
	}
	return client, nil
}
