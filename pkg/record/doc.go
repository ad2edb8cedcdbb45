// Package record is the rule about the record that a claim carries while its
// volume may exist without a PV: a finalizer, and annotations that pin the volume's
// name, the required bytes, what it is a copy of and the Secret, so that a later process
// repeats exactly the request of an earlier one (design, "The record").
//
// Users can write to claims. Name and bytes are therefore believed only if they are
// what we could have written for this very claim. Of the source nobody can tell: nothing
// is copied because the record says so, unless the driver has something of that name.
// Of the Secret the class tells, which package secret asks.
package record
