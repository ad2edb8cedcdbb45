package chaos

import (
	"time"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// delayedClass is the name of the class with delayed binding.
func (w *world) delayedClass() string { return w.env.Class + "-delayed" }

// retainClass is the name of the class with the reclaim policy Retain.
func (w *world) retainClass() string { return w.env.Class + "-retain" }

// classes returns the names of all StorageClasses.
func (w *world) classes() []string {
	return []string{w.env.Class, w.delayedClass(), w.retainClass()}
}

// classOf returns the name of the StorageClass of the claims of that name.
func (w *world) classOf(n *name) string {
	switch {
	case n.delayed:
		return w.delayedClass()
	case n.retain:
		return w.retainClass()
	}
	return w.env.Class
}

// delayed gives a class delayed binding.
func delayed(class *storagev1.StorageClass) {
	class.VolumeBindingMode = ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)
}

// retaining gives a class the reclaim policy Retain.
func retaining(class *storagev1.StorageClass) {
	class.ReclaimPolicy = ptr.To(v1.PersistentVolumeReclaimRetain)
}

// dropClass deletes a StorageClass until it is made again.
func (w *world) dropClass(class string, until time.Duration) {
	if _, gone := w.dropped[class]; gone {
		return
	}
	ctx, cancel := w.request()
	defer cancel()
	err := w.env.Admin.StorageV1().StorageClasses().Delete(ctx, class, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		w.failed("delete class %s: %v", class, err)
		return
	}
	w.number.drops++
	w.dropped[class] = until
	w.say("delete class %s", class)
}

// restoreClasses makes the classes again that are due.
func (w *world) restoreClasses(now time.Duration) {
	for _, class := range w.classes() {
		if until, gone := w.dropped[class]; gone && now >= until && w.restoreClass(class) {
			delete(w.dropped, class)
		}
	}
}

func (w *world) restoreClass(name string) bool {
	class := &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: w.env.DriverName,
		ReclaimPolicy: ptr.To(v1.PersistentVolumeReclaimDelete),
	}
	switch name {
	case w.delayedClass():
		delayed(class)
	case w.retainClass():
		retaining(class)
	}
	ctx, cancel := w.request()
	defer cancel()
	_, err := w.env.Admin.StorageV1().StorageClasses().Create(ctx, class, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		w.failed("create class %s: %v", name, err)
		return false
	}
	w.say("create class %s", name)
	return true
}
