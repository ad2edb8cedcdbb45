// Package source is the rule about data sources: from facts about a claim and
// the object that it shall be made from to a verdict, and to what CreateVolume
// has to copy. It reads nothing; who gathers the facts is a controller.
//
// The rules are the contract of Kubernetes volume cloning
// (https://kubernetes.io/docs/concepts/storage/volume-pvc-datasource/), numbered
// as in the design, section 3.
package source
