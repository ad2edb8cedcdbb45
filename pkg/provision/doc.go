// Package provision is the engine's Provisioner: for a claim that is on record
// it gathers the facts, asks the rules once more, calls the driver, checks the
// reply and saves the PersistentVolume; for one that is no longer wanted it
// finds out whether a volume exists and deletes it.
//
// It is called by the engine (sig-storage-lib's ProvisionController) and by
// package intake, and takes the claim's turn in the ledger before it touches
// the driver for it. It never writes to a claim.
package provision
