package secret_test

import (
	"strings"
	"testing"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/secret"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
)

const prefix = "csi.storage.k8s.io/"

// classOf takes parameters as "key=value"; a key without dot or slash in front of
// "secret" gets the reserved prefix.
func classOf(parameters ...string) *storagev1.StorageClass {
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Parameters: map[string]string{"pool": "ssd"}}
	for _, p := range parameters {
		key, value, _ := strings.Cut(p, "=")
		if !strings.HasPrefix(key, "csi") {
			key = prefix + key
		}
		class.Parameters[key] = value
	}
	return class
}

func shopData() secret.About {
	return secret.About{PV: "pvc-1", Claim: "data", Namespace: "shop", Annotations: map[string]string{"team": "blue", "example.com/a b": "odd", "empty": ""}}
}

func TestResolve(t *testing.T) {
	ref := func(namespace, name string) secret.Ref { return secret.Ref{Namespace: namespace, Name: name} }
	all := func(r secret.Ref) secret.Refs {
		return secret.Refs{Provisioner: r, ControllerPublish: r, NodeStage: r, NodePublish: r, ControllerExpand: r, NodeExpand: r, ControllerModify: r}
	}
	for _, c := range []struct {
		name       string
		parameters []string
		want       secret.Refs
	}{
		{"none", nil, secret.Refs{}},
		{"provisioner", []string{"provisioner-secret-name=n", "provisioner-secret-namespace=ns"}, secret.Refs{Provisioner: ref("ns", "n")}},
		{"controller-publish", []string{"controller-publish-secret-name=n", "controller-publish-secret-namespace=ns"}, secret.Refs{ControllerPublish: ref("ns", "n")}},
		{"node-stage", []string{"node-stage-secret-name=n", "node-stage-secret-namespace=ns"}, secret.Refs{NodeStage: ref("ns", "n")}},
		{"node-publish", []string{"node-publish-secret-name=n", "node-publish-secret-namespace=ns"}, secret.Refs{NodePublish: ref("ns", "n")}},
		{"controller-expand", []string{"controller-expand-secret-name=n", "controller-expand-secret-namespace=ns"}, secret.Refs{ControllerExpand: ref("ns", "n")}},
		{"node-expand", []string{"node-expand-secret-name=n", "node-expand-secret-namespace=ns"}, secret.Refs{NodeExpand: ref("ns", "n")}},
		{"controller-modify", []string{"controller-modify-secret-name=n", "controller-modify-secret-namespace=ns"}, secret.Refs{ControllerModify: ref("ns", "n")}},
		{"the default is for all", []string{"secret-name=n", "secret-namespace=ns"}, all(ref("ns", "n"))},
		{"own parameters beat the default", []string{"secret-name=n", "secret-namespace=ns", "provisioner-secret-name=p", "provisioner-secret-namespace=pns"},
			func() secret.Refs { r := all(ref("ns", "n")); r.Provisioner = ref("pns", "p"); return r }()},
		{"the default is looked at with each kind's tokens", []string{"secret-name=${pvc.name}-x", "secret-namespace=${pvc.namespace}"}, all(ref("shop", "data-x"))},
		{"old provisioner", []string{"csiProvisionerSecretName=n", "csiProvisionerSecretNamespace=ns"}, secret.Refs{Provisioner: ref("ns", "n")}},
		{"old controller-publish", []string{"csiControllerPublishSecretName=n", "csiControllerPublishSecretNamespace=ns"}, secret.Refs{ControllerPublish: ref("ns", "n")}},
		{"old node-stage", []string{"csiNodeStageSecretName=n", "csiNodeStageSecretNamespace=ns"}, secret.Refs{NodeStage: ref("ns", "n")}},
		{"old node-publish", []string{"csiNodePublishSecretName=n", "csiNodePublishSecretNamespace=ns"}, secret.Refs{NodePublish: ref("ns", "n")}},
		{"there was no old spelling of the others", []string{"csiNodeExpandSecretName=n", "csiNodeExpandSecretNamespace=ns"}, secret.Refs{}},
		{"a new name with an old namespace", []string{"provisioner-secret-name=n", "csiProvisionerSecretNamespace=ns"}, secret.Refs{Provisioner: ref("ns", "n")}},
		{"an old name with a new namespace", []string{"csiProvisionerSecretName=n", "provisioner-secret-namespace=ns"}, secret.Refs{Provisioner: ref("ns", "n")}},
		{"the old spelling beats the default", []string{"csiProvisionerSecretName=n", "csiProvisionerSecretNamespace=ns", "secret-name=d", "secret-namespace=dns"},
			func() secret.Refs { r := all(ref("dns", "d")); r.Provisioner = ref("ns", "n"); return r }()},
		{"tokens of a name", []string{"provisioner-secret-name=${pv.name}.${pvc.name}.${pvc.namespace}.${pvc.annotations['team']}", "provisioner-secret-namespace=ns"},
			secret.Refs{Provisioner: ref("ns", "pvc-1.data.shop.blue")}},
		{"an annotation with odd characters", []string{"provisioner-secret-name=${pvc.annotations['example.com/a b']}", "provisioner-secret-namespace=ns"},
			secret.Refs{Provisioner: ref("ns", "odd")}},
		{"an empty annotation as a part", []string{"provisioner-secret-name=a${pvc.annotations['empty']}b", "provisioner-secret-namespace=ns"},
			secret.Refs{Provisioner: ref("ns", "ab")}},
		{"tokens of a namespace", []string{"provisioner-secret-name=n", "provisioner-secret-namespace=${pv.name}-${pvc.namespace}"},
			secret.Refs{Provisioner: ref("pvc-1-shop", "n")}},
		{"a token twice", []string{"provisioner-secret-name=${pvc.name}-${pvc.name}", "provisioner-secret-namespace=ns"}, secret.Refs{Provisioner: ref("ns", "data-data")}},
		{"braces without a token are dropped, as os.Expand does", []string{"provisioner-secret-name=a${}b", "provisioner-secret-namespace=ns"}, secret.Refs{Provisioner: ref("ns", "ab")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, v := secret.Resolve(classOf(c.parameters...), shopData())
			if got != c.want || !v.Ready() {
				t.Errorf("got %+v, %s\nwant %+v", got, v.Message, c.want)
			}
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	const class, claim = verdict.InvalidClass, verdict.SecretNameInvalid
	const forNames, forNamespaces = "pv.name, pvc.name, pvc.namespace, pvc.annotations['KEY']", "pv.name, pvc.namespace"
	unknown := func(key, tokens, known string) string {
		return `parameter "` + prefix + key + `" of StorageClass "fast" has the unknown token ` + tokens + `; known there are ` + known
	}
	for _, c := range []struct {
		name       string
		parameters []string
		reason     verdict.Reason
		message    string
	}{
		{"a name without a namespace", []string{"node-stage-secret-name=n"}, class,
			`StorageClass "fast" has parameter "csi.storage.k8s.io/node-stage-secret-name" without "csi.storage.k8s.io/node-stage-secret-namespace"; the node-stage secret needs both, or none`},
		{"a namespace without a name", []string{"csiProvisionerSecretNamespace=ns"}, class,
			`StorageClass "fast" has parameter "csiProvisionerSecretNamespace" without "csi.storage.k8s.io/provisioner-secret-name"; the provisioner secret needs both, or none`},
		{"half a default", []string{"secret-name=n"}, class,
			`StorageClass "fast" has parameter "csi.storage.k8s.io/secret-name" without "csi.storage.k8s.io/secret-namespace"; the default secret needs both, or none`},
		{"half of it is not completed by the default", []string{"provisioner-secret-name=n", "secret-name=d", "secret-namespace=dns"}, class,
			`StorageClass "fast" has parameter "csi.storage.k8s.io/provisioner-secret-name" without "csi.storage.k8s.io/provisioner-secret-namespace"; the provisioner secret needs both, or none`},
		{"an empty name", []string{"provisioner-secret-name=", "provisioner-secret-namespace=ns"}, class,
			`parameter "csi.storage.k8s.io/provisioner-secret-name" of StorageClass "fast" is empty; give a value, or remove the parameters of the provisioner secret`},
		{"an empty namespace", []string{"provisioner-secret-name=n", "provisioner-secret-namespace="}, class,
			`parameter "csi.storage.k8s.io/provisioner-secret-namespace" of StorageClass "fast" is empty; give a value, or remove the parameters of the provisioner secret`},
		{"both empty is not none", []string{"node-expand-secret-name=", "node-expand-secret-namespace="}, class,
			`parameter "csi.storage.k8s.io/node-expand-secret-name" of StorageClass "fast" is empty; give a value, or remove the parameters of the node-expand secret`},
		{"both spellings of the name", []string{"provisioner-secret-name=n", "csiProvisionerSecretName=n", "provisioner-secret-namespace=ns"}, class,
			`StorageClass "fast" has both parameters "csi.storage.k8s.io/provisioner-secret-name" and "csiProvisionerSecretName"; remove the second, which is the old spelling`},
		{"both spellings of the namespace", []string{"node-publish-secret-name=n", "csiNodePublishSecretNamespace=ns", "node-publish-secret-namespace=ns"}, class,
			`StorageClass "fast" has both parameters "csi.storage.k8s.io/node-publish-secret-namespace" and "csiNodePublishSecretNamespace"; remove the second, which is the old spelling`},
		{"an unknown token", []string{"provisioner-secret-name=${pvc.uid}", "provisioner-secret-namespace=ns"}, class,
			unknown("provisioner-secret-name", `"pvc.uid"`, forNames)},
		{"several of them, each once", []string{"provisioner-secret-name=${x}${b}${x}", "provisioner-secret-namespace=ns"}, class,
			unknown("provisioner-secret-name", `"b", "x"`, forNames)},
		{"tokens may do without braces, but not these", []string{"provisioner-secret-name=$pvc.name", "provisioner-secret-namespace=ns"}, class,
			unknown("provisioner-secret-name", `"pvc"`, forNames)},
		{"an annotation in other quotes", []string{`provisioner-secret-name=${pvc.annotations["team"]}`, "provisioner-secret-namespace=ns"}, class,
			unknown("provisioner-secret-name", `"pvc.annotations[\"team\"]"`, forNames)},
		{"the claim's name in a namespace", []string{"provisioner-secret-name=n", "provisioner-secret-namespace=${pvc.name}"}, class,
			unknown("provisioner-secret-namespace", `"pvc.name"`, forNamespaces)},
		{"an annotation in a namespace", []string{"provisioner-secret-name=n", "provisioner-secret-namespace=${pvc.annotations['team']}"}, class,
			unknown("provisioner-secret-namespace", `"pvc.annotations['team']"`, forNamespaces)},
		{"an annotation that the claim does not have", []string{"provisioner-secret-name=${pvc.annotations['crew']}", "provisioner-secret-namespace=ns"}, claim,
			`parameter "csi.storage.k8s.io/provisioner-secret-name" of StorageClass "fast" names a Secret by annotation "crew", which the claim does not have; annotate the claim`},
		{"a name that no Secret can have", []string{"provisioner-secret-name=Big_One", "provisioner-secret-namespace=ns"}, class,
			`parameter "csi.storage.k8s.io/provisioner-secret-name" of StorageClass "fast" is "Big_One", which no Secret can have: a lowercase RFC 1123 subdomain`},
		{"a namespace that there cannot be", []string{"provisioner-secret-name=n", "provisioner-secret-namespace=a.b"}, class,
			`parameter "csi.storage.k8s.io/provisioner-secret-namespace" of StorageClass "fast" is "a.b", which no Secret can have: `},
		{"a name that becomes one", []string{"provisioner-secret-name=-${pvc.name}", "provisioner-secret-namespace=ns"}, claim,
			`parameter "csi.storage.k8s.io/provisioner-secret-name" of StorageClass "fast", "-${pvc.name}", makes "-data" for this claim, which no Secret can have: `},
		{"a name that becomes empty", []string{"provisioner-secret-name=${pvc.annotations['empty']}", "provisioner-secret-namespace=ns"}, claim,
			`parameter "csi.storage.k8s.io/provisioner-secret-name" of StorageClass "fast", "${pvc.annotations['empty']}", makes "" for this claim`},
		{"a dollar alone", []string{"provisioner-secret-name=a$", "provisioner-secret-namespace=ns"}, class,
			`parameter "csi.storage.k8s.io/provisioner-secret-name" of StorageClass "fast" is "a$", which no Secret can have: `},
		{"the provisioner's comes first", []string{"node-stage-secret-name=n", "provisioner-secret-name=n"}, class,
			`StorageClass "fast" has parameter "csi.storage.k8s.io/provisioner-secret-name" without`},
		{"any kind is looked at", []string{"controller-modify-secret-name=${x}", "controller-modify-secret-namespace=ns"}, class,
			unknown("controller-modify-secret-name", `"x"`, forNames)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, v := secret.Resolve(classOf(c.parameters...), shopData())
			if v.Kind != verdict.Refuse || v.Reason != c.reason || !strings.HasPrefix(v.Message, c.message) {
				t.Errorf("got %s %s %q\nwant %s %q", v.Kind, v.Reason, v.Message, c.reason, c.message)
			}
			if got != (secret.Refs{}) {
				t.Errorf("refused with %+v", got)
			}
		})
	}
}

func TestKnownAndDeprecated(t *testing.T) {
	for key, want := range map[string]bool{
		prefix + "secret-name": true, prefix + "secret-namespace": true, prefix + "controller-modify-secret-namespace": true,
		prefix + "node-unstage-secret-name": false, prefix + "-secret-name": false, "secret-name": false, "csiProvisionerSecretName": false,
	} {
		if got := secret.Known(key); got != want {
			t.Errorf("Known(%q) is %t", key, got)
		}
	}
	got := strings.Join(secret.Deprecated(classOf("csiNodeStageSecretName=x", "csiNodePublishSecretNamespace=x", "secret-name=x").Parameters), ",")
	if got != "csiNodePublishSecretNamespace,csiNodeStageSecretName" {
		t.Errorf("deprecated are %s", got)
	}
}

func TestCouldBe(t *testing.T) {
	byTeam := []string{"provisioner-secret-name=${pvc.name}-${pvc.annotations['team']}.s", "provisioner-secret-namespace=${pvc.namespace}"}
	for _, c := range []struct {
		name, ref  string
		parameters []string
		want       bool
	}{
		{"the one of today", "shop/data-blue.s", byTeam, true},
		{"that of another annotation", "shop/data-red.s", byTeam, true},
		{"one in another namespace", "bank/data-red.s", byTeam, false},
		{"one of another claim", "shop/other-red.s", byTeam, false},
		{"a dot is a dot", "shop/data-redxs", byTeam, false},
		{"more behind it", "shop/data-red.s2", byTeam, false},
		{"none", "", byTeam, false},
		{"nonsense", "data-blue.s", byTeam, false},
		{"a fixed one", "ns/n", []string{"secret-name=n", "secret-namespace=ns"}, true},
		{"not the fixed one", "ns/m", []string{"secret-name=n", "secret-namespace=ns"}, false},
		{"a class without", "ns/n", nil, false},
		{"a class that is wrong", "ns/n", []string{"secret-name=n"}, false},
		{"a class with an unknown token", "ns/n", []string{"secret-name=${x}n", "secret-namespace=ns"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := secret.CouldBe(secret.Parse(c.ref), classOf(c.parameters...), shopData()); got != c.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]secret.Ref{
		"ns/n.a": {Namespace: "ns", Name: "n.a"}, "": {}, "n": {}, "/n": {}, "ns/": {}, "a.b/n": {}, "ns/n/x": {}, "ns/N": {},
	} {
		if got := secret.Parse(text); got != want {
			t.Errorf("Parse(%q) is %+v", text, got)
		}
		if !want.IsZero() && want.String() != text {
			t.Errorf("String is %q, want %q", want, text)
		}
	}
}
