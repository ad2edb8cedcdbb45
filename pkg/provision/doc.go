// Package provision implements the Provisioner of the engine (sig-storage-lib's
// ProvisionController). For an admitted claim it plans once more (package planner), calls the
// driver, checks the reply and saves the PersistentVolume. For a claim that is deleted or bound to
// another PV it finds out whether a volume exists and saves its PV, so that the reclaim policy
// decides. For a PV it deletes the volume.
//
// The engine and package intake call it. It locks the claim in the ledger before it calls the
// driver for it, and never writes to a claim.
package provision
