package informers

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Node returns the Node of that name with its labels alone, nil if there is none.
func (s *Set) Node(name string) *v1.Node { return get[*v1.Node](s.Nodes, name) }

// CSINode returns the CSINode of that name with our driver alone, nil if there is none.
func (s *Set) CSINode(name string) *storagev1.CSINode {
	return get[*storagev1.CSINode](s.CSINodes, name)
}

// packNode keeps where the node is.
func packNode(node *v1.Node) *v1.Node {
	return &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion, Labels: node.Labels}}
}

// packCSINode keeps what it says of our driver.
func (p packer) packCSINode(node *storagev1.CSINode) *storagev1.CSINode {
	kept := &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion}}
	i := slices.IndexFunc(node.Spec.Drivers, func(d storagev1.CSINodeDriver) bool { return d.Name == p.driver })
	if i >= 0 {
		kept.Spec.Drivers = []storagev1.CSINodeDriver{node.Spec.Drivers[i]}
	}
	return kept
}
