// Package protection puts the cloning-protection finalizer on source claims
// before a clone of them is put on record, and takes it off when no unfinished
// clone refers to them: at once if the source is being deleted, else by a sweep
// (design, "Source protection").
//
// One source has one writer, however many clones start together: whoever wants
// the finalizer changed takes the source's lock first.
package protection
