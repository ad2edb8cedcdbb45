package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
)

const (
	// healthPoll is how often a health endpoint is asked.
	healthPoll = 50 * time.Millisecond
	// startLimit is how long one component may take to become healthy. A busy
	// machine of two cores needs ten seconds for the API server.
	startLimit = 5 * time.Minute
	// tailLines is how much of a log goes into an error.
	tailLines = 20
)

// errExited says that a component ended while it was waited for.
var errExited = errors.New("it ended while starting")

// healthClient returns a client the API server knows as administrator.
func (c *Cluster) healthClient() (*http.Client, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.authority.certPEM)
	cert, err := tls.X509KeyPair(c.admin.cert, c.admin.key)
	if err != nil {
		return nil, fmt.Errorf("loading the administrator's certificate: %w", err)
	}
	return &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		},
	}, nil
}

// awaitHealthy asks a component's health endpoint until it says 200. It returns
// at once with the tail of the log if the process ends.
func (c *Cluster) awaitHealthy(ctx context.Context, p *process.Process, endpoint string) error {
	client, err := c.healthClient()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	err = poll(ctx, p, func() error { return probe(ctx, client, endpoint) })
	if err != nil {
		return fmt.Errorf("waiting for %s: %w; the end of its log %s:\n%s", p.Name(), err, p.LogFile(), p.LogTail(tailLines))
	}
	c.opts.logf("%s is healthy after %.1f s", p.Name(), time.Since(p.Begun()).Seconds())
	return nil
}

// poll calls check until it returns nil, the context ends or the process does.
// A nil process never ends.
func poll(ctx context.Context, p *process.Process, check func() error) error {
	var exited <-chan struct{}
	if p != nil {
		exited = p.Done()
	}
	ticker := time.NewTicker(healthPoll)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-exited:
			return fmt.Errorf("%w (%s)", errExited, p.Fate())
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

func probe(ctx context.Context, client *http.Client, endpoint string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
	if err != nil {
		return fmt.Errorf("asking %s: %w", endpoint, err)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	return errors.Join(fmt.Errorf("%s answers %s: %s", endpoint, response.Status, body), err)
}
