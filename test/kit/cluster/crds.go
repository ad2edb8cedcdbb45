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

// InstallCRDs applies every CustomResourceDefinition found in a folder and
// waits until the API server serves them.
func (c *Cluster) InstallCRDs(ctx context.Context, dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(paths) == 0 {
		return errors.Join(fmt.Errorf("installing CRDs: no manifests in %q", dir), err)
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
	return c.awaitCRDs(ctx, names)
}

func (c *Cluster) installSnapshotCRDs(ctx context.Context) error {
	began := time.Now()
	if err := c.InstallCRDs(ctx, c.opts.SnapshotCRDs); err != nil {
		return err
	}
	c.opts.logf("snapshot CRDs are served after %.1f s", time.Since(began).Seconds())
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
