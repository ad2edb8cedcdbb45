package csidriver

import (
	"context"
	"errors"
	"slices"
	"strings"

	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
)

// A driver must not put secrets into its errors (CSI spec, "Secrets Requirements").
// Some do nevertheless, and their errors become events, which all users of the namespace may
// read, and log lines. So what was passed to the driver as a secret is
// taken out of its answer. A part of a value, or one in another encoding, is not
// recognised; neither is a value of fewer than shortest characters, which would be found in
// words that have nothing to do with it.
const (
	shortest = 4
	hidden   = "[secret]"
)

// hider returns what takes the secrets out of a text; nil if there is nothing to hide.
func hider(secrets map[string]string) *strings.Replacer {
	var values []string
	for _, value := range secrets {
		for _, v := range []string{value, strings.TrimSpace(value)} {
			if len(v) >= shortest && !slices.Contains(values, v) {
				values = append(values, v)
			}
		}
	}
	if len(values) == 0 {
		return nil
	}
	// The longest first: one may be the beginning of another.
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, v := range values {
		pairs = append(pairs, v, hidden)
	}
	return strings.NewReplacer(pairs...)
}

// hide removes the secrets from an error. It keeps the gRPC code and drops the details.
func hide(err error, secrets map[string]string) error {
	replacer := hider(secrets)
	if err == nil || replacer == nil || replacer.Replace(err.Error()) == err.Error() {
		return err
	}
	if st, ok := status.FromError(err); ok {
		return status.Error(st.Code(), replacer.Replace(st.Message()))
	}
	return errors.New(replacer.Replace(err.Error()))
}

// hush returns a context whose logger takes the secrets out of errors: the library logs
// each answer before we see it.
func hush(ctx context.Context, secrets map[string]string) context.Context {
	replacer := hider(secrets)
	if replacer == nil {
		return ctx
	}
	logger := klog.FromContext(ctx)
	sink := logger.GetSink()
	if deep, ok := sink.(interface{ WithCallDepth(int) klog.LogSink }); ok {
		sink = deep.WithCallDepth(1) // the line that is named is that of our caller
	}
	return klog.NewContext(ctx, logger.WithSink(discreet{sink, replacer}))
}

// discreet is a sink that hides secrets in texts and errors.
type discreet struct {
	klog.LogSink
	hide *strings.Replacer
}

func (d discreet) Info(level int, msg string, pairs ...any) {
	d.LogSink.Info(level, d.hide.Replace(msg), d.all(pairs)...)
}

func (d discreet) Error(err error, msg string, pairs ...any) {
	d.LogSink.Error(d.one(err), d.hide.Replace(msg), d.all(pairs)...)
}

func (d discreet) WithValues(pairs ...any) klog.LogSink {
	return discreet{d.LogSink.WithValues(d.all(pairs)...), d.hide}
}

func (d discreet) WithName(name string) klog.LogSink {
	return discreet{d.LogSink.WithName(name), d.hide}
}

func (d discreet) all(pairs []any) []any {
	clean := slices.Clone(pairs)
	for i, value := range clean {
		switch v := value.(type) {
		case string:
			clean[i] = d.hide.Replace(v)
		case error:
			clean[i] = d.one(v)
		}
	}
	return clean
}

func (d discreet) one(err error) error {
	if err == nil {
		return nil
	}
	if clean := d.hide.Replace(err.Error()); clean != err.Error() {
		return errors.New(clean)
	}
	return err
}
