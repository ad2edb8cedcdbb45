package kit

import (
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// Attach says that a PV is attached to a node (see CreateNode for its name, but
// it need not exist) and returns the name of the VolumeAttachment. What is left
// at the end of the test is removed before the books are checked, for a volume
// that is attached is not deleted.
func (e *Env) Attach(pv, node string) string {
	e.t.Helper()
	attachment := &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{GenerateName: e.Namespace + "-"},
		Spec: storagev1.VolumeAttachmentSpec{
			Attacher: e.DriverName,
			NodeName: e.nodeName(node),
			Source:   storagev1.VolumeAttachmentSource{PersistentVolumeName: ptr.To(pv)},
		},
	}
	created, err := e.Admin.StorageV1().VolumeAttachments().Create(e.Ctx, attachment, metav1.CreateOptions{})
	if err != nil {
		e.t.Fatalf("attaching PV %q to node %q: %v", pv, attachment.Spec.NodeName, err)
	}
	e.t.Cleanup(func() {
		err := e.detach(created.Name)
		if err != nil && !apierrors.IsNotFound(err) {
			e.t.Errorf("removing VolumeAttachment %q: %v", created.Name, err)
		}
	})
	return created.Name
}

// Detach removes a VolumeAttachment.
func (e *Env) Detach(name string) {
	e.t.Helper()
	if err := e.detach(name); err != nil {
		e.t.Fatalf("removing VolumeAttachment %q: %v", name, err)
	}
}

func (e *Env) detach(name string) error {
	return e.Admin.StorageV1().VolumeAttachments().Delete(e.Ctx, name, metav1.DeleteOptions{})
}
