// Package intake is the controller that decides when work on a claim begins and
// ends: it admits a claim (source protected, then the record written), makes it
// wait or refuses it with one event, has cleaned up what a deleted claim may
// have left in the driver, and takes the record off when the claim is through.
//
// How a claim is provisioned and undone it leaves to package provision, the
// finalizers on sources to package protection; both are met through the small
// interfaces in intake.go. The rules are in the design, section 2.
package intake
