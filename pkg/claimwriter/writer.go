package claimwriter

import (
	"context"
	"encoding/json"
	"fmt"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
)

// Writer changes claims. Its methods may be called from several goroutines.
type Writer struct {
	// MayWrite, unless nil, is asked right before each write; after an error nothing is
	// written. Set it before the first write.
	MayWrite func() error

	client kubernetes.Interface
	// whole: claims are updated whole.
	whole bool
}

// New returns a Writer. whole says that RBAC grants update, but not patch.
func New(client kubernetes.Interface, whole bool) *Writer {
	return &Writer{client: client, whole: whole}
}

// Patch applies a strategic merge patch of metadata to the live claim and returns
// the result. The patch names the claim's uid: another claim of the same name is
// answered with Conflict. If it names a resourceVersion, so is every other version;
// if not, it holds for whatever version it meets.
func (w *Writer) Patch(ctx context.Context, claim metav1.Object, patch []byte) (*v1.PersistentVolumeClaim, error) {
	if w.MayWrite != nil {
		if err := w.MayWrite(); err != nil {
			return nil, fmt.Errorf("changing claim %s/%s: %w", claim.GetNamespace(), claim.GetName(), err)
		}
	}
	if !w.whole {
		return w.client.CoreV1().PersistentVolumeClaims(claim.GetNamespace()).
			Patch(ctx, claim.GetName(), types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	}
	p, err := parse(patch)
	if err != nil {
		return nil, err
	}
	if p.Metadata.ResourceVersion != "" {
		return w.update(ctx, claim, p, patch)
	}
	var after *v1.PersistentVolumeClaim
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		after, err = w.update(ctx, claim, p, patch)
		return err
	})
	return after, err
}

// preconditions are the parts of a patch that the live claim must have.
type preconditions struct {
	Metadata struct {
		UID             types.UID `json:"uid"`
		ResourceVersion string    `json:"resourceVersion"`
	} `json:"metadata"`
}

func parse(patch []byte) (preconditions, error) {
	var p preconditions
	if err := json.Unmarshal(patch, &p); err != nil {
		return p, fmt.Errorf("reading a patch of ours: %w", err)
	}
	return p, nil
}

// update reads the live claim, applies the patch, and writes it all back. The
// version that was read goes along, so that nobody's change is overwritten.
func (w *Writer) update(ctx context.Context, claim metav1.Object, want preconditions, patch []byte) (*v1.PersistentVolumeClaim, error) {
	raw, err := w.client.CoreV1().RESTClient().Get().
		Namespace(claim.GetNamespace()).Resource("persistentvolumeclaims").Name(claim.GetName()).
		SetHeader("Accept", "application/json").Do(ctx).Raw()
	if err != nil {
		return nil, err
	}
	live, err := parse(raw)
	if err != nil {
		return nil, err
	}
	if live.Metadata.UID != want.Metadata.UID {
		return nil, conflict(claim, fmt.Errorf("its uid is %s, not %s: it is another claim of the same name", live.Metadata.UID, want.Metadata.UID))
	}
	if version := want.Metadata.ResourceVersion; version != "" && version != live.Metadata.ResourceVersion {
		return nil, conflict(claim, fmt.Errorf("its version is %s, not %s", live.Metadata.ResourceVersion, version))
	}
	changed, err := strategicpatch.StrategicMergePatch(raw, patch, v1.PersistentVolumeClaim{})
	if err != nil {
		return nil, fmt.Errorf("changing claim %s/%s: %w", claim.GetNamespace(), claim.GetName(), err)
	}
	after := &v1.PersistentVolumeClaim{}
	err = w.client.CoreV1().RESTClient().Put().
		Namespace(claim.GetNamespace()).Resource("persistentvolumeclaims").Name(claim.GetName()).
		SetHeader("Content-Type", "application/json").Body(changed).Do(ctx).Into(after)
	return after, err
}

func conflict(claim metav1.Object, err error) error {
	return apierrors.NewConflict(v1.Resource("persistentvolumeclaims"), claim.GetName(), err)
}
