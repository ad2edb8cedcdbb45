// Package wellknown holds every annotation, finalizer and parameter key that
// the provisioner reads or writes, each with who writes and who reads it. It
// decides nothing.
package wellknown
