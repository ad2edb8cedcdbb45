// Package places knows where the driver runs: it follows Nodes and CSINodes and keeps
// their topology ready, so that no claim has to go through all nodes (package topology
// says what it means).
package places
