// Package gate has the barrier at which fault injectors hold calls and requests
// until a test lets them go.
package gate
