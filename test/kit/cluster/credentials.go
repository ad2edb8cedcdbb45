package cluster

import (
	"context"
	"fmt"
	"os"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
)

// Files in the cluster's folder.
const (
	caCert            = "ca.crt"
	servingCert       = "serving.crt"
	servingKey        = "serving.key"
	saPublic          = "service-accounts.pub"
	saPrivate         = "service-accounts.key"
	kubeletClientCert = "kubelet-client.crt"
	kubeletClientKey  = "kubelet-client.key"
	auditPolicyFile   = "audit-policy.yaml"
	kubeconfigSuffix  = ".kubeconfig"
)

// masters is the group that may do everything.
const masters = "system:masters"

// tokenSeconds is how long a service account token is good: a day, longer than
// any test run.
const tokenSeconds = 24 * 60 * 60

// writeCredentials makes certificates, keys and the components' kubeconfigs.
func (c *Cluster) writeCredentials() error {
	var err error
	if c.authority, err = newAuthority(); err != nil {
		return err
	}
	serving, err := c.authority.serving()
	if err != nil {
		return err
	}
	accounts, err := serviceAccountKey()
	if err != nil {
		return err
	}
	if c.admin, err = c.authority.client("admin", masters); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		caCert:      c.authority.certPEM,
		servingCert: serving.cert,
		servingKey:  serving.key,
		saPublic:    accounts.cert,
		saPrivate:   accounts.key,
		// Kubelets ask the API server what a bearer may do; this one may do everything.
		kubeletClientCert: c.admin.cert,
		kubeletClientKey:  c.admin.key,
		auditPolicyFile:   []byte(c.auditPolicy()),
	} {
		if err := os.WriteFile(c.file(name), content, 0o600); err != nil {
			return fmt.Errorf("writing the cluster's credentials: %w", err)
		}
	}
	// One credential serves all controllers of a component, so it may do everything.
	for _, component := range []string{controllerManager, scheduler, snapshotController} {
		if _, err := c.Kubeconfig(component, masters); err != nil {
			return err
		}
	}
	return nil
}

// ClientCA returns the file with the certificate authority of the cluster's clients.
func (c *Cluster) ClientCA() string { return c.file(caCert) }

// AdminConfig returns a client configuration that may do everything and is not
// rate limited. Each call returns a new one.
func (c *Cluster) AdminConfig() *rest.Config {
	return &rest.Config{
		Host: url("https", c.ports.apiServer),
		TLSClientConfig: rest.TLSClientConfig{
			CAData: c.authority.certPEM, CertData: c.admin.cert, KeyData: c.admin.key,
		},
		QPS: -1,
	}
}

// Kubeconfig writes a kubeconfig by which the API server knows the bearer as
// user, in the given groups, and returns its path. User "admin" without groups
// is the administrator.
func (c *Cluster) Kubeconfig(user string, groups ...string) (string, error) {
	if user == "admin" && len(groups) == 0 {
		groups = []string{masters}
	}
	pair, err := c.authority.client(user, groups...)
	if err != nil {
		return "", err
	}
	path := c.file(user + kubeconfigSuffix)
	return path, c.writeKubeconfig(path, &clientcmdapi.AuthInfo{
		ClientCertificateData: pair.cert, ClientKeyData: pair.key,
	})
}

// ServiceAccountKubeconfig writes a kubeconfig with a token of a service account
// and returns its path. The account must exist.
func (c *Cluster) ServiceAccountKubeconfig(ctx context.Context, namespace, name string) (string, error) {
	client, err := c.Client()
	if err != nil {
		return "", err
	}
	request := &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](tokenSeconds)},
	}
	answer, err := client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("requesting a token of service account %q in namespace %q: %w", name, namespace, err)
	}
	path := c.file(fmt.Sprintf("%s-%s-%d%s", namespace, name, time.Now().UnixNano(), kubeconfigSuffix))
	return path, c.writeKubeconfig(path, &clientcmdapi.AuthInfo{Token: answer.Status.Token})
}

func (c *Cluster) writeKubeconfig(path string, who *clientcmdapi.AuthInfo) error {
	const name = "development"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{
		Server: url("https", c.ports.apiServer), CertificateAuthorityData: c.authority.certPEM,
	}
	config.AuthInfos[name] = who
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("writing kubeconfig %s: %w", path, err)
	}
	return nil
}
