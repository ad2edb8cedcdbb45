package integration

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/cluster"
)

// yamlBlock finds the manifests of a page.
var yamlBlock = regexp.MustCompile("(?s)\n```yaml\n(.*?\n)```\n")

// manifestsOf returns the manifests of a page, in their order.
func manifestsOf(t *testing.T, page string) [][]byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", page))
	if err != nil {
		t.Fatal(err)
	}
	var manifests [][]byte
	for _, match := range yamlBlock.FindAllSubmatch(text, -1) {
		manifests = append(manifests, match[1])
	}
	if blocks := bytes.Count(text, []byte("```yaml")); blocks == 0 || blocks != len(manifests) {
		t.Fatalf("%d of %d manifests were found in %s: the test would prove nothing", len(manifests), blocks, page)
	}
	return manifests
}

// claimsIn returns the claims among manifests, as "namespace/name".
func claimsIn(t *testing.T, manifests []byte) []string {
	t.Helper()
	var claims []string
	for document := range bytes.SplitSeq(manifests, []byte("\n---\n")) {
		var object metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(document, &object); err != nil {
			t.Fatal(err)
		}
		if object.Kind == "PersistentVolumeClaim" {
			claims = append(claims, object.Namespace+"/"+object.Name)
		}
	}
	return claims
}

// grantsDefinition stands for the Gateway API's: what a ReferenceGrant must and may
// hold.
const grantsDefinition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: referencegrants.gateway.networking.k8s.io
  annotations:
    api-approved.kubernetes.io: unapproved, for tests
spec:
  group: gateway.networking.k8s.io
  names: {kind: ReferenceGrant, listKind: ReferenceGrantList, plural: referencegrants, singular: referencegrant}
  scope: Namespaced
  versions:
    - name: v1beta1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          required: [spec]
          properties:
            spec:
              type: object
              required: [from, to]
              properties:
                from:
                  type: array
                  minItems: 1
                  items:
                    type: object
                    required: [group, kind, namespace]
                    properties: {group: {type: string}, kind: {type: string}, namespace: {type: string}}
                to:
                  type: array
                  minItems: 1
                  items:
                    type: object
                    required: [group, kind]
                    properties: {group: {type: string}, kind: {type: string}, name: {type: string}}
`

// TestDocsManifests does what the page for users says: every manifest of it is
// accepted, and every claim gets its volume.
func TestDocsManifests(t *testing.T) {
	t.Parallel()
	const gate = "--feature-gates=CrossNamespaceVolumeDataSource=true"
	// The page has namespaces and a default class of its own.
	world := kit.StartCluster(t, cluster.Options{APIServerArgs: []string{gate}})
	env := kit.New(t, kit.On(world))
	env.CreateClass("cloning", func(class *storagev1.StorageClass) {
		class.Annotations = map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}
	})
	apply := func(manifests []byte) {
		t.Helper()
		if err := env.Cluster.Apply(env.Ctx, manifests); err != nil {
			t.Fatalf("%v\n%s", err, manifests)
		}
	}
	apply([]byte(grantsDefinition))
	if err := env.Cluster.ApplyFile(env.Ctx, filepath.Join("..", "..", "deploy", "kubernetes", "rbac-cross-namespace.yaml")); err != nil {
		t.Fatal(err)
	}
	for _, namespace := range []string{"shop", "images", "myns"} {
		env.AddNamespace(namespace)
	}
	env.StartProvisioner(gate)

	var claims []string
	for _, manifests := range manifestsOf(t, "docs/volume-cloning.md") {
		env.Eventually("the manifests are accepted", func() error { return env.Cluster.Apply(env.Ctx, manifests) })
		claims = append(claims, claimsIn(t, manifests)...)
	}
	if len(claims) < 5 {
		t.Fatalf("only these claims were found: %v", claims)
	}
	env.WaitBound(claims...)
	sources := map[string]string{"shop/db-copy": "shop/db", "shop/disk-copy": "shop/disk", "shop/from-golden": "images/golden"}
	for clone, source := range sources {
		got := requestFor(t, env, clone).GetVolumeContentSource().GetVolume().GetVolumeId()
		compare(t, []field{{"content source of " + clone, got, env.PV(source).Spec.CSI.VolumeHandle}})
	}

	// That of the README has no source here.
	for _, manifests := range manifestsOf(t, "README.md") {
		apply(manifests)
		for _, claim := range claimsIn(t, manifests) {
			env.WaitEvent(claim, "CloneSourceNotFound")
		}
	}
	leave(env, slices.Collect(maps.Values(sources))...)
}

// TestDocsSourcesThatTheAPIServerDrops is what the page for users warns of.
func TestDocsSourcesThatTheAPIServerDrops(t *testing.T) {
	t.Parallel()
	env := kit.New(t)
	env.StartProvisioner()
	env.Create(env.Claim("src"))
	env.WaitBound("src")
	group := "v1"
	for name, option := range map[string]kit.ClaimOption{
		"a-source-in-another-namespace": kit.CloneOfIn(env.Namespace, "src"),
		"a-typing-error": func(claim *v1.PersistentVolumeClaim) {
			claim.Spec.DataSource = &v1.TypedLocalObjectReference{Kind: "PersistentVolumeclaim", Name: "src"}
		},
		"a-group": func(claim *v1.PersistentVolumeClaim) {
			claim.Spec.DataSource = &v1.TypedLocalObjectReference{APIGroup: &group, Kind: "PersistentVolumeClaim", Name: "src"}
		},
	} {
		env.Create(env.Claim(name, option))
		env.WaitBound(name)
		claim := env.Get(name)
		compare(t, []field{
			{"data source of " + name, claim.Spec.DataSource == nil && claim.Spec.DataSourceRef == nil, true},
			{"request for a blank volume for " + name, requestFor(t, env, name).GetVolumeContentSource() == nil, true},
		})
	}
}
