package csidriver

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
)

func TestHide(t *testing.T) {
	secrets := map[string]string{"user": "svc", "password": "open sesame", "long": "open sesame and more", "key": "PEM\nlines\n", "empty": ""}
	for _, c := range []struct {
		name      string
		err, want error
	}{
		{"no error", nil, nil},
		{"nothing to hide", status.Error(codes.Internal, "disk full"), status.Error(codes.Internal, "disk full")},
		{"a status keeps its code", status.Error(codes.Aborted, "bad password open sesame!"), status.Error(codes.Aborted, "bad password [secret]!")},
		{"the longer one is hidden as a whole", status.Error(codes.Aborted, "open sesame and more"), status.Error(codes.Aborted, "[secret]")},
		{"with or without its last line break", status.Error(codes.Aborted, "PEM\nlines"), status.Error(codes.Aborted, "[secret]")},
		{"what is short stays", status.Error(codes.Aborted, "user svc"), status.Error(codes.Aborted, "user svc")},
		{"an error that is no status", errors.New("open sesame"), errors.New("[secret]")},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := hide(c.err, secrets)
			if c.err == nil {
				if got != nil {
					t.Errorf("got %v", got)
				}
				return
			}
			if got.Error() != c.want.Error() || status.Code(got) != status.Code(c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	if err := errors.New("open sesame"); !errors.Is(hide(err, nil), err) {
		t.Error("without secrets an error changes")
	}
}

// sink collects what is logged.
type sink struct{ lines *[]string }

func (sink) Init(klog.RuntimeInfo)            {}
func (sink) Enabled(int) bool                 { return true }
func (s sink) Info(_ int, m string, p ...any) { *s.lines = append(*s.lines, text(m, p)) }
func (s sink) Error(e error, m string, p ...any) {
	*s.lines = append(*s.lines, text(m, append(p, "err", e)))
}
func (s sink) WithValues(p ...any) klog.LogSink {
	*s.lines = append(*s.lines, text("with", p))
	return s
}
func (s sink) WithName(string) klog.LogSink { return s }

func text(message string, pairs []any) string {
	for _, p := range pairs {
		switch v := p.(type) {
		case string:
			message += " " + v
		case error:
			message += " " + v.Error()
		}
	}
	return message
}

func TestHush(t *testing.T) {
	var lines []string
	ctx := klog.NewContext(t.Context(), klog.New(sink{&lines}))
	logger := klog.FromContext(hush(ctx, map[string]string{"password": "open sesame"}))
	err := errors.New("open sesame is wrong")
	logger.V(5).Info("GRPC response", "err", err, "text", "open sesame", "n", 1)
	logger.Error(err, "open sesame")
	logger.WithName("x").WithValues("k", "open sesame").Error(nil, "failed", "err", err)
	if len(lines) != 4 {
		t.Errorf("%d lines are logged: %q", len(lines), lines)
	}
	for _, line := range lines {
		if strings.Contains(line, "sesame") || !strings.Contains(line, hidden) {
			t.Errorf("logged: %s", line)
		}
	}
	if same := hush(ctx, nil); same != ctx {
		t.Error("without secrets there is nothing to hide")
	}
}
