// Package csidriver is the edge to the driver behind its socket: it connects,
// probes, asks for name and capabilities once, makes the two calls that the
// provisioner needs, and says in one place what an error means.
package csidriver
