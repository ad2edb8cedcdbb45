// Package arbitrary turns what a fuzzer hands in into what the Kubernetes API
// can hold, and says exactly what that means, for fuzz tests to compare with.
package arbitrary
