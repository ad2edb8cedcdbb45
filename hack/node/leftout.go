package main

import "strings"

// concerned returns the suites that concern a provisioner, as patterns of tests' names.
func concerned() []string {
	return []string{
		`\] provisioning`, `\] volumes`, `\] volumeMode`, `\] multiVolume`, `\] ephemeral`, `\] volume-io|volumeIO`, `snapshottable`,
		`volume-modify`, `read-write-once-pod`, `topology`, `\] capacity`, `fsgroupchangepolicy`, `subPath`,
	}
}

// clonesInUse matches the tests that clone a volume while a pod uses it.
const clonesInUse = `concurrently access the volume and its clone`

// leftOut is a kind of tests that is not run, and why.
type leftOut struct{ pattern, reason string }

func leftOuts() []leftOut {
	return []leftOut{
		{`\[Disruptive\]`, "these restart the kubelet over SSH, which the node does not have"},
		{`resize|expand`, "volumes grow by csi-resizer, which is no part of this"},
		{`\[Feature:VolumeGroupSnapshot\]|volumegroupsnapshot`, "the demo driver takes no snapshots of groups"},
		{`snapshot-metadata|SnapshotMetadata`, "the demo driver does not tell which blocks changed"},
		{`any volume data source`, "its populator is a program that comes only as an image, and nothing is pulled"},
		{`volume-modify.*(should modify|should recover|should be protected)`, "a volume that exists is changed by csi-resizer, which is no part of this"},
	}
}

// leftOutPattern matches every test that is left out.
func leftOutPattern() string {
	var patterns []string
	for _, kind := range leftOuts() {
		patterns = append(patterns, kind.pattern)
	}
	return strings.Join(patterns, "|")
}
