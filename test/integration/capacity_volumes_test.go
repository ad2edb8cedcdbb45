package integration

import (
	"testing"

	"google.golang.org/grpc/codes"
	storagev1 "k8s.io/api/storage/v1"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

// C-5: the driver is asked again about where there is more room, or less, although its
// volumes say less of where they are than the segments do. The next poll is far away.
func TestCapacityIsAskedForAfterVolumesOfAZone(t *testing.T) {
	t.Parallel()
	env, room := publishing(t, kit.WithPlaces(zone("z1")))
	env.CreateClass(env.Class + "-now")
	for name, z := range map[string]string{"h1": "z1", "h2": "z1", "h3": "z2"} {
		env.PutNode(name, map[string]string{zoneKey: z, hostKey: name})
	}
	env.StartProvisioner(capacityArgs("--immediate-topology=false")...)
	waitPublished(t, env, "there is an object for each host", "CLASS [host=h1,zone=z1] 1Gi", "CLASS [host=h2,zone=z1] 1Gi", "CLASS [host=h3,zone=z2] 1Gi")
	room.change(func() { room.usual = 5 * gi })
	env.Create(env.Claim("data", kit.Class(env.Class+"-now")))
	env.WaitBound("data")
	waitPublished(t, env, "the hosts of the volume's zone were asked about", "CLASS [host=h1,zone=z1] 5Gi", "CLASS [host=h2,zone=z1] 5Gi", "CLASS [host=h3,zone=z2] 1Gi")
	room.change(func() { room.usual = 6 * gi })
	env.Delete("data")
	env.WaitGone("data")
	waitPublished(t, env, "they were asked about again", "CLASS [host=h1,zone=z1] 6Gi", "CLASS [host=h2,zone=z1] 6Gi", "CLASS [host=h3,zone=z2] 1Gi")

	// What could not be made for want of room says that there is less than was thought.
	room.change(func() { room.usual = 0 })
	env.Faults.On("CreateVolume").Fail(codes.ResourceExhausted, "no room")
	env.Create(env.Claim("more", onNode(env, "h3")))
	waitPublished(t, env, "where it was wanted was asked about", "CLASS [host=h1,zone=z1] 0", "CLASS [host=h2,zone=z1] 0", "CLASS [host=h3,zone=z2] 0")
	env.Delete("more")
	env.WaitGone("more")
}

// Volumes that can be used everywhere take room from their class, and give it back.
func TestCapacityIsAskedForAfterVolumesWithoutAPlace(t *testing.T) {
	t.Parallel()
	env, room := publishing(t, kit.ChangeClass(func(class *storagev1.StorageClass) {
		mode := storagev1.VolumeBindingImmediate
		class.VolumeBindingMode = &mode
	}))
	env.StartProvisioner(capacityArgs("--capacity-for-immediate-binding")...)
	waitPublished(t, env, "there is an object", "CLASS [] 1Gi")
	room.change(func() { room.usual = 5 * gi })
	env.Create(env.Claim("data"))
	env.WaitBound("data")
	waitPublished(t, env, "it was asked about", "CLASS [] 5Gi")
	room.change(func() { room.usual = 6 * gi })
	env.Delete("data")
	env.WaitGone("data")
	waitPublished(t, env, "it was asked about again", "CLASS [] 6Gi")
}
