package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// crdKind is what a CustomResourceDefinition manifest says it is.
const crdKind = "CustomResourceDefinition"

// InstallCRDs applies every CustomResourceDefinition found in a folder, or the
// one in a file, and waits until the API server serves them. What is installed
// already stays.
func (c *Cluster) InstallCRDs(ctx context.Context, path string) error {
	paths, err := manifestsIn(path)
	if err != nil {
		return err
	}
	var names []string
	for _, path := range paths {
		manifests, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("installing CRDs: %w", err)
		}
		objects, err := decode(manifests)
		if err != nil {
			return fmt.Errorf("installing CRDs of %s: %w", path, err)
		}
		if len(objects) != 1 || objects[0].GetKind() != crdKind {
			continue
		}
		if err := c.Apply(ctx, manifests); err != nil {
			return fmt.Errorf("installing CRDs of %s: %w", path, err)
		}
		names = append(names, objects[0].GetName())
	}
	if len(names) == 0 {
		return fmt.Errorf("installing CRDs: there is none in %q", path)
	}
	return c.awaitCRDs(ctx, names)
}

// manifestsIn returns the YAML files of a folder, or the file that path is.
func manifestsIn(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("installing CRDs: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	paths, err := filepath.Glob(filepath.Join(path, "*.yaml"))
	if err != nil || len(paths) == 0 {
		return nil, errors.Join(fmt.Errorf("installing CRDs: no manifests in %q", path), err)
	}
	return paths, nil
}

// installCRDs installs the definitions that the options ask for.
func (c *Cluster) installCRDs(ctx context.Context) error {
	for _, path := range []string{c.opts.SnapshotCRDs, c.opts.ReferenceGrantCRD} {
		if path == "" {
			continue
		}
		began := time.Now()
		if err := c.InstallCRDs(ctx, path); err != nil {
			return err
		}
		c.opts.logf("the CRDs of %s are served after %.1f s", path, time.Since(began).Seconds())
	}
	return nil
}

// awaitCRDs waits until the API server serves the named definitions.
func (c *Cluster) awaitCRDs(ctx context.Context, names []string) error {
	client, err := dynamic.NewForConfig(c.AdminConfig())
	if err != nil {
		return fmt.Errorf("making a dynamic client: %w", err)
	}
	definitions := client.Resource(schema.GroupVersionResource{
		Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
	})
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for _, name := range names {
		err := poll(ctx, nil, func() error {
			definition, err := definitions.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if !established(definition) {
				return fmt.Errorf("CRD %q is not served yet", name)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("waiting for CRD %q: %w", name, err)
		}
	}
	return nil
}

// established says whether a definition has condition Established=True.
func established(definition *unstructured.Unstructured) bool {
	conditions, _, err := unstructured.NestedSlice(definition.Object, "status", "conditions")
	if err != nil {
		return false
	}
	for _, condition := range conditions {
		fields, ok := condition.(map[string]any)
		if ok && fields["type"] == "Established" && fields["status"] == "True" {
			return true
		}
	}
	return false
}
