// Package topology is the rule about places: from where a new volume shall be
// reachable (CSI spec, CreateVolume, accessibility_requirements), and from where one
// that exists is (node affinity of PVs). It reads nothing and calls nothing.
package topology
