// Package volume is the rule about a driver's reply to CreateVolume: is it what
// was asked for, and what PersistentVolume comes of it.
package volume
