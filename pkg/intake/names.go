package intake

import (
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

// names keeps two claims from being admitted in the same moment whose volumes would
// have one name (short --volume-name-uuid-length), before the record of the first can
// be seen by the second. A claim that has a record needs no reservation; one that is
// worked on without keeps it until it is through.

// reserve takes the volume name for the claim. If another claim has it, false is
// returned, and the claim is looked at again when that one gives the name back.
func (i *Intake) reserve(name string, k key) bool {
	if i.take(name, k) {
		return true
	}
	i.waiting.Add(k, waitlist.VolumeName(name))
	return i.take(name, k) // it may have been given back just before
}

func (i *Intake) take(name string, k key) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if holder, taken := i.reserved[name]; taken && holder != k {
		return false
	}
	delete(i.reserved, i.names[k])
	i.reserved[name], i.names[k] = k, name
	return true
}

// unreserve gives the claim's volume name back, if it has one reserved.
func (i *Intake) unreserve(k key) {
	i.mu.Lock()
	name, found := i.names[k]
	delete(i.names, k)
	delete(i.reserved, name)
	i.mu.Unlock()
	if found {
		i.Wake(waitlist.VolumeName(name))
	}
}
