package process_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
)

func TestWaitingEndsWithTheConditionTheProcessOrTheContext(t *testing.T) {
	group := process.NewGroup()
	t.Cleanup(func() {
		if err := group.Stop(); err != nil {
			t.Error(err)
		}
	})
	shell := func(name, script string) *process.Process {
		p, err := group.Start(process.Spec{Name: name, Path: "/bin/sh", Args: []string{"-c", script}, Log: filepath.Join(t.TempDir(), "log")})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	tries := 0
	err := process.Await(t.Context(), nil, "it is the third try", func(context.Context) error {
		if tries++; tries < 3 {
			return errors.New("it is not")
		}
		return nil
	})
	if err != nil || tries != 3 {
		t.Errorf("after %d tries: %v", tries, err)
	}
	never := func(context.Context) error { return errors.New("not yet") }
	err = process.Await(t.Context(), shell("short", "echo last words; exit 7"), "it serves", never)
	if err == nil || !strings.Contains(err.Error(), "waiting until it serves: short ended (exit status 7)") || !strings.Contains(err.Error(), "last words") {
		t.Errorf("error is %v, want one that names the process, its end and its last words", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = process.Await(ctx, shell("long", "exec sleep 1000000"), "it serves", never)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "not yet") || !strings.Contains(err.Error(), "long") {
		t.Errorf("error is %v, want one that says what the condition said last", err)
	}
}

func TestAPageThatAnswers(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	if err := process.Answers(t.Context(), server.URL); err != nil {
		t.Errorf("200 is no answer: %v", err)
	}
	status = http.StatusServiceUnavailable
	if err := process.Answers(t.Context(), server.URL); err == nil || !strings.Contains(err.Error(), "503 Service Unavailable") {
		t.Errorf("503 is told as %v", err)
	}
	http.DefaultClient.CloseIdleConnections()
	server.Close()
	if err := process.Answers(t.Context(), server.URL); err == nil {
		t.Error("nobody answers")
	}
}
