package integration

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// imageRoot returns the root of the image's file system, and the bytes of what is in it.
// That is IMAGE_ROOT, where hack/image-check.sh has built the image; else it is put
// together as the last stage of the Dockerfile says.
func imageRoot(t *testing.T, env *kit.Env) (string, int64) {
	t.Helper()
	root, size := os.Getenv("IMAGE_ROOT"), int64(0)
	if root == "" {
		root, size = assembledRoot(t, env)
	} else {
		size = builtRoot(t, root)
	}
	// kubelet would make the places where volumes are mounted.
	for _, dir := range []string{"csi", "config"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root, size
}

// builtRoot looks at a root that was built.
func builtRoot(t *testing.T, root string) (size int64) {
	t.Helper()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, entry.Name())
		if info.Mode().IsRegular() {
			size += info.Size()
		}
	}
	if want := []string{"LICENSE", "csi-clone-provisioner", "csi-provisioner"}; !slices.Equal(names, want) {
		t.Errorf("the image has %q, not %q", names, want)
	}
	return size
}

// assembledRoot makes what the last stage of the Dockerfile makes.
func assembledRoot(t *testing.T, env *kit.Env) (string, int64) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	stages := strings.Split(string(text), "\nFROM ")
	last := stages[len(stages)-1]
	copies := regexp.MustCompile(`(?m)^COPY .*$`).FindAllString(last, -1)
	want := []string{"COPY LICENSE /LICENSE", "COPY --from=build /out/ /"}
	if !strings.HasPrefix(last, "scratch\n") || !slices.Equal(copies, want) {
		t.Fatalf("the Dockerfile's last stage copies %q to %q, this test assembles %q", copies, strings.Split(last, "\n")[0], want)
	}
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	size := copyFile(t, filepath.Join(root, "LICENSE"), filepath.Join("..", "..", "LICENSE"), 0o644) +
		copyFile(t, filepath.Join(root, "csi-clone-provisioner"), env.Binary(), 0o755)
	if err := os.Symlink("csi-clone-provisioner", filepath.Join(root, "csi-provisioner")); err != nil {
		t.Fatal(err)
	}
	return root, size
}

func copyFile(t *testing.T, to, from string, mode os.FileMode) int64 {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode)
	if err != nil {
		t.Fatal(err)
	}
	size, err := io.Copy(out, in)
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return size
}

// asContainer is what stands between the kit and the provisioner: a mount namespace in
// which the image's root is read-only, with driver's socket and kubeconfig mounted.
// The user has no capabilities, for only root's survive the change.
const asContainer = `#!/bin/sh
exec unshare --mount --propagation private sh -eu -c '
  mount --bind %[1]q %[1]q
  mount --bind %[2]q %[1]q/csi
  mount --bind -o ro %[3]q %[1]q/config
  mount -o remount,bind,ro %[1]q
  exec chroot --userspec=65532:65532 --groups= %[1]q /csi-provisioner "$@"
' sh "$@"
`

// TestTheImageRunsReadOnlyAndWithoutRoot runs what the image holds as the manifests
// say: as somebody, on a root that cannot be written to, without a shell or a library.
func TestTheImageRunsReadOnlyAndWithoutRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may mount")
	}
	if out, err := exec.CommandContext(t.Context(), "unshare", "--mount", "true").CombinedOutput(); err != nil {
		t.Skipf("mount namespaces cannot be made here: %v: %s", err, out)
	}
	env := kit.New(t)
	root, size := imageRoot(t, env)
	t.Logf("the image holds %d bytes (%.1f MiB)", size, float64(size)/(1<<20))

	// The driver and the provisioner are one user in the manifests.
	sockets, config := filepath.Dir(env.Driver.Socket), filepath.Join(t.TempDir(), "config")
	if err := os.Mkdir(config, 0o755); err != nil {
		t.Fatal(err)
	}
	copyFile(t, filepath.Join(config, "kubeconfig"), env.Kubeconfig(), 0o444)
	for path, mode := range map[string]os.FileMode{sockets: 0o755, env.Driver.Socket: 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	script := filepath.Join(t.TempDir(), "container")
	if err := os.WriteFile(script, fmt.Appendf(nil, asContainer, root, sockets, config), 0o755); err != nil {
		t.Fatal(err)
	}
	p := env.StartWith(script, "--kubeconfig=/config/kubeconfig", "--csi-address=/csi/"+filepath.Base(env.Driver.Socket))
	p.Page("/healthz")
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	env.Create(env.Claim("copy", kit.CloneOf("src")))
	env.WaitBound("copy")

	proc := fmt.Sprintf("/proc/%d/", p.PID())
	read := func(name string) string {
		content, err := os.ReadFile(proc + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	status := strings.Join(strings.Fields(read("status")), " ")
	for _, want := range []string{"Uid: 65532 65532 65532 65532", "Gid: 65532 65532 65532 65532", "CapPrm: 0000000000000000", "CapEff: 0000000000000000"} {
		if !strings.Contains(status, want) {
			t.Errorf("its status lacks %q: %s", want, status)
		}
	}
	if !regexp.MustCompile(`(?m)^\d+ \d+ \S+ \S+ / ro[, ]`).MatchString(read("mountinfo")) {
		t.Errorf("its root can be written to:\n%s", read("mountinfo"))
	}
	leave(env, "src", "copy")
}
