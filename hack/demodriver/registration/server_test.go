package registration_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver/registration"
)

// patience bounds waiting for an answer; none takes that long.
const patience = 3 * time.Minute

func TestTheKubeletIsToldOfTheDriver(t *testing.T) {
	dir, err := os.MkdirTemp("", "reg") // a socket path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "a.example-reg.sock")
	old, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false) // as a killed driver leaves it
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}

	server, err := registration.Serve(t.Context(), dir, "a.example", "/csi.sock")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	connection, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	client := registerapi.NewRegistrationClient(connection)
	info, err := client.GetInfo(ctx, &registerapi.InfoRequest{})
	if err != nil || info.GetType() != "CSIPlugin" || info.GetName() != "a.example" || info.GetEndpoint() != "/csi.sock" || len(info.GetSupportedVersions()) != 1 {
		t.Errorf("the kubelet is told %v (%v)", info, err)
	}
	for _, status := range []*registerapi.RegistrationStatus{{PluginRegistered: true}, {Error: "no"}} {
		if _, err := client.NotifyRegistrationStatus(ctx, status); err != nil {
			t.Errorf("the driver does not hear what came of it: %v", err)
		}
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("socket after the end: %v, want it gone", err)
	}
}

func TestAFolderThatIsNotThereIsNamed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	server, err := registration.Serve(t.Context(), dir, "a.example", "/csi.sock")
	if err == nil {
		t.Fatalf("the driver was announced in no folder; closed again: %v", server.Close())
	}
}
