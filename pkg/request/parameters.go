package request

import (
	"slices"
	"strings"

	storagev1 "k8s.io/api/storage/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/secret"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/verdict"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

// Parameters splits the parameters of the class into those that the driver
// gets, and the file system that they ask for. Reserved keys never reach the
// driver; one that is not known is refused, as a typing error in it would
// otherwise go unseen. The map is never nil, and is the caller's.
//
// Rule: spec of the incumbent, StorageClass parameters. The old spelling of
// fstype, in any letter case, counts and stays for the driver; so do the old
// spellings of the secrets, which package secret reads.
func Parameters(class *storagev1.StorageClass) (forDriver map[string]string, fsType string, v verdict.Verdict) {
	forDriver = clone(class.Parameters)
	var fsKeys []string
	for _, key := range sortedKeys(class.Parameters) {
		switch {
		case key == wellknown.ParameterFSType:
			delete(forDriver, key)
			fsKeys = append(fsKeys, key)
		case strings.EqualFold(key, "fstype"):
			fsKeys = append(fsKeys, key)
		case secret.Known(key):
			delete(forDriver, key)
		case strings.HasPrefix(key, wellknown.ParameterPrefix):
			return nil, "", verdict.Refused(verdict.InvalidClass,
				"StorageClass %q has the unknown parameter %q; keys that begin with %q are reserved, correct or remove it", class.Name, key, wellknown.ParameterPrefix)
		}
	}
	if len(fsKeys) > 1 {
		return nil, "", verdict.Refused(verdict.InvalidClass,
			"StorageClass %q names the file system more than once (%s); keep %q only", class.Name, strings.Join(fsKeys, ", "), wellknown.ParameterFSType)
	}
	if len(fsKeys) == 1 {
		fsType = class.Parameters[fsKeys[0]]
	}
	return forDriver, fsType, verdict.Verdict{}
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
