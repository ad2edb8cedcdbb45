package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/secret"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

// credentials are what the driver is called with. They are read for each attempt and
// kept no longer.
type credentials struct {
	// ref of the Secret, and its content. Zero and nil for none.
	ref    secret.Ref
	values map[string]string
	// lacking says what the call has to do without, because it is gone; empty if it has
	// all that it should. Then nothing but a success proves anything.
	lacking string
}

// explain adds to a driver's error what the driver was called without.
func (c credentials) explain(err error) error {
	if err == nil || c.lacking == "" {
		return err
	}
	return fmt.Errorf("it was asked for without %s, which does not exist; if the driver needs it, create it again: %w", c.lacking, err)
}

// errNoSecret: the Secret does not exist.
var errNoSecret = errors.New("it does not exist; create it")

// secretValues reads a Secret: all its keys, as they are.
func (p *Provisioner) secretValues(ctx context.Context, ref secret.Ref) (map[string]string, error) {
	if ref.IsZero() {
		return nil, nil
	}
	found, err := p.Client.CoreV1().Secrets(ref.Namespace).Get(withoutBodies(ctx), ref.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("reading Secret %q, which the driver is to be called with: %w", ref, errNoSecret)
	case err != nil:
		return nil, fmt.Errorf("reading Secret %q, which the driver is to be called with (get on secrets is granted by deploy/kubernetes/rbac-secrets.yaml): %w", ref, err)
	}
	values := make(map[string]string, len(found.Data))
	for key, value := range found.Data {
		values[key] = string(value)
	}
	return values, nil
}

// credentialsFor reads the Secret that a call was begun with; if that is gone, the one
// that the class names today.
func (p *Provisioner) credentialsFor(ctx context.Context, begun, today secret.Ref) (credentials, error) {
	values, err := p.secretValues(ctx, begun)
	if errors.Is(err, errNoSecret) && !today.IsZero() && today != begun {
		begun = today
		values, err = p.secretValues(ctx, begun)
	}
	return credentials{ref: begun, values: values}, err
}

// looks remembers for a moment whether Secrets exist, so that thousands of claims that
// wait for one ask for it once.
type looks struct {
	mu   sync.Mutex
	seen map[secret.Ref]*look
}

type look struct {
	mu  sync.Mutex
	at  time.Time
	err error
}

// fresh is how long a look at a Secret is good for. It is never used to call a driver.
const fresh = 5 * time.Second

// mostLooks is how many are remembered before old ones are dropped.
const mostLooks = 1000

func (l *looks) of(ref secret.Ref) *look {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.seen) >= mostLooks {
		clear(l.seen) // who is at one of them keeps it
	}
	if l.seen == nil {
		l.seen = map[secret.Ref]*look{}
	}
	if l.seen[ref] == nil {
		l.seen[ref] = &look{}
	}
	return l.seen[ref]
}

// JudgeSecret says whether the Secret, as namespace/name, that CreateVolume will be
// called with is there; empty means that there is none to be. Nobody may watch Secrets,
// so whoever waits for one has to ask again.
func (p *Provisioner) JudgeSecret(ctx context.Context, name string) verdict.Verdict {
	if name == "" {
		return verdict.Verdict{}
	}
	l := p.looks.of(secret.Parse(name))
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.at) > fresh {
		_, l.err = p.secretValues(ctx, secret.Parse(name))
		l.at = time.Now()
	}
	switch {
	case l.err == nil:
		return verdict.Verdict{}
	case ctx.Err() != nil:
		l.at = time.Time{}
		return verdict.Ignored("", "the process is ending")
	case errors.Is(l.err, errNoSecret):
		return verdict.Waiting(verdict.SecretNotFound,
			"the claim waits for Secret %q, which its StorageClass names for creating the volume, and which does not exist; provisioning starts by itself soon after it is there", name)
	}
	return verdict.Refused(verdict.SecretNotReadable, "provisioning was not started (tried again by itself): %v", l.err)
}

// about is what templates of Secrets may refer to.
func about(claim *v1.PersistentVolumeClaim, pv string) secret.About {
	return secret.About{PV: pv, Claim: claim.Name, Namespace: claim.Namespace, Annotations: maps.Clone(claim.Annotations)}
}
