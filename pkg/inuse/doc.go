// Package inuse looks which pods use the claims of a namespace, without watching
// the pods of the cluster: a look is one list of the namespace's running pods,
// shared by all who ask in the same moment, and only while a claim waits for pods
// of a namespace they are watched, for those that end.
package inuse
