// Package options turns flags and environment into one validated value. It is
// the only package that reads either. Names and meanings are those that users
// of the incumbent know; where a default differs, the flag's help says so.
package options
