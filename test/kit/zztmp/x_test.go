package x

import (
	"syscall"
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
)

func TestMain(m *testing.M) { kit.Main(m) }

func TestOwn(t *testing.T) {
	t.Parallel()
	w := kit.StartCluster(t, cluster.Options{AuditLog: true})
	env := kit.New(t, kit.On(w), kit.DriverName(func(id string) string { return id + ".other.example" }))
	env.StartProvisioner()
	env.Create(env.Claim("a"))
	env.WaitBound("a")
	if err := w.Cluster.RestartAPIServer(env.Ctx, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	env.Create(env.Claim("b"))
	env.WaitBound("b")
	if err := w.Cluster.RestartAPIServer(env.Ctx, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	env.Delete("a")
	env.WaitGone("a")
}

func TestShared(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.WaitForFirstConsumer())
	p := env.StartProvisioner()
	env.Create(env.Claim("a", kit.SelectedNode("n")))
	env.WaitBound("a")
	p.Kill()
	env.StartProvisioner("--v=5")
	env.Create(env.Claim("b", kit.SelectedNode("n")))
	env.WaitBound("b")
}
