// Package request is the rule that turns a claim, its StorageClass and its
// source into a CreateVolumeRequest (CSI spec, CreateVolume). It reads nothing
// and calls nothing.
package request
