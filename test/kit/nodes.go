package kit

import (
	"path/filepath"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/driver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/faults"
)

// Node is a node with a driver and a provisioner of its own (--node-deployment).
type Node struct {
	env *Env
	// Name of the node; there is a Node object, too.
	Name string
	// Driver of the node, which keeps the node's volumes, and what makes its calls go
	// wrong.
	Driver *driver.Server
	Faults *faults.Injector
}

// TopologyKey is the key under which drivers of nodes tell which node they are on.
func (e *Env) TopologyKey() string { return e.DriverName + "/node" }

// AddNode makes a node with its own driver, whose volumes can be used there only unless
// change says otherwise. No provisioner runs yet; the test's own driver is not used.
func (e *Env) AddNode(name string, change ...func(*demodriver.Config)) *Node {
	e.t.Helper()
	name = e.CreateNode(name)
	config := demodriver.Config{
		Name: e.DriverName, NodeID: name, NoSync: true,
		Dir:      filepath.Join(e.dir, "volumes-"+name),
		Segments: map[string]string{e.TopologyKey(): name},
	}
	for _, c := range change {
		c(&config)
	}
	server, err := driver.Start(config)
	if err != nil {
		e.t.Fatalf("starting driver %q of node %q: %v", e.DriverName, name, err)
	}
	node := &Node{env: e, Name: name, Driver: server, Faults: server.Faults}
	e.nodes = append(e.nodes, node)
	return node
}

// Nodes returns the nodes of AddNode.
func (e *Env) Nodes() []*Node { return e.nodes }

// Start starts the node's provisioner and waits until it is ready. Its delays are short;
// arguments are added after the defaults and win over them.
func (n *Node) Start(args ...string) *Provisioner {
	n.env.t.Helper()
	return n.env.start(n.vars(), append(n.args(), args...))
}

// Launch is Start without waiting.
func (n *Node) Launch(args ...string) *Provisioner {
	n.env.t.Helper()
	return n.env.launch(n.vars(), append(n.args(), args...))
}

func (n *Node) vars() []string { return []string{"NODE_NAME=" + n.Name} }

func (n *Node) args() []string {
	return []string{
		"--csi-address=" + n.Driver.Socket,
		"--leader-election=false",
		"--node-deployment",
		"--node-deployment-base-delay=500ms",
		"--node-deployment-max-delay=2s",
	}
}

// drivers returns all drivers of the test.
func (e *Env) drivers() []*driver.Server {
	all := []*driver.Server{e.Driver}
	for _, node := range e.nodes {
		all = append(all, node.Driver)
	}
	return all
}
