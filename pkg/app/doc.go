// Package app builds every object once, fits the controllers together, starts
// them in order and stops them in order. It decides nothing about claims.
package app
