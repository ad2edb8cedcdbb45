// Package informers is the edge to the API server's watches: the shared
// informers, trimmed to what is read (what belongs to other drivers: packed), their
// indexes by name, and the facade through which the engine sees only claims that are on record.
//
// No object from these caches is ever written back; who writes, patches or
// reads the live object first. That is why trimming is safe.
package informers
