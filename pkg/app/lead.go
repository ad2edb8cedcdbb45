package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/observe"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/options"
)

// ErrLeaseLost: another replica may be leading now.
var ErrLeaseLost = errors.New("lost the leader election lease; exiting so that two replicas do not work at once")

// healthGrace is how long after the lease's end a leader that could not renew
// it still counts as live: the incumbent's figure.
const healthGrace = 20 * time.Second

// lead runs the house while this process holds the lease. The lease outlives
// the work: it is given up when everything has stopped, and only then.
func lead(ctx context.Context, l options.LeaderElection, config *rest.Config, driver string, server *observe.Server, h *house) error {
	health := leaderelection.NewLeaderHealthzAdaptor(healthGrace)
	server.AddLive(health.Check)
	work, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	elected := make(chan struct{})
	elector, err := newElector(l, config, driver, health, leaderelection.LeaderCallbacks{
		OnStartedLeading: func(context.Context) { close(elected) },
		OnStoppedLeading: func() { stop(ErrLeaseLost) },
		OnNewLeader: func(identity string) {
			klog.FromContext(ctx).V(2).Info("New leader", "identity", identity)
		},
	})
	if err != nil {
		return err
	}
	mayAct := func() error {
		return fresh(elector.IsLeader(), elector.Check(l.RenewDeadline-l.LeaseDuration))
	}
	h.driver.MayCall, h.writer.MayWrite = mayAct, mayAct
	lease, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	given := make(chan struct{})
	go func() {
		defer close(given)
		elector.Run(lease)
	}()
	defer func() {
		giveUp()
		<-given
	}()

	server.SetReady(ready) // a standby is ready to take over
	select {
	case <-elected:
	case <-work.Done():
		return nil
	}
	err = h.run(work, func() { server.SetReady(ready) })
	if cause := context.Cause(work); errors.Is(cause, ErrLeaseLost) {
		return ErrLeaseLost
	}
	return err
}

// errLeaseStale: this process may have been stopped for a while, and does not know it
// yet.
var errLeaseStale = errors.New("the leader election lease was not renewed in time, another replica may be at work; nothing was done")

// fresh returns an error unless this process leads, and has renewed the lease not
// longer ago than it may try to: no other process can have taken it over then. A process
// that was stopped, or starved, must neither call the driver nor write to claims.
func fresh(leads bool, renewed error) error {
	switch {
	case !leads:
		return errLeaseStale
	case renewed != nil:
		return fmt.Errorf("%w (%w)", errLeaseStale, renewed)
	}
	return nil
}

func newElector(l options.LeaderElection, config *rest.Config, driver string, health *leaderelection.HealthzAdaptor, callbacks leaderelection.LeaderCallbacks) (*leaderelection.LeaderElector, error) {
	// A client of its own: requests for claims never queue up in front of the
	// renewal.
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for leader election: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("asking for the host's name, to be known by in leader election: %w", err)
	}
	lock, err := resourcelock.NewWithLabels(resourcelock.LeasesResourceLock, l.Namespace, leaseName(driver),
		client.CoreV1(), client.CoordinationV1(),
		resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())}, l.Labels)
	if err != nil {
		return nil, fmt.Errorf("making the lease %s/%s: %w", l.Namespace, leaseName(driver), err)
	}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, Name: leaseName(driver), Callbacks: callbacks, WatchDog: health, ReleaseOnCancel: l.ReleaseOnExit,
		LeaseDuration: l.LeaseDuration, RenewDeadline: l.RenewDeadline, RetryPeriod: l.RetryPeriod,
	})
	if err != nil {
		return nil, fmt.Errorf("setting up leader election: %w", err)
	}
	health.SetLeaderElection(elector)
	return elector, nil
}

// leaseName is the incumbent's, so that the two exclude each other while one
// takes the other's place: everything but letters, digits and dashes becomes a
// dash, and a name must not end in one. The incumbent keeps capitals, with which
// the API server accepts no lease; so there is nothing to agree on for those.
func leaseName(driver string) string {
	name := regexp.MustCompile("[^a-z0-9-]").ReplaceAllString(strings.ToLower(driver), "-")
	if strings.HasSuffix(name, "-") {
		name += "x"
	}
	return name
}
