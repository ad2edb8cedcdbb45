package main

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// patience bounds waiting for what must happen; nothing takes that long.
const patience = 3 * time.Minute

func TestTheProgramServesUntilItIsTold(t *testing.T) {
	dir, err := os.MkdirTemp("", "demo") // a socket path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	leaveSocket(t, socket)

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"--endpoint=unix://" + socket, "--dir=" + filepath.Join(dir, "d"), "--driver-name=a.example"})
	}()
	if got := pluginName(t, socket); got != "a.example" {
		t.Errorf("driver name is %q, want a.example", got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("socket after the end: %v, want it gone", err)
	}
}

// leaveSocket makes a socket that nobody serves, as a killed process does.
func leaveSocket(t *testing.T, path string) {
	t.Helper()
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
}

func pluginName(t *testing.T, socket string) string {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	info, err := csi.NewIdentityClient(conn).GetPluginInfo(ctx, &csi.GetPluginInfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	return info.GetName()
}

func TestAFileAtTheSocketPathIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(path, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if listener, err := listen(path); err == nil {
		_ = listener.Close()
		t.Fatal("listening worked, want an error")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "data" {
		t.Fatalf("file has %q (%v), want it untouched", data, err)
	}
}

func TestTheCommandLine(t *testing.T) {
	cases := []struct {
		name     string
		args     []string
		segments map[string]string
		err      string
	}{
		{
			name: "socket and directory are enough",
			args: []string{"--endpoint=unix:///s", "--dir=/d"},
		},
		{
			name:     "topology is a list of pairs",
			args:     []string{"--endpoint=unix:///s", "--dir=/d", "--topology=a=1,b=2"},
			segments: map[string]string{"a": "1", "b": "2"},
		},
		{
			name: "without a directory there is nowhere to put volumes",
			args: []string{"--endpoint=unix:///s"},
			err:  "--dir is missing; give the directory to keep volumes in",
		},
		{
			name: "the endpoint is an absolute path",
			args: []string{"--endpoint=tcp://1.2.3.4:5", "--dir=/d"},
			err:  `--endpoint is "tcp://1.2.3.4:5"; give an absolute socket path as unix:///path`,
		},
		{
			name: "a topology without value is refused",
			args: []string{"--endpoint=unix:///s", "--dir=/d", "--topology=a"},
			err:  `--topology has "a"; give key=value pairs with commas between`,
		},
		{
			name: "arguments that are no flags are refused",
			args: []string{"--endpoint=unix:///s", "--dir=/d", "more"},
			err:  `unexpected argument "more"; only flags are understood, see --help`,
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			o, err := parse(tc.args)
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != tc.err {
				t.Fatalf("got  %s\nwant %s", text, tc.err)
			}
			if err == nil && !maps.Equal(o.config.Segments, tc.segments) {
				t.Fatalf("segments are %v, want %v", o.config.Segments, tc.segments)
			}
		})
	}
}
