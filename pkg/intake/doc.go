// Package intake is the controller that starts and ends the work on a claim. It admits a claim
// (protects the source, then writes the record), makes it wait or refuses it with one event, has a
// volume cleaned up that a deleted claim may have, and removes the record at the end.
//
// Package planner checks the claims. Packages provision, which makes and cleans up volumes, and
// protection, which keeps sources, are called through the interfaces in intake.go. The table of
// what happens to a claim is in docs/reliability.md.
package intake
