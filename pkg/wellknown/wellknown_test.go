package wellknown_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/wellknown"
)

func TestRecordOf(t *testing.T) {
	for _, c := range []struct {
		name, driver string
		want         wellknown.Record
	}{
		{"the driver's name is the prefix", "clone.example.com", wellknown.Record{
			Finalizer:     "clone.example.com/provisioning",
			VolumeName:    "clone.example.com/volume-name",
			RequiredBytes: "clone.example.com/required-bytes",
			ContentSource: "clone.example.com/content-source",
			Secret:        "clone.example.com/provisioner-secret",
			Topology:      "clone.example.com/topology",
			ReclaimPolicy: "clone.example.com/reclaim-policy",
		}},
		{"capitals are lowered", "Clone.Example.COM", wellknown.Record{
			Finalizer:     "clone.example.com/provisioning",
			VolumeName:    "clone.example.com/volume-name",
			RequiredBytes: "clone.example.com/required-bytes",
			ContentSource: "clone.example.com/content-source",
			Secret:        "clone.example.com/provisioner-secret",
			Topology:      "clone.example.com/topology",
			ReclaimPolicy: "clone.example.com/reclaim-policy",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := wellknown.RecordOf(c.driver); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// The API server refuses a key that is no qualified name; one refusal would
// stop all provisioning.
func TestKeysAreValid(t *testing.T) {
	longest := strings.Repeat("D", 63) // CSI spec, GetPluginInfo: at most 63 characters
	mine, long := wellknown.RecordOf("clone.example.com"), wellknown.RecordOf(longest)
	for _, key := range []string{
		wellknown.StorageProvisioner, wellknown.BetaStorageProvisioner, wellknown.BetaStorageClass,
		wellknown.SelectedNode, wellknown.MigratedTo, wellknown.ProvisionedBy,
		wellknown.DeletionSecretName, wellknown.DeletionSecretNamespace,
		wellknown.ModifySecretName, wellknown.ModifySecretNamespace,
		wellknown.PVFinalizer, wellknown.CloningProtection,
		mine.Finalizer, mine.VolumeName, mine.RequiredBytes, mine.ContentSource, mine.Secret, mine.ReclaimPolicy,
		long.Finalizer, long.VolumeName, long.RequiredBytes, long.ContentSource, long.Secret, long.ReclaimPolicy,
	} {
		if broken := validation.IsQualifiedName(key); len(broken) > 0 {
			t.Errorf("%q: %v", key, broken)
		}
	}
}

func TestReservedParametersShareTheirPrefix(t *testing.T) {
	for _, key := range []string{
		wellknown.ParameterFSType, wellknown.ParameterClaimName,
		wellknown.ParameterClaimNamespace, wellknown.ParameterPVName,
	} {
		if !strings.HasPrefix(key, "csi.storage.k8s.io/") {
			t.Errorf("%q is not reserved for the sidecar", key)
		}
	}
}
