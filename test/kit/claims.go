package kit

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// ClaimOption changes a claim before it is created.
type ClaimOption func(*v1.PersistentVolumeClaim)

// Claim returns a claim of the test's class and namespace: 1Gi, ReadWriteOnce,
// with a file system. It is not created.
func (e *Env) Claim(name string, options ...ClaimOption) *v1.PersistentVolumeClaim {
	claim := &v1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: e.Namespace},
		Spec: v1.PersistentVolumeClaimSpec{
			StorageClassName: ptr.To(e.Class),
			AccessModes:      []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
			Resources: v1.VolumeResourceRequirements{
				Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")},
			},
		},
	}
	for _, option := range options {
		option(claim)
	}
	return claim
}

// Size sets the requested size; "" asks for none.
func Size(size string) ClaimOption {
	return func(claim *v1.PersistentVolumeClaim) {
		claim.Spec.Resources.Requests = nil
		if size != "" {
			claim.Spec.Resources.Requests = v1.ResourceList{v1.ResourceStorage: resource.MustParse(size)}
		}
	}
}

// CloneOf makes the claim a clone of another in its namespace.
func CloneOf(source string) ClaimOption {
	return func(claim *v1.PersistentVolumeClaim) {
		claim.Spec.DataSource = &v1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: source}
	}
}

// Ref is CloneOf through spec.dataSourceRef instead of spec.dataSource.
func Ref(source string) ClaimOption {
	return DataSourceRef(v1.TypedObjectReference{Kind: "PersistentVolumeClaim", Name: source})
}

// CloneOfIn makes the claim a clone of one in another namespace.
func CloneOfIn(namespace, source string) ClaimOption {
	return DataSourceRef(v1.TypedObjectReference{
		Kind: "PersistentVolumeClaim", Name: source, Namespace: &namespace,
	})
}

// RestoreOf fills the claim from a VolumeSnapshot in its namespace.
func RestoreOf(snapshot string) ClaimOption {
	return DataSourceRef(v1.TypedObjectReference{
		APIGroup: ptr.To("snapshot.storage.k8s.io"), Kind: "VolumeSnapshot", Name: snapshot,
	})
}

// DataSourceRef sets any data source.
func DataSourceRef(ref v1.TypedObjectReference) ClaimOption {
	return func(claim *v1.PersistentVolumeClaim) { claim.Spec.DataSourceRef = &ref }
}

// Block asks for a block device.
func Block() ClaimOption {
	return func(claim *v1.PersistentVolumeClaim) {
		claim.Spec.VolumeMode = ptr.To(v1.PersistentVolumeBlock)
	}
}

// Class names another StorageClass.
func Class(name string) ClaimOption {
	return func(claim *v1.PersistentVolumeClaim) { claim.Spec.StorageClassName = &name }
}

// NoClass leaves the class out, for the cluster's default to be filled in.
func NoClass() ClaimOption {
	return func(claim *v1.PersistentVolumeClaim) { claim.Spec.StorageClassName = nil }
}

// BetaClass names the StorageClass by the annotation that came before the field,
// and which is still honoured.
func BetaClass(name string) ClaimOption {
	return func(claim *v1.PersistentVolumeClaim) {
		NoClass()(claim)
		Annotation(v1.BetaStorageClassAnnotation, name)(claim)
	}
}

// Modes sets the access modes.
func Modes(modes ...v1.PersistentVolumeAccessMode) ClaimOption {
	return func(claim *v1.PersistentVolumeClaim) { claim.Spec.AccessModes = modes }
}

// InNamespace puts the claim into another namespace; see Env.AddNamespace.
func InNamespace(namespace string) ClaimOption {
	return func(claim *v1.PersistentVolumeClaim) { claim.Namespace = namespace }
}

// Annotation adds an annotation.
func Annotation(key, value string) ClaimOption {
	return func(claim *v1.PersistentVolumeClaim) {
		metav1.SetMetaDataAnnotation(&claim.ObjectMeta, key, value)
	}
}

// Label adds a label.
func Label(key, value string) ClaimOption {
	return func(claim *v1.PersistentVolumeClaim) {
		metav1.SetMetaDataLabel(&claim.ObjectMeta, key, value)
	}
}

// Finalizer adds a finalizer.
func Finalizer(name string) ClaimOption {
	return func(claim *v1.PersistentVolumeClaim) { claim.Finalizers = append(claim.Finalizers, name) }
}

// Selector adds a selector, which dynamic provisioning does not honour.
func Selector(labels map[string]string) ClaimOption {
	return func(claim *v1.PersistentVolumeClaim) {
		claim.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	}
}

// SelectedNode does what the scheduler does for delayed binding.
func SelectedNode(node string) ClaimOption {
	return Annotation("volume.kubernetes.io/selected-node", node)
}
