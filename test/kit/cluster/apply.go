package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
)

// fieldManager is who the applied fields belong to.
const fieldManager = "development-cluster"

// ApplyFile applies the manifests of a file; see Apply.
func (c *Cluster) ApplyFile(ctx context.Context, path string) error {
	manifests, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading manifests: %w", err)
	}
	if err := c.Apply(ctx, manifests); err != nil {
		return fmt.Errorf("applying %s: %w", path, err)
	}
	return nil
}

// Apply creates or changes the objects of a YAML stream by server-side apply,
// in their order. Objects without a namespace go to namespace default. It stops
// at the first that is refused.
func (c *Cluster) Apply(ctx context.Context, manifests []byte) error {
	objects, err := decode(manifests)
	if err != nil {
		return err
	}
	a, err := c.newApplier()
	if err != nil {
		return err
	}
	for _, object := range objects {
		if err := a.apply(ctx, object); err != nil {
			return fmt.Errorf("applying %s %q: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return nil
}

// Check has the API server judge the objects of a YAML stream as if they were
// applied, and keeps nothing. Unknown and doubled fields are errors, too. All
// objects are judged; the namespaces that they name must exist.
func (c *Cluster) Check(ctx context.Context, manifests []byte) error {
	objects, err := decode(manifests)
	if err != nil {
		return err
	}
	if len(objects) == 0 {
		return errors.New("there are no objects to check")
	}
	a, err := c.newApplier()
	if err != nil {
		return err
	}
	var wrong []error
	for _, object := range objects {
		if err := a.check(ctx, object); err != nil {
			wrong = append(wrong, fmt.Errorf("%s %q: %w", object.GetKind(), object.GetName(), err))
		}
	}
	return errors.Join(wrong...)
}

// applier finds out under which path objects of a kind live.
type applier struct {
	client dynamic.Interface
	mapper meta.RESTMapper
}

func (c *Cluster) newApplier() (*applier, error) {
	finder, err := discovery.NewDiscoveryClientForConfig(c.AdminConfig())
	if err != nil {
		return nil, fmt.Errorf("making a discovery client: %w", err)
	}
	groups, err := restmapper.GetAPIGroupResources(finder)
	if err != nil {
		return nil, fmt.Errorf("asking which kinds the API server knows: %w", err)
	}
	client, err := dynamic.NewForConfig(c.AdminConfig())
	if err != nil {
		return nil, fmt.Errorf("making a dynamic client: %w", err)
	}
	return &applier{client: client, mapper: restmapper.NewDiscoveryRESTMapper(groups)}, nil
}

// resource returns where the object is to be.
func (a *applier) resource(object *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := object.GroupVersionKind()
	mapping, err := a.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		return a.client.Resource(mapping.Resource), nil
	}
	namespace := object.GetNamespace()
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	return a.client.Resource(mapping.Resource).Namespace(namespace), nil
}

func (a *applier) apply(ctx context.Context, object *unstructured.Unstructured) error {
	resource, err := a.resource(object)
	if err != nil {
		return err
	}
	_, err = resource.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	return err
}

func (a *applier) check(ctx context.Context, object *unstructured.Unstructured) error {
	resource, err := a.resource(object)
	if err != nil {
		return err
	}
	content, err := object.MarshalJSON()
	if err != nil {
		return err
	}
	force := true
	_, err = resource.Patch(ctx, object.GetName(), types.ApplyPatchType, content, metav1.PatchOptions{
		FieldManager: fieldManager, Force: &force,
		DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict,
	})
	return err
}

// decode splits a YAML stream into objects; empty documents are left out.
func decode(manifests []byte) ([]*unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	var objects []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("decoding manifests, document %d: %w", len(objects)+1, err)
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}
