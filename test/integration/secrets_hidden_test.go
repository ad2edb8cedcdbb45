package integration

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// echo answers with an error that has all that was passed as a secret, as drivers should
// not; after the work, so that claims are left in an unknown state.
func echo(code codes.Code) func(context.Context, any, func(context.Context) (any, error)) (any, error) {
	return func(ctx context.Context, req any, work func(context.Context) (any, error)) (any, error) {
		secrets, ok := req.(interface{ GetSecrets() map[string]string })
		if !ok {
			return nil, fmt.Errorf("%T has no secrets", req)
		}
		_, _ = work(ctx)
		return nil, status.Errorf(code, "the backend does not like %v, user=%s", secrets.GetSecrets(), secrets.GetSecrets()["user"])
	}
}

// What a Secret contains is not seen in the log, however much is logged, nor in events,
// claims and PVs; not even when the driver puts it into its errors. Everything goes
// wrong here that can: so the texts of all failures are looked at.
func TestWhatASecretContainsIsNeverShown(t *testing.T) {
	t.Parallel()
	const password, key = "correct horse battery staple", "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA7\n-----END KEY-----\n"
	content := map[string]string{"user": "svc-storage", "password": password, "key": key}
	env := secretive(t, named("credentials"))
	putSecret(t, env, "credentials", content)
	traces := traced(t, env)
	p := env.StartProvisioner(alone, "--v=10", "--enable-otel-tracing")

	// Calls that fail, in every way.
	for _, code := range []codes.Code{codes.InvalidArgument, codes.Internal, codes.Unauthenticated, codes.Aborted, codes.DeadlineExceeded} {
		env.Faults.On("CreateVolume").Next(1).Decide(echo(code))
	}
	env.Faults.On("CreateVolume").Next(1).Hang()
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	// A reply that breaks the contract, and a deletion that fails.
	env.Faults.On("DeleteVolume").Next(2).Decide(echo(codes.FailedPrecondition))
	broken := env.Faults.On("CreateVolume").When(ofClones).Next(1)
	broken.Decide(func(ctx context.Context, _ any, work func(context.Context) (any, error)) (any, error) {
		resp, err := work(ctx)
		if created, ok := resp.(*csi.CreateVolumeResponse); ok {
			created.Volume.ContentSource = nil
		}
		return resp, err
	})
	env.Create(env.Claim("copy", kit.CloneOf("data")))
	env.WaitBound("copy")
	// A clean-up that fails, by another process.
	echoing := env.Faults.On("CreateVolume").Decide(echo(codes.Internal))
	env.Create(env.Claim("doomed"))
	env.WaitEvent("doomed", "ProvisioningFailed")
	doomedPV := "pvc-" + string(env.Get("doomed").UID)
	env.Delete("doomed")
	env.WaitEvent("doomed", "CleanUpBlocked")
	first := p.Log()
	p.Kill()
	p = env.StartProvisioner(alone, "--v=10", "--enable-otel-tracing")
	env.Eventually("the clean-up is tried by the other process", func() error {
		if !strings.Contains(p.Log(), "CreateVolume failed") {
			return fmt.Errorf("its log has no failed call")
		}
		return nil
	})
	echoing.Remove()
	env.WaitGone("doomed")
	env.WaitPVGone(doomedPV)
	pv := env.PV("data").Name
	env.Faults.On("DeleteVolume").Next(2).Decide(echo(codes.Internal))
	env.Delete("data")
	waitPVEvent(env, pv, "VolumeFailedDelete", "[secret]")
	env.WaitPVGone(pv)

	log := first + p.Log()
	shown := map[string]string{"the log": log, "what the log has as dumps": dumped(log)}
	dots := strings.NewReplacer("\n", ".")
	for _, namespace := range []string{env.Namespace, metav1.NamespaceDefault} {
		events, err := env.Admin.CoreV1().Events(namespace).List(env.Ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		shown["the events of namespace "+namespace] = encoded(t, events)
	}
	env.Eventually("the last attempt is traced", func() error {
		if len(traces.find(about("delete", "persistentvolume", pv))) == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	shown["the traces"] = traces.text()
	shown["claim copy"] = encoded(t, env.Get("copy"))
	shown["its PV"] = encoded(t, env.PV("copy"))
	for where, text := range shown {
		for name, value := range content {
			for _, form := range []string{
				value, strings.TrimSpace(value), strings.Trim(fmt.Sprintf("%q", value), `"`), base64.StdEncoding.EncodeToString([]byte(value)),
				dots.Replace(value), // as in a dump
			} {
				if strings.Contains(text, form) {
					t.Errorf("%s has the %s", where, name)
				}
			}
		}
	}
	for where, words := range map[string]string{
		// Else it would prove nothing: the messages are there, without what was hidden.
		"the log":                   `method="/csi.v1.Controller/CreateVolume" request="{\"capacity_range\"`,
		"what the log has as dumps": env.Namespace,
		"the traces":                "user=[secret]",
		"the events of namespace " + env.Namespace: "the backend does not like map[key:[secret] password:[secret] user:[secret]], user=[secret]",
	} {
		if !strings.Contains(shown[where], words) {
			t.Errorf("%s lacks %q", where, words)
		}
	}
	if !strings.Contains(shown["the log"], "user=[secret]") {
		t.Error("the log lacks the driver's errors")
	}
	for _, call := range callsFor(env, "copy") {
		if req, ok := call.Request.(*csi.CreateVolumeRequest); !ok || req.GetSecrets()["password"] != password {
			t.Errorf("the driver was called without the secrets: %v", call.Request)
		}
	}
}

// dumped puts together the characters of what the log shows in hexadecimal, as it does
// with answers of the API server.
func dumped(log string) string {
	var text strings.Builder
	for _, line := range regexp.MustCompile(`(?m)^\t?[0-9a-f]{8}  .*\|(.*)\|$`).FindAllStringSubmatch(log, -1) {
		text.WriteString(line[1])
	}
	return text.String()
}

func encoded(t *testing.T, object any) string {
	t.Helper()
	data, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
