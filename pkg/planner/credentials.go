package planner

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

// Credentials are the Secret that the driver is called with. They are read for each attempt and
// not kept.
type Credentials struct {
	// Ref of the Secret, and its content. Zero and nil for none.
	Ref    secret.Ref
	Values map[string]string
	// Lacking is what the call does without because it no longer exists; empty if nothing is
	// missing. If it is not empty, only a success of the call proves anything.
	Lacking string
}

// Explain adds to the error of a call what was missing in it. It returns nil for nil.
func (c Credentials) Explain(err error) error {
	if err == nil || c.Lacking == "" {
		return err
	}
	return fmt.Errorf("it was asked for without %s, which does not exist; if the driver needs it, create it again: %w", c.Lacking, err)
}

// ErrNoSecret is wrapped by errors about a Secret that does not exist.
var ErrNoSecret = errors.New("it does not exist; create it")

// SecretValues reads a Secret from the API. The values are nil for a zero ref.
func (p *Planner) SecretValues(ctx context.Context, ref secret.Ref) (map[string]string, error) {
	if ref.IsZero() {
		return nil, nil
	}
	found, err := p.Client.CoreV1().Secrets(ref.Namespace).Get(withoutBodies(ctx), ref.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("reading Secret %q, which the driver is to be called with: %w", ref, ErrNoSecret)
	case err != nil:
		return nil, fmt.Errorf("reading Secret %q, which the driver is to be called with (get on secrets is granted by deploy/kubernetes/rbac-secrets.yaml): %w", ref, err)
	}
	values := make(map[string]string, len(found.Data))
	for key, value := range found.Data {
		values[key] = string(value)
	}
	return values, nil
}

// CredentialsFor reads the Secret that an earlier call was made with or, if that does not exist,
// the one that the class names today.
func (p *Planner) CredentialsFor(ctx context.Context, begun, today secret.Ref) (Credentials, error) {
	values, err := p.SecretValues(ctx, begun)
	if errors.Is(err, ErrNoSecret) && !today.IsZero() && today != begun {
		begun = today
		values, err = p.SecretValues(ctx, begun)
	}
	return Credentials{Ref: begun, Values: values}, err
}

// secretChecks remembers for checkInterval whether Secrets exist, so that thousands of claims
// that wait for one Secret read it once.
type secretChecks struct {
	mu    sync.Mutex
	found map[secret.Ref]*secretCheck
}

type secretCheck struct {
	mu  sync.Mutex
	at  time.Time
	err error
}

// checkInterval is how long the result of a read is used again. A driver is never called with it.
const checkInterval = 5 * time.Second

// maxSecretChecks is how many are remembered before all are dropped.
const maxSecretChecks = 1000

func (l *secretChecks) get(ref secret.Ref) *secretCheck {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.found) >= maxSecretChecks {
		clear(l.found) // one that is in use is kept by its user
	}
	if l.found == nil {
		l.found = map[secret.Ref]*secretCheck{}
	}
	if l.found[ref] == nil {
		l.found[ref] = &secretCheck{}
	}
	return l.found[ref]
}

// checkSecret checks that the Secret exists with which CreateVolume will be called; a zero ref
// is for a call without one. Secrets are not watched, so a claim that waits for one must be
// checked again after a while.
func (p *Planner) checkSecret(ctx context.Context, ref secret.Ref) verdict.Verdict {
	if ref.IsZero() {
		return verdict.Verdict{}
	}
	l := p.secrets.get(ref)
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.at) > checkInterval {
		_, l.err = p.SecretValues(ctx, ref)
		l.at = time.Now()
	}
	switch {
	case l.err == nil:
		return verdict.Verdict{}
	case ctx.Err() != nil:
		l.at = time.Time{}
		return verdict.Ignored("", "the process is ending")
	case errors.Is(l.err, ErrNoSecret):
		return verdict.Waiting(verdict.SecretNotFound,
			"the claim waits for Secret %q, which its StorageClass names for creating the volume, and which does not exist; provisioning starts by itself soon after it is there", ref)
	}
	return verdict.Refused(verdict.SecretNotReadable, "provisioning was not started (tried again by itself): %v", l.err)
}

// templateValues returns what the templates of Secret names may refer to.
func templateValues(claim *v1.PersistentVolumeClaim, pv string) secret.About {
	return secret.About{PV: pv, Claim: claim.Name, Namespace: claim.Namespace, Annotations: maps.Clone(claim.Annotations)}
}
