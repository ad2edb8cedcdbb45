package kit

import (
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/gateway"
)

// Gateway returns the proxy between the test's provisioners and the API server. It
// is started at first use, and provisioners that are started after that go through
// it; those that run already do not. Nothing else does: Admin and the control
// plane have the API server to themselves.
//
// At the end of the test all is let through before the books are checked. A test
// that shares it with others (Beside) calls this first.
func (e *Env) Gateway() *gateway.Gateway {
	e.t.Helper()
	if e.gateway != nil {
		return e.gateway
	}
	account, err := clientcmd.BuildConfigFromFlags("", e.account.kubeconfig)
	if err != nil {
		e.t.Fatalf("reading the account of the test's provisioners: %v", err)
	}
	if e.gateway, err = gateway.Start(account.Host, account.CAData, account.BearerToken); err != nil {
		e.t.Fatal(err)
	}
	path := filepath.Join(e.dir, "gateway.kubeconfig")
	if err := clientcmd.WriteToFile(kubeconfigFor(e.gateway.URL()), path); err != nil {
		e.t.Fatalf("writing %s: %v", path, err)
	}
	e.account.kubeconfig = path
	return e.gateway
}

// kubeconfigFor leads to a URL. Who asks is the gateway's to say.
func kubeconfigFor(url string) clientcmdapi.Config {
	const name = "gateway"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: url}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name}
	config.CurrentContext = name
	return *config
}

// closeGateway ends the gateway, if there is one, once nobody needs it.
func (e *Env) closeGateway() {
	if e.gateway == nil {
		return
	}
	if err := e.gateway.Close(); err != nil {
		e.t.Error(err)
	}
}
