package repo

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	// modulePath is the first line of the go.mod at the root of the repository.
	modulePath = "module github.com/csi-clone-provisioner/csi-clone-provisioner\n"
	// binaryVariable names another provisioner to test.
	binaryVariable = "CSI_CLONE_PROVISIONER_BINARY"
)

// Root returns the folder of the repository this process runs in.
func Root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("looking for the repository: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		content, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(content), modulePath) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("looking for the repository: no go.mod of this module in %s or above", start)
		}
	}
}

// ControlPlane returns the folder of the compiled control plane. It does not
// look whether everything is in there; the cluster package does.
func ControlPlane(root string) (string, error) {
	return output(root, filepath.Join(root, "hack", "control-plane.sh"), "--path")
}

// Node returns the folder of the compiled node. It does not look whether everything is in
// there; the node package does.
func Node(root string) (string, error) {
	return output(root, filepath.Join(root, "hack", "node.sh"), "--path")
}

// SnapshotCRDs returns the folder with the manifests of the VolumeSnapshot CRDs,
// of the very version the snapshot controller was built from.
func SnapshotCRDs(root string) (string, error) {
	dir, err := output(filepath.Join(root, "hack", "snapshotter"),
		"go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", "github.com/kubernetes-csi/external-snapshotter/client/v8")
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "config", "crd"), nil
}

// ReferenceGrantCRD returns the manifest of the ReferenceGrant CRD.
func ReferenceGrantCRD(root string) (string, error) {
	const module = "sigs.k8s.io/gateway-api"
	dir, err := output(filepath.Join(root, "hack", "gatewayapi"),
		"go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		return "", err
	}
	if dir == "" {
		return "", fmt.Errorf("module %s is not in Go's cache; run `make control-plane`", module)
	}
	return filepath.Join(dir, "config", "crd", "standard", "gateway.networking.k8s.io_referencegrants.yaml"), nil
}

// Provisioner returns the program under test: bin/csi-clone-provisioner, or
// what CSI_CLONE_PROVISIONER_BINARY names.
func Provisioner(root string) (string, error) {
	path := os.Getenv(binaryVariable)
	if path == "" {
		path = filepath.Join(root, "bin", "csi-clone-provisioner")
	}
	info, err := os.Stat(path)
	if err != nil || info.IsDir() {
		return "", fmt.Errorf("no provisioner at %s; run `make build`, or name one in %s", path, binaryVariable)
	}
	return path, nil
}

// output runs a command in a folder and returns what it prints.
func output(dir, program string, args ...string) (string, error) {
	var stderr bytes.Buffer
	command := exec.Command(program, args...)
	command.Dir = dir
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("running %s %s: %w\n%s", program, strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}
