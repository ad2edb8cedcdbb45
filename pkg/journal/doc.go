// Package journal keeps the durable list of volumes that may exist at the driver without a
// PersistentVolume. Each entry is one Lease in the provisioner's own namespace, created before
// the first CreateVolume and deleted when the volume has its PersistentVolume or certainly does
// not exist. Leases are used because the manifests of most CSI drivers already grant them.
//
// The name of an entry's Lease follows from driver, claim and node, so creating it excludes
// every other process. A process that starts or becomes leader adopts the entries of earlier
// processes: it writes itself as their holder, after which each write of an earlier holder
// conflicts. Every update and deletion carries uid and resourceVersion, because the API server
// creates a Lease on an update that has only the right name.
//
// What a Lease says is decided by pure functions: encode and decode are the format, slot is
// the next request and what its answer means.
package journal
