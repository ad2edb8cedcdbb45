// Package verdict holds the answer to "may this be done now?": ready, wait,
// refuse or ignore, with a reason and a message for the person who asked; and
// the catalogue of all reasons, from which docs/events.md is generated.
//
// An expected outcome is a verdict, never an error. An error means that we
// could not find out.
package verdict
