// Package secret is the rule that turns what a StorageClass says about secrets into
// references to Secrets: which class parameters there are, what their templates may
// refer to, and which Secret DeleteVolume needs for a PV. It reads no Secret.
//
// Source: spec of the incumbent, StorageClass secrets.
package secret
