// Package sandbox runs a program in namespaces of its own – processes, mounts and
// network –, so that whatever it starts goes away with it, however it ends: the kernel
// kills every process, takes every mount off and removes every network device when the
// first process is gone.
//
// The program runs itself again: Run, called outside, makes the namespaces and a folder;
// Enter, called first thing in main, is the first process within and starts the program
// once more, which then sees with Here that it is inside. What namespaces do not hold
// back, loop devices and control groups, is removed by Run afterwards, or by the next
// Run if that was killed, too.
//
// It takes Linux and root; Possible says why it cannot be done. Package node runs
// kubelet and containerd in it.
package sandbox
