// Package process runs the programs that tests and the demo need beside
// themselves: each with a log file, in a group that is stopped as a whole.
//
// A group promises that nothing stays behind. Its processes are ended by pid,
// newest first, politely and then not; and where the program that owns the
// group dies without a chance to do so, the kernel kills them (the parent death
// signal), unless the group was made to outlive its owner.
//
// It knows nothing of Kubernetes. The cluster package and the demo start
// programs through it.
package process
