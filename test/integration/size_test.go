package integration

import (
	"fmt"
	"testing"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/hack/demodriver"
	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// Rule 8: what a clone asks for, and what the driver is asked for.

const (
	mebi = int64(1) << 20
	gibi = int64(1) << 30
)

// sized is a clone of a size and what becomes of it.
type sized struct {
	claim, size string
	// required is what the driver is asked for; 0 if the clone is refused.
	required int64
	// volume is what the driver makes of it.
	volume int64
}

// checkSizes creates clones of "src" and fails the test unless each becomes what
// is wanted, with the content of the source. needed is the source's request as its
// user reads it.
func checkSizes(t *testing.T, env *kit.Env, needed string, clones []sized) {
	t.Helper()
	for _, c := range clones {
		env.Create(env.Claim(c.claim, kit.Size(c.size), kit.CloneOf("src")))
	}
	for _, c := range clones {
		if c.required == 0 {
			env.Eventually("the clone is refused", func() error { return heard(env, c.claim, tooSmall(needed, c.size)) })
			if calls := callsFor(env, c.claim); len(calls) > 0 {
				t.Errorf("the driver was called: %v", calls[0].Request)
			}
			continue
		}
		env.WaitBound(c.claim)
		asked, pv := requestFor(t, env, c.claim).GetCapacityRange(), env.PV(c.claim)
		capacity, reported := pv.Spec.Capacity[v1.ResourceStorage], env.Get(c.claim).Status.Capacity[v1.ResourceStorage]
		compare(t, []field{
			{"required bytes of " + c.claim, asked.GetRequiredBytes(), c.required},
			{"limit bytes of " + c.claim, asked.GetLimitBytes(), int64(0)},
			{"capacity of the PV of " + c.claim, capacity.Value(), c.volume},
			{"capacity of claim " + c.claim, reported.Value(), c.volume},
			{"size of the volume of " + c.claim, volumeOf(env, pv).Bytes, c.volume},
		})
		sameContent(t, env, c.claim, "src")
	}
}

func tooSmall(needed, asked string) told {
	return told{"Warning", "CloneTooSmall", fmt.Sprintf(
		`clone needs at least %s: source PVC "src" has %s, this claim asks for %s; create the claim again with spec.resources.requests.storage: %s`, needed, needed, asked, needed)}
}

// volumeOf returns the volume of a PV.
func volumeOf(env *kit.Env, pv *v1.PersistentVolume) demodriver.Volume {
	for _, volume := range env.Driver.Driver.Volumes() {
		if volume.ID == pv.Spec.CSI.VolumeHandle {
			return volume
		}
	}
	return demodriver.Volume{}
}

// sizedSource binds "src", which has content.
func sizedSource(env *kit.Env, size string) {
	env.Create(env.Claim("src", kit.Size(size)))
	env.WaitBound("src")
	env.WriteFile("src", "file", []byte("content of the source"))
}

func TestTheSizeOfAClone(t *testing.T) {
	t.Parallel()
	common := kit.New(t)
	common.StartProvisioner()
	cases := []struct {
		name, source, needed string
		clones               []sized
	}{
		{"of a source in a binary unit", "1Gi", "1Gi", []sized{
			{"same", "1Gi", gibi, gibi},
			{"in-mebibytes", "1024Mi", gibi, gibi},
			{"in-kibibytes", "1048576Ki", gibi, gibi},
			{"in-bytes", "1073741824", gibi, gibi},
			{"in-thousandths", "1073741824000m", gibi, gibi},
			{"decimal-above", "1074M", 1074_000_000, 1025 * mebi},
			{"decimal-below", "1073M", 0, 0},
			{"decimal-of-that-number", "1G", 0, 0},
			{"in-bytes-below", "1073741823", 0, 0},
			{"larger", "5Gi", 5 * gibi, 5 * gibi},
			{"larger-by-a-byte", "1073741825", gibi + 1, 1025 * mebi},
			{"larger-by-a-fraction", "1073741824500m", gibi + 1, 1025 * mebi},
		}},
		// The driver makes 954Mi of it.
		{"of a source in a decimal unit", "1G", "1G", []sized{
			{"same", "1G", 954 * mebi, 954 * mebi},
			{"in-megabytes", "1000M", 954 * mebi, 954 * mebi},
			{"with-an-exponent", "1e9", 954 * mebi, 954 * mebi},
			{"in-mebibytes", "954Mi", 954 * mebi, 954 * mebi},
			{"in-mebibytes-below", "953Mi", 0, 0},
			{"larger", "1Gi", gibi, gibi},
		}},
		{"of a source with a fraction", "1.5Gi", "1536Mi", []sized{
			{"same", "1.5Gi", 1536 * mebi, 1536 * mebi},
			{"in-mebibytes", "1536Mi", 1536 * mebi, 1536 * mebi},
			{"below", "1Gi", 0, 0},
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			env := common.Beside(t)
			t.Parallel()
			sizedSource(env, c.source)
			checkSizes(t, env, c.needed, c.clones)
			leave(env, "src")
		})
	}
}

func TestAClonesVolumeIsNoSmallerThanItsSources(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.DriverConfig(func(config *demodriver.Config) { config.Granularity = 3 * gibi }))
	env.StartProvisioner()
	sizedSource(env, "4Gi") // the driver makes 6Gi of it
	if got := volumeOf(env, env.PV("src")).Bytes; got != 6*gibi {
		t.Fatalf("the source volume has %d bytes, want %d", got, 6*gibi)
	}
	checkSizes(t, env, "4Gi", []sized{
		{"same", "4Gi", 6 * gibi, 6 * gibi},
		{"between", "5Gi", 6 * gibi, 6 * gibi},
		{"as-large-as-the-volume", "6Gi", 6 * gibi, 6 * gibi},
		{"larger", "7Gi", 7 * gibi, 9 * gibi},
		{"smaller", "3Gi", 0, 0},
	})
	leave(env, "src")
}

// expandByHand says on the PV of a claim what a resizer says when the driver has
// expanded its volume.
func expandByHand(t *testing.T, env *kit.Env, claim, size string) {
	t.Helper()
	pv := env.PV(claim)
	pv.Spec.Capacity = v1.ResourceList{v1.ResourceStorage: resource.MustParse(size)}
	if _, err := env.Admin.CoreV1().PersistentVolumes().Update(env.Ctx, pv, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// A source that was expanded, step by step: the user asks, the driver expands the
// volume, the node the file system.
func TestTheCloneOfAnExpandedSource(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.ChangeClass(func(class *storagev1.StorageClass) { class.AllowVolumeExpansion = ptr.To(true) }))
	p := env.StartProvisioner()
	sizedSource(env, "1Gi")
	checkSizes(t, env, "1Gi", []sized{{"before", "1Gi", gibi, gibi}})

	env.Update("src", kit.Size("2Gi"))
	checkSizes(t, env, "2Gi", []sized{
		{"asked-small", "1Gi", 0, 0},
		{"asked", "2Gi", 2 * gibi, 2 * gibi},
	})

	// A driver may make more of it than was asked for. With the provisioner stopped
	// meanwhile it is certain that it has seen the PV when the clones come.
	p.Stop()
	expandByHand(t, env, "src", "3Gi")
	env.StartProvisioner()
	checkSizes(t, env, "2Gi", []sized{
		{"expanded-small", "1Gi", 0, 0},
		{"expanded", "2Gi", 3 * gibi, 3 * gibi},
		{"expanded-large", "4Gi", 4 * gibi, 4 * gibi},
	})

	// The claim may know of it before the PV does.
	env.UpdateStatus("src", func(claim *v1.PersistentVolumeClaim) {
		claim.Status.Capacity = v1.ResourceList{v1.ResourceStorage: resource.MustParse("5Gi")}
	})
	checkSizes(t, env, "2Gi", []sized{
		{"reported", "2Gi", 5 * gibi, 5 * gibi},
		{"reported-large", "6Gi", 6 * gibi, 6 * gibi},
	})
	leave(env, "src")
}

// A clone that waits asks for what its source has when it starts.
func TestACloneAsksForTheSizeThatItsSourceHasAtLast(t *testing.T) {
	t.Parallel()
	env := kit.New(t, kit.DriverConfig(func(config *demodriver.Config) { config.Granularity = 3 * gibi }))
	env.StartProvisioner(noBackOff, noBackOffMax, "--timeout=2m")
	env.Create(env.Claim("copy", kit.Size("2Gi"), kit.CloneOf("src")))
	env.Eventually("the clone waits", func() error { return heard(env, "copy", waitingFor("src")) })
	gate := env.Faults.On("CreateVolume").When(func(req any) bool { return !ofClones(req) }).Gate()
	env.Create(env.Claim("src", kit.Size("2Gi")))
	await(t, gate.Entered(), "the source is being made")
	gate.Release()
	env.WaitBound("copy")
	compare(t, []field{
		{"required bytes", requestFor(t, env, "copy").GetCapacityRange().GetRequiredBytes(), 3 * gibi},
		{"size of the volume", volumeOf(env, env.PV("copy")).Bytes, 3 * gibi},
	})
	leave(env, "src")
}
