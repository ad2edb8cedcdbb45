// Package record is the rule about the record that a claim carries while its
// volume may exist without a PV: a finalizer, and two annotations that pin the
// volume's name and the required bytes, so that a later process repeats exactly
// the request of an earlier one (design, "The record").
//
// Users can write to claims. The annotations are therefore believed only if
// they are what we could have written for this very claim.
package record
