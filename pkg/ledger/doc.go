// Package ledger holds what this process knows of each claim's volume, and
// keeps its own goroutines out of each other's way: whoever calls the driver
// for a claim, cleans up after it or releases it takes the claim's turn first.
//
// It is memory only. What must outlive the process is the record on the claim;
// a recorded claim that the ledger has never heard of is Unknown, because an
// earlier process may have called the driver for it.
//
// The rules are those of the design, "The ledger".
package ledger
