package waitlist

import "sync"

// Object names one object of the API that a claim can wait for.
type Object struct {
	// Kind is the object's kind, such as "PersistentVolumeClaim".
	Kind string
	// Namespace is empty for cluster-wide kinds.
	Namespace string
	// Name of the object.
	Name string
}

// Claim is the PersistentVolumeClaim of that name.
func Claim(namespace, name string) Object {
	return Object{Kind: "PersistentVolumeClaim", Namespace: namespace, Name: name}
}

// PV is the PersistentVolume of that name.
func PV(name string) Object { return Object{Kind: "PersistentVolume", Name: name} }

// Class is the StorageClass of that name.
func Class(name string) Object { return Object{Kind: "StorageClass", Name: name} }

// AttributesClass is the VolumeAttributesClass of that name.
func AttributesClass(name string) Object {
	return Object{Kind: "VolumeAttributesClass", Name: name}
}

// Snapshot is the VolumeSnapshot of that name.
func Snapshot(namespace, name string) Object {
	return Object{Kind: "VolumeSnapshot", Namespace: namespace, Name: name}
}

// VolumeName stands for the claim that is being given a volume of that name.
func VolumeName(name string) Object { return Object{Kind: "volume name", Name: name} }

// AttachmentsOf stands for all VolumeAttachments of the PV of that name.
func AttachmentsOf(pv string) Object { return Object{Kind: "VolumeAttachment", Name: pv} }

// GrantsIn stands for all ReferenceGrants of the namespace.
func GrantsIn(namespace string) Object { return Object{Kind: "ReferenceGrant", Namespace: namespace} }

// Node is the node of that name, and what its CSINode says.
func Node(name string) Object { return Object{Kind: "Node", Name: name} }

// Nodes stands for all nodes.
func Nodes() Object { return Object{Kind: "Node"} }

// PodsOf stands for all pods that mount the claim.
func PodsOf(namespace, claim string) Object {
	return Object{Kind: "Pod", Namespace: namespace, Name: claim}
}

// PodsIn stands for all pods of the namespace.
func PodsIn(namespace string) Object { return Object{Kind: "Pod", Namespace: namespace} }

// List maps objects to the claims that wait for them, and back. K identifies a
// claim. The zero value is not usable; see New. All methods may be called from
// several goroutines.
type List[K comparable] struct {
	mu      sync.Mutex
	waiters map[Object]map[K]struct{}
	objects map[K]map[Object]struct{}
}

// New returns an empty list.
func New[K comparable]() *List[K] {
	return &List[K]{
		waiters: map[Object]map[K]struct{}{},
		objects: map[K]map[Object]struct{}{},
	}
}

// Add makes claim wait for the objects, besides those it waits for already.
func (l *List[K]) Add(claim K, objects ...Object) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, object := range objects {
		insert(l.waiters, object, claim)
		insert(l.objects, claim, object)
	}
}

// Drop takes claim off the list, whatever it waited for.
func (l *List[K]) Drop(claim K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for object := range l.objects[claim] {
		delete(l.waiters[object], claim)
		if len(l.waiters[object]) == 0 {
			delete(l.waiters, object)
		}
	}
	delete(l.objects, claim)
}

// WaitingFor returns the claims that wait for object, in no order. They stay
// on the list. The cost is that of the answer, not of the list.
func (l *List[K]) WaitingFor(object Object) []K {
	l.mu.Lock()
	defer l.mu.Unlock()
	claims := make([]K, 0, len(l.waiters[object]))
	for claim := range l.waiters[object] {
		claims = append(claims, claim)
	}
	return claims
}

// Awaited says whether a claim waits for object.
func (l *List[K]) Awaited(object Object) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiters[object]) > 0
}

// Len returns how many claims are on the list.
func (l *List[K]) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.objects)
}

func insert[A, B comparable](m map[A]map[B]struct{}, a A, b B) {
	if m[a] == nil {
		m[a] = map[B]struct{}{}
	}
	m[a][b] = struct{}{}
}
