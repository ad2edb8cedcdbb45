// Package demodriver is a small, real CSI driver that keeps volumes in a
// directory. It serves the demo, the tests and the benchmark; it is not meant
// for data that anybody wants back.
//
// What it does:
//
//   - Volumes are directories, or sparse files for block volumes. Sizes are
//     rounded up to Config.Granularity and checked against Config.Capacity; a
//     directory is not kept from growing beyond its size.
//   - A clone or a restored snapshot is a full copy that shares blocks with its
//     source (reflink) where the file system can: XFS, Btrfs and others. Else it
//     is a plain copy. The log says which, at level 2. A source in use is copied
//     file by file, so an application should be quiet or survive a crash.
//   - CreateVolume and all other calls are idempotent as the CSI specification
//     asks. Volumes and snapshots come into being and go away in one step:
//     whatever dies, there is no half volume. State survives restart.
//   - Calls for one object do not wait for one another, they are ABORTED. Any
//     number of clones may read one source at once; meanwhile it cannot be
//     deleted. A call that is cancelled or times out stops copying and leaves
//     nothing.
//   - NodePublishVolume bind-mounts as root. For an ordinary user it makes a
//     symbolic link, so that the whole demo works unprivileged; a link cannot be
//     read-only, the log says so. A volume in use cannot be deleted. With
//     Config.LoopDevices block volumes are block devices, as pods want them.
//
// Any capability can be switched off (Config.Without, Config.WithoutPlugin) to
// test what a caller makes of that. The topology segments, if given, are those of
// the one node whose directory this is; without segments the directory counts as
// reachable from everywhere and multi-node access modes are offered.
//
// To run it by itself (--help shows all flags):
//
//	go run ./hack/demodriver/cmd/demo-csi-driver \
//	    --endpoint unix:///run/demo/csi.sock --dir /var/lib/demo \
//	    --driver-name demo.example --topology zone=a,node=n1 --capacity 10737418240
//
// The driver itself is always right: package faults (test/kit) stands in front
// of it to make calls go wrong. It runs on Linux only. Package store keeps the
// objects, package replica copies data, cmd/demo-csi-driver is the program.
package demodriver
