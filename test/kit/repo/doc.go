// Package repo knows where things are in the repository: its root, the compiled
// control plane, the provisioner under test. The kit and the demo ask it; the
// product never does.
package repo
