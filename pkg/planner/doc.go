// Package planner decides whether a claim may be provisioned, and what the driver is asked for. It
// gathers the facts from the caches and the API, asks the rules, and builds the
// request. It also rebuilds the requests of earlier processes, which are repeated to find out
// whether they have made a volume.
//
// It writes nothing and calls no driver. All methods may be called concurrently.
package planner
