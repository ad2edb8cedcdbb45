// Package replica copies what is in a volume: a tree of files or one file.
//
// A regular file is cloned copy-on-write (FICLONE) where the file system can and
// copied byte by byte, hole by hole, where it cannot; the Report says which.
// Modes, owners (as far as permitted), modification times, extended attributes,
// symbolic and hard links, pipes and holes are preserved.
//
// The source may be in use: every file is copied as it is found, a file that
// vanishes meanwhile is left out, and symbolic links are never followed, so a
// workload cannot make the copy read outside its volume. The destination belongs
// to the caller alone; what is left there after an error is the caller's to
// remove.
package replica
