// Package figures is what a benchmark finds and how it is told: a report, which is
// kept as JSON, percentiles, the requests in the API server's audit log, and tables in
// Markdown. It uses the standard library only: hack/plot, a module of its own, reads
// the same report.
package figures
